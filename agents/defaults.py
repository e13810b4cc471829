"""What a behaviour takes where nothing is said. Imports nothing, so that a command line is read at once."""

TEMPERATURE, TOP_K = 1.0, 3
