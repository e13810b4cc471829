"""Edits of a policy's hidden state along directions, in the simulator and in the real game."""
