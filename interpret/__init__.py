"""Directions, attribution, interventions and probes: mathematics only, nothing drawn."""
