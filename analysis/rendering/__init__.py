"""Frames as pictures and video: overlays, arrows, tiles and film strips."""
