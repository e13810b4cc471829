"""Agents: recurrent PPO, the behaviours that wrap a policy, and the way in for agents from elsewhere."""
