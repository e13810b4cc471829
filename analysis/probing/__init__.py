"""Concepts of a store, probe datasets, and what directions select."""
