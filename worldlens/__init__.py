"""Worldlens in a notebook: agents, simulators, rollouts, directions, hooks, and runs in both worlds.

import worldlens as wl

agent = wl.load_agent("coinrun")
rollouts = wl.Rollouts.open("data/coinrun")
hidden = rollouts.hidden_after()  # [n, D]
"""

from interpret.directions.directions import Directions, load_directions, save_directions
from interpret.forks.fork_points import ForkPoints
from rollouts.segment import Segment
from rollouts.store import Rollouts
from worldlens.activations import AgentOutput, run_with_cache, run_with_hooks, sites
from worldlens.fork import fork, fork_points
from worldlens.pretrained import SHIPPED_AGENTS, SHIPPED_SIMULATORS, load_agent, load_simulator
from worldlens.simulate import simulate

__all__ = [
    "SHIPPED_AGENTS",
    "SHIPPED_SIMULATORS",
    "AgentOutput",
    "Directions",
    "ForkPoints",
    "Rollouts",
    "Segment",
    "fork",
    "fork_points",
    "load_agent",
    "load_directions",
    "load_simulator",
    "run_with_cache",
    "run_with_hooks",
    "save_directions",
    "simulate",
    "sites",
]
