"""Networks side by side on the same recorded steps: actions, concepts, directions, representations."""
