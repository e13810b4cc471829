"""Worldlens in a notebook: agents, simulators, rollouts, directions, hooks, edits, runs in both worlds,
gradients, optimised latents.

import worldlens as wl

simulator = wl.load_simulator("coinrun", precision="fp32")
rollouts = wl.Rollouts.open("data/coinrun")
hidden = rollouts.hidden_after()  # [n, D]
maps = wl.saliency(simulator, 4, ["value", "leftwards"])  # {function: [B, S, H, W]}
"""

from interpret.attribution.frame_functions import agent_log_probs, agent_value
from interpret.attribution.functions import known_functions
from interpret.attribution.jacobians import in_scores, score_jacobians
from interpret.attribution.leaderboard import Benchmark as SaliencyBenchmark
from interpret.attribution.mean_jacobians import mean_jacobian
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS
from interpret.attribution.replay import replayed_trace
from interpret.attribution.saliency_store import SaliencyStore
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.attribution.trace import Trace, recorded_trace, simulated_trace
from interpret.attribution.trace_gradients import gradients, path_gradients
from interpret.directions.directions import Directions, load_directions, save_directions
from interpret.forks.fork_points import ForkPoints
from interpret.interventions.edit import Condition, Edit
from interpret.interventions.intervened import Intervened
from interpret.targets.latent_optimisation import OptimisationConfig
from interpret.targets.targets import Place
from rollouts.segment import Segment
from rollouts.store import Rollouts
from worldlens.activations import AgentOutput, run_with_cache, run_with_hooks, sites
from worldlens.fork import fork, fork_points
from worldlens.interventions import edit_effect, intervene, patch
from worldlens.pretrained import (
    SHIPPED_AGENTS,
    SHIPPED_DTS,
    SHIPPED_SIMULATORS,
    load_agent,
    load_dt,
    load_simulator,
)
from worldlens.saliency import functions, saliency
from worldlens.simulate import simulate, starting_latents
from worldlens.targets import OptimisedLatents, latent_prior, optimise_latents

__all__ = [
    "METHODS",
    "SHIPPED_AGENTS",
    "SHIPPED_DTS",
    "SHIPPED_SIMULATORS",
    "AgentOutput",
    "Condition",
    "Directions",
    "Edit",
    "ForkPoints",
    "Intervened",
    "MethodConfig",
    "OptimisationConfig",
    "OptimisedLatents",
    "Place",
    "Rollouts",
    "SaliencyBenchmark",
    "SaliencyStore",
    "Segment",
    "StoredJacobians",
    "Trace",
    "agent_log_probs",
    "agent_value",
    "edit_effect",
    "fork",
    "fork_points",
    "functions",
    "gradients",
    "in_scores",
    "intervene",
    "known_functions",
    "latent_prior",
    "load_agent",
    "load_directions",
    "load_dt",
    "load_simulator",
    "mean_jacobian",
    "optimise_latents",
    "patch",
    "path_gradients",
    "recorded_trace",
    "replayed_trace",
    "run_with_cache",
    "run_with_hooks",
    "saliency",
    "save_directions",
    "score_jacobians",
    "simulate",
    "simulated_trace",
    "sites",
    "starting_latents",
]
