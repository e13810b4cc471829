"""Recording simulated rollouts, under the names that scripts have."""
