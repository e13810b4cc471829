"""Environments stepped together: Procgen, its wrappers, and tiny solvable probes."""
