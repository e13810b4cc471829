"""Scoring a world model on held-out windows: predictions, camera, objects, the agent's view, the report card."""
