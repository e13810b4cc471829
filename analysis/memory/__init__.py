"""How far back the agent's memory is used, and for what."""
