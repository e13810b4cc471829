"""What a behaviour takes where nothing is said. Imports nothing, so that a command line is read at once."""

TEMPERATURE = 1.0
TOP_K = 3
