"""Fork points, the worlds that play on from them, and what their runs show."""
