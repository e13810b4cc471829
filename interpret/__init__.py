"""Directions, probes, forks, attribution and hooks: mathematics only; nothing is drawn."""
