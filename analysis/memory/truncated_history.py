"""How far back an agent's memory is used: its state is computed anew from the last k frames of stored
episodes, and its policy compared.

Two beginnings of those k frames: the initial state (nothing before), and the state of another episode at the
same time of its own (a memory of the right kind with the wrong content). Both leave an agent without memory
as it is from k = 1 on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.model_eval.agent_view import HAZARD_RADIUS, class_probabilities, total_variation
from common.stats import estimates, mean_by_level

FRAMES = CONTEXT_FRAMES
INITIAL_STATES = ("initial", "other")
MEASURES = ("kl", "total_variation", "value_change")
HAZARDS = ("saw", "enemy", "lava", "pit")


class PolicyChange(NamedTuple):
    """What other states do to a policy, arrays [...]: KL of the own to the other's policy in nats (over
    effect classes), the share of choices that differ at least, and value, other less own, in the agent's
    units.
    """

    kl: np.ndarray
    total_variation: np.ndarray
    value_change: np.ndarray


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL of distributions p to q [..., J], in nats: [...]. 0, not less, where rounding would have it so."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0.0).sum(-1).clip(0)


def policy_change(
    agent: ActorCritic, own: torch.Tensor, other: torch.Tensor, effect_classes: Sequence[int]
) -> PolicyChange:
    """Of states [N, S] and what stands in their place, [..., N, S]; exactly nothing where these are the same
    to the bit.
    """
    moved = (own != other).any(-1).cpu().numpy()
    with torch.inference_mode():
        (logits, value), (others_logits, others_value) = agent.heads(own), agent.heads(other)
    p, q = (class_probabilities(x.double().cpu().numpy(), effect_classes) for x in (logits, others_logits))
    changes = kl_divergence(p, q), total_variation(p, q), (others_value - value).cpu().numpy()
    return PolicyChange(*(np.where(moved, x, 0) for x in changes))


def truncated_states(
    agent: ActorCritic, features: torch.Tensor, frames: Sequence[int], other: torch.Tensor | None = None
) -> torch.Tensor:
    """The states [K, T, S] after each frame of an episode, as the last `frames` [K] frames alone make them;
    those of an episode that has no more frames are the agent's own.

    features [T, F]. other [T + 1, S]: another episode's states before each step; where given, the frames are
    taken in from the one that stood there before the first of them, else from the initial state on.
    """
    fresh = agent.initial_state(len(features))
    going_on = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    states = [fresh if other is None else other[1:]]
    for _ in range(max(frames)):
        states.append(agent.core.step(features, torch.cat([fresh[:1], states[-1][:-1]]), going_on))
    return torch.stack([states[k] for k in frames])


def memory_horizon(
    agent: ActorCritic, features: torch.Tensor, other: torch.Tensor, effect_classes: Sequence[int]
) -> PolicyChange:
    """The change by each number of last FRAMES and each of STARTS, arrays [T, K, 2], over an episode with
    features [T, F] and, as the other, an episode with states [T + 1, S] before its steps.
    """
    with torch.inference_mode():
        first = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        whole = agent.core.unroll(features[:, None], agent.initial_state(1), first)[:, 0]
        recent = torch.stack(
            [truncated_states(agent, features, FRAMES, start) for start in (None, other)], 1
        )  # [K, 2, T, S]
    return PolicyChange(*(np.moveaxis(x, -1, 0) for x in policy_change(agent, whole, recent, effect_classes)))


def donor_episodes(length: np.ndarray, seed: int) -> np.ndarray:
    """For each episode another one, drawn among those that are at least as long: length [E] -> [E]. The
    longest one gets the next.

    Raises ValueError for fewer than two episodes.
    """
    if len(length) < 2:
        raise ValueError("one episode has no other: give two or more")
    order = np.argsort(length, kind="stable")
    rng = np.random.default_rng(seed)
    place = np.arange(len(order))
    drawn = place + 1 + rng.integers(0, np.maximum(len(order) - 1 - place, 1))
    chosen = np.empty(len(order), np.int64)
    chosen[order] = order[np.minimum(drawn, np.where(place < len(order) - 1, len(order) - 1, len(order) - 2))]
    return chosen


def black_run_length(obs: np.ndarray) -> np.ndarray:
    """How many frames in a row have been wholly black up to each one, it included: obs [T, H, W, C] -> [T], 0
    where something is shown.
    """
    black = ~obs.reshape(len(obs), -1).any(1)
    run = np.zeros(len(obs), np.int64)
    for t in np.flatnonzero(black):
        run[t] = (run[t - 1] if t else 0) + 1
    return run


def step_groups(concepts: dict[str, np.ndarray], black: np.ndarray) -> dict[str, np.ndarray]:
    """Kinds of steps as masks [n], from their concepts [n] and black runs [n]."""
    ground = concepts["support"]
    rising = concepts["vy"] > 0
    near = np.any(
        [concepts[f"{kind}_ahead"] & (concepts[f"tiles_to_{kind}"] <= HAZARD_RADIUS) for kind in HAZARDS], 0
    )
    return {
        "all": np.ones(len(black), bool),
        "ground": ground,
        "air": ~ground,
        "rising": ~ground & rising,
        "falling": ~ground & ~rising,
        "hazard near": near,
        "no hazard near": ~near,
        "black": black > 0,
        "shown": black == 0,
    }


def mean_changes(found: dict[str, np.ndarray], chosen: np.ndarray, scale: float = 1.0) -> dict:
    """Mean changes with their intervals over the chosen rows [n], by measure.

    found: level [n] and the MEASURES [n, ...]; of the value the absolute change counts, times `scale`. None
    for fewer than two levels.
    """
    level = found["level"][chosen]
    about = {"n": len(level), "levels": len(np.unique(level))}
    if about["levels"] < 2:
        return about | dict.fromkeys(MEASURES)
    values = found["kl"], found["total_variation"], scale * np.abs(found["value_change"])
    draws = mean_by_level(np.stack([x[chosen] for x in values], 1), level)
    return about | {name: estimates(draws[:, i]) for i, name in enumerate(MEASURES)}


def paired_solve_rate(level: np.ndarray, solved: np.ndarray, whole: np.ndarray) -> dict:
    """Share of solved episodes [n] and its difference to that of the whole agent on the same levels [n] and
    noise.
    """
    draws = {"solved": solved.astype(float), "change": solved.astype(float) - whole}
    return {"episodes": len(level), "levels": len(np.unique(level))} | {
        name: estimates(mean_by_level(x, level)) for name, x in draws.items()
    }
