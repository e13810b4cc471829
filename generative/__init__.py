"""The generative world model of an environment, and the simulator that runs an agent in it."""
