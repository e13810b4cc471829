"""How far back an agent's memory is used: its state is recomputed from only the last k frames of stored
episodes, and its policy and value are compared with its own.

The recomputation starts from the initial state, or from the state of another episode at the same time (the
right kind of memory with the wrong content). An agent without memory is unchanged by both from k = 1 on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.model_eval.agent_view import HAZARD_RADIUS, total_variation
from common.stats import estimates, mean_by_level
from envs.vecenv import class_probabilities

INITIAL_STATES = ("initial", "other")
"""Where a truncated history starts from: the initial state, or another episode's state."""
MEASURES = ("kl", "total_variation", "value_change")
HAZARDS = ("saw", "enemy", "lava", "pit")


class PolicyChange(NamedTuple):
    """What replacing the agent's state does to its policy and value; arrays [...] of one shape."""

    kl: np.ndarray
    """KL divergence, in nats over effect classes, of the original policy from the changed one."""
    total_variation: np.ndarray
    """Total variation distance of the two policies."""
    value_change: np.ndarray
    """Changed value minus original value, in the agent's units."""


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) [...] of distributions [..., J], in nats; never negative by rounding."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0.0).sum(-1).clip(0)


def policy_change(
    agent: ActorCritic, own: torch.Tensor, other: torch.Tensor, effect_classes: Sequence[int]
) -> PolicyChange:
    """The change [..., N] of policy and value if other states replace the agent's own.

    Exactly 0 where the two states are the same to the bit.

    Args:
        agent: the agent.
        own: its states [N, S].
        other: what replaces them, [..., N, S].
        effect_classes: [A].
    """
    differs = (own != other).any(-1).cpu().numpy()
    with torch.inference_mode():
        (logits, value), (other_logits, other_value) = agent.heads(own), agent.heads(other)
    p, q = (class_probabilities(x.double().cpu().numpy(), effect_classes) for x in (logits, other_logits))
    changes = kl_divergence(p, q), total_variation(p, q), (other_value - value).cpu().numpy()
    return PolicyChange(*(np.where(differs, x, 0) for x in changes))


def truncated_states(
    agent: ActorCritic,
    features: torch.Tensor,
    frames: Sequence[int],
    other: torch.Tensor | None = None,
) -> torch.Tensor:
    """The agent's states [K, T, S] after each step of an episode, computed from the last `frames` [K] alone.

    Where the episode has no more frames than that, the state is the agent's own.

    Args:
        agent: the agent.
        features: encoder features of the episode, [T, F].
        frames: context lengths [K].
        other: states [T + 1, S] of another episode before each of its steps; the context starts from the one
            before its first frame. Without it, the context starts from the initial state.
    """
    initial = agent.initial_state(len(features))
    no_resets = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    states = [initial if other is None else other[1:]]
    for _ in range(max(frames)):
        states.append(agent.core.step(features, torch.cat([initial[:1], states[-1][:-1]]), no_resets))
    return torch.stack([states[k] for k in frames])


def memory_horizon(
    agent: ActorCritic, features: torch.Tensor, other: torch.Tensor, effect_classes: Sequence[int]
) -> PolicyChange:
    """Changes [T, K, 2] by context length, CONTEXT_FRAMES, and starting state, INITIAL_STATES.

    Args:
        agent: the agent.
        features: encoder features of an episode, [T, F].
        other: states of another episode before its steps, [T + 1, S].
        effect_classes: [A].
    """
    with torch.inference_mode():
        no_resets = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        own = agent.core.unroll(features[:, None], agent.initial_state(1), no_resets)[:, 0]
        truncated = torch.stack(
            [truncated_states(agent, features, CONTEXT_FRAMES, start) for start in (None, other)], 1
        )  # [K, 2, T, S]
    changes = policy_change(agent, own, truncated, effect_classes)
    return PolicyChange(*(np.moveaxis(x, -1, 0) for x in changes))


def donor_episodes(length: np.ndarray, seed: int) -> np.ndarray:
    """For each episode [E] another one, drawn from those at least as long; for the longest, the next longest.

    Raises:
        ValueError: for fewer than two episodes.
    """
    if len(length) < 2:
        raise ValueError("one episode has no other: give two or more")
    order = np.argsort(length, kind="stable")
    rng = np.random.default_rng(seed)
    last = len(order) - 1
    rank = np.arange(len(order))
    drawn = rank + 1 + rng.integers(0, np.maximum(last - rank, 1))
    donors = np.empty(len(order), np.int64)
    donors[order] = order[np.minimum(drawn, np.where(rank < last, last, last - 1))]
    return donors


def black_run_length(obs: np.ndarray) -> np.ndarray:
    """Number of consecutive black frames up to and including each frame: obs [T, H, W, C] -> [T]."""
    is_black = ~obs.reshape(len(obs), -1).any(1)
    run = np.zeros(len(obs), np.int64)
    for t in np.flatnonzero(is_black):
        run[t] = (run[t - 1] if t else 0) + 1
    return run


def step_groups(concepts: dict[str, np.ndarray], black: np.ndarray) -> dict[str, np.ndarray]:
    """Groups of steps as masks [n], from their concepts [n] and black run lengths [n]."""
    ground = concepts["support"]
    rising = concepts["vy"] > 0
    hazard_near = np.any(
        [concepts[f"{kind}_ahead"] & (concepts[f"tiles_to_{kind}"] <= HAZARD_RADIUS) for kind in HAZARDS],
        0,
    )
    return {
        "all": np.ones(len(black), bool),
        "ground": ground,
        "air": ~ground,
        "rising": ~ground & rising,
        "falling": ~ground & ~rising,
        "hazard near": hazard_near,
        "no hazard near": ~hazard_near,
        "black": black > 0,
        "shown": black == 0,
    }


def mean_changes(arrays: dict[str, np.ndarray], selected: np.ndarray, scale: float = 1.0) -> dict:
    """Mean changes over selected rows with intervals by level, by measure; None for fewer than two levels.

    Args:
        arrays: level [n] and the MEASURES [n, ...].
        selected: [n] bool.
        scale: factor of the value change, whose absolute value is averaged.
    """
    level = arrays["level"][selected]
    counts = {"n": len(level), "levels": len(np.unique(level))}
    if counts["levels"] < 2:
        return counts | dict.fromkeys(MEASURES)
    values = arrays["kl"], arrays["total_variation"], scale * np.abs(arrays["value_change"])
    means = mean_by_level(np.stack([x[selected] for x in values], 1), level)
    return counts | {name: estimates(means[:, i]) for i, name in enumerate(MEASURES)}


def paired_solve_rate(level: np.ndarray, solved: np.ndarray, reference: np.ndarray) -> dict:
    """Share of solved episodes, and its difference to the unchanged agent on the same levels and noise.

    Args:
        level: [n].
        solved: [n] bool.
        reference: [n] bool, whether the unchanged agent solves it.
    """
    values = {"solved": solved.astype(float), "change": solved.astype(float) - reference}
    counts = {"episodes": len(level), "levels": len(np.unique(level))}
    return counts | {name: estimates(mean_by_level(x, level)) for name, x in values.items()}
