"""Shared foundations: policy protocol, noise, statistics, runs, checkpoints and command lines."""
