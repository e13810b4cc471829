"""Gradients through agent and simulator, and finite differences that check them."""
