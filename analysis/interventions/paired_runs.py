"""Both arms of an edit, step by step with frames, from the same forks in both worlds; and which forks to look
at, chosen by rule.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.policy import Policy
from common.stats import level_weights
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from interpret.forks.world_comparison import Runs, survival_weight
from interpret.forks.worlds import World, run_in_batches
from interpret.interventions.effects import EVENTS, effect_summary, events_by_point, verdict
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import Interventions
from rollouts.segment import Segment

CHOICES = ("largest", "median", "random")
"""Forks: where the edited run departs most from the control run, where it departs as much as in half of the
forks, and any.
"""
ARMS = ("edited", "control")

Arrays = dict[str, np.ndarray]


def play_arms(
    world_of: Callable[[Policy], World],
    agent: Policy,
    tested: Interventions,
    scored: tuple[Directions, int],
    points: ForkPoints,
    steps: int,
    seed: int,
    batch: int,
) -> dict[str, Arrays]:
    """{arm: obs [T, M, H, W, C], action, score, done, coin, taken, running [T, M]}, with the noise of the
    recording. running: whether a run is more likely than not still going.

    Args:
        world_of: the world in which a policy plays.
        agent: the control arm.
        tested: edits of the other arm.
        scored: directions and the number of the one whose score is kept.
        points: M fork points.
        steps: T.
        seed: of the noise.
        batch: forks at a time.
    """
    directions, index = scored

    def keep(segment: Segment) -> Arrays:
        return {
            "obs": frames_of(segment),
            "action": segment.action.numpy(),
            "score": directions.scores(segment.hidden_after().float())[..., index].numpy(),
            "done": segment.extra["done_prob"].numpy(),
            "coin": segment.extra["reward_prob"].numpy(),
            "taken": segment.mask.numpy(),
        }

    policies = dict(zip(ARMS, (Intervened(agent, tested), agent)))
    found = {}
    for arm, policy in policies.items():
        kept = run_in_batches(world_of(policy), points, steps, seed, 1, batch, keep)
        found[arm] = {name: x[:, :, 0] for name, x in kept.items()}
        found[arm]["running"] = survival_weight(runs_of(found[arm]))[:, :, 0] > 0.5
    return found


def runs_of(arm: Arrays) -> Runs:
    """One arm as Runs, one draw each."""
    return Runs(*(arm[name][:, :, None] for name in ("done", "coin", "taken", "action")), *[None] * 3)


def paired_effects(arms: Mapping[str, Arrays], layouts: np.ndarray, action_names: Sequence[str]) -> dict:
    """Of each event: its mean in the control arm, the change under the edit with its interval by layout, and
    what can be said without null edits.
    """
    edited, control = (events_by_point(runs_of(arms[arm]), action_names) for arm in ARMS)
    changes = effect_summary(edited, control, level_weights(layouts))
    count = len(np.unique(layouts))
    return {
        name: {"control": float(one.mean()), "change": list(changes[name]),
               "verdict": verdict(changes[name], {}, count)}
        for name, one in zip(EVENTS, control)
    }  # fmt: skip


def frames_of(segment: Segment) -> np.ndarray:
    """Frames [T, B, H, W, C] as uint8; a simulator's are floats in [0, 1]."""
    obs = segment.obs
    return (obs if not obs.is_floating_point() else (obs * 255).round().clamp(0, 255)).byte().numpy()


def departures(arms: Mapping[str, Arrays]) -> np.ndarray:
    """How far the edited run departs from the control run [M]: mean absolute difference of their frames over
    the horizon, the last frame of a run held after its end.
    """
    edited, control = (last_held(arms[arm]["obs"], arms[arm]["running"]) for arm in ARMS)
    change = [np.abs(a.astype(np.int16) - b).mean((1, 2, 3)) for a, b in zip(edited, control)]
    return np.mean(change, 0)


def last_held(obs: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Frames [T, M, ...] with the last one of each run repeated after its end. running: [T, M]."""
    last = np.maximum(running.cumprod(0).sum(0) - 1, 0)
    steps = np.minimum(np.arange(len(obs))[:, None], last)
    return obs[steps, np.arange(obs.shape[1])]


def choose_forks(departure: np.ndarray, choices, seed: int) -> dict[str, int]:
    """Number of the fork of each of CHOICES, by departures [M]."""
    order = np.argsort(-departure, kind="stable")
    chosen = {
        "largest": order[0],
        "median": order[len(order) // 2],
        "random": np.random.default_rng([seed, 7]).integers(len(order)),
    }
    return {name: int(chosen[name]) for name in choices}
