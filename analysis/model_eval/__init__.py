"""Evaluation of a world model on held-out windows: frames, objects, the agent's responses, the report card."""
