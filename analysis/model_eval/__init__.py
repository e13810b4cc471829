"""Evaluation of world models on held-out windows: frames, objects, agent responses, the report card."""
