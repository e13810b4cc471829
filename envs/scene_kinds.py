"""The kinds of things that a scene puts ahead of the player. Imports nothing, so that a command line is read
at once.
"""

KINDS = ("saw", "enemy", "crate", "coin", "wall", "lava", "pit")
