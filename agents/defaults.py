"""Default options of behaviours. Imports nothing, so that command lines are parsed at once."""

TEMPERATURE = 1.0
TOP_K = 3
EPSILON = 0.1
