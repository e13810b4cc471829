"""Gradients through agent and simulator, and how far they can be trusted."""
