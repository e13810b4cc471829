"""Agents: recurrent PPO, behaviours that wrap a policy, and adapters for agents trained elsewhere."""
