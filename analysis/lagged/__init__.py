"""Lagged correlations of direction scores over a store."""
