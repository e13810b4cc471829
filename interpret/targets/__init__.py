"""Target functions: latents of the simulator that make the agent do something, and their baselines."""
