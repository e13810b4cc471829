"""The Directions object, and every method that fits directions."""
