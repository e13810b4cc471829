"""Kinds of objects in constructed scenes. Imports nothing, so that command lines are parsed at once."""

KINDS = ("saw", "enemy", "crate", "coin", "wall", "lava", "pit")
