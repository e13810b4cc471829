"""Default options of behaviours, and the file of presets. Imports nothing slow."""

from pathlib import Path

PRESETS = Path(__file__).parents[1] / "hyperparams" / "procgen" / "config.yml"
"""Presets of train.py."""
TEMPERATURE = 1.0
TOP_K = 3
EPSILON = 0.1
