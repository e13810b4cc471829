"""Rollouts: playing episodes, storing them, and cutting windows from them."""
