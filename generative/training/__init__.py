"""Training of the world model: windows, losses, the loop, EMA and several processes."""
