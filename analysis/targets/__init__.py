"""Latent optimisation as an experiment: its parts, numbers and pictures."""
