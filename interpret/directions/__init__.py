"""The Directions object and every way to fit one."""
