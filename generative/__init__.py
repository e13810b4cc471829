"""The generative world model of an environment, and the simulator that it makes with the agent inside."""
