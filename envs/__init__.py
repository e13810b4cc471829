"""Vectorised environments: Procgen, its wrappers, and small diagnostic environments."""
