"""Experiments with edits of the hidden state: arms in both worlds, numbers and figures."""
