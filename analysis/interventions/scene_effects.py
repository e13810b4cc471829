"""What pushing a direction does in scenes with an object: forks of the scenes of a bank, against null
directions that move the policy as far.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from common.policy import Policy
from common.progress import progress_bar
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from interpret.forks.world_comparison import Runs
from interpret.forks.worlds import World, run_in_batches
from interpret.interventions.edit import Edit
from interpret.interventions.effects import EVENTS, events_by_point
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import Interventions, bind
from interpret.interventions.manifold import RealStates
from interpret.interventions.nulls import NULL_SET, StateSample, kl_measure, matched, null_sets
from rollouts.scene_bank import WITH, SceneBank
from rollouts.segment import Segment
from rollouts.store import Rollouts

OUTCOMES = ("death", "coin", "jump", "left")
"""Those of `effects.EVENTS` that are measured."""
NEAREST, FARTHEST = 1, 6
"""Tiles to the object in the scenes that are forked."""
_STATES = 400
"""States of an arm that are compared with real ones."""

Arrays = dict[str, np.ndarray]


def scene_points(bank: SceneBank, rollouts: Rollouts, kind: int, count: int) -> ForkPoints | None:
    """Up to `count` scenes with an object of a kind in sight and 1 to 6 tiles ahead, as fork points; the
    agent remembers what it had seen when the scene was made. None if there is no such scene.
    """
    columns = bank.columns
    near = (columns["distance"] >= NEAREST) & (columns["distance"] <= FARTHEST)
    rows = np.flatnonzero((columns["kind"] == kind) & columns["shown"] & columns["survives"][:, WITH] & near)
    rows = np.random.default_rng([kind, 8]).permutation(rows)[:count]
    if not len(rows):
        return None
    episode, step = columns["episode"][rows], columns["step"][rows]
    hidden = rollouts.steps("hidden")[rollouts.first_step[episode] + step]
    return ForkPoints(
        bank.snapshots(WITH, rows), bank.frames[rows, WITH][None], torch.from_numpy(hidden),
        columns["level"][rows], np.zeros(len(rows), np.int64), step, episode, columns["layout"][rows],
    )  # fmt: skip


@dataclass(frozen=True)
class SceneExperiment:
    """What all arms of one kind of object share."""

    world_of: object
    agent: Policy
    points: ForkPoints
    action_names: Sequence[str]
    steps: int
    seed: int
    batch: int

    def play(self, policy: Policy, states: bool = False) -> Arrays:
        """OUTCOMES [4, M], and on request states [n, D] before and after observations."""
        world: World = self.world_of(policy)
        kept = run_in_batches(world, self.points, self.steps, self.seed, 1, self.batch, _keep)
        runs = Runs(*(kept[name] for name in ("done", "coin", "running", "action")), *[None] * 3)
        rows = [EVENTS.index(name) for name in OUTCOMES]
        found = {"outcomes": events_by_point(runs, self.action_names)[rows]}
        if states:
            running = kept["running"]
            found |= {"before": kept["hidden"][:-1][running], "after": kept["hidden"][1:][running]}
        return found


def _keep(segment: Segment) -> Arrays:
    return {
        "action": segment.action.numpy(),
        "done": segment.extra["done_prob"].numpy(),
        "coin": segment.extra["reward_prob"].numpy(),
        "running": segment.mask.numpy(),
        "hidden": segment.hidden.float().numpy(),
    }


def pushed(
    directions: Directions, signs: Sequence[float], policy: Policy, sample: StateSample, kl: float
) -> list[tuple[Interventions, bool]]:
    """Of each direction, the edit that adds to its score, with its sign, as much as moves the policy by `kl`
    in one step on average; and whether there is one.
    """
    measure, found = kl_measure(policy, sample), []
    for index, sign in enumerate(signs):
        edit, is_matched = matched(
            Edit("add", (index,), values=(float(sign),), mode="state"), directions, measure, kl
        )
        found.append((bind([edit], {"tested": directions}), is_matched))
    return found


def null_pushes(
    directions: Directions, policy: Policy, sample: StateSample, kl: float, count: int, seed: int
) -> list[tuple[Interventions, bool]]:
    """The same of `count` directions drawn from the covariance of the sample's states. All tested directions
    share them, so none is projected out of them.
    """
    states = sample.after.double().cpu().numpy()
    first = Edit("add", (0,), values=(1.0,), mode="state")
    measure, found = kl_measure(policy, sample), []
    for null in null_sets(first, directions, states, count, seed, covariance=True):
        edit, is_matched = matched(replace(first, direction_set=NULL_SET), null, measure, kl)
        found.append((bind([edit], {NULL_SET: null}), is_matched))
    return found


def play_pushes(
    experiment: SceneExperiment,
    pushes: Sequence[tuple[Interventions, bool]],
    real: RealStates | None,
    name: str,
) -> Arrays:
    """OUTCOMES [K, 4, M] of pushes, NaN without a match, and `beyond` [K]: the share of an arm's states that
    are beyond the 99th percentile of real ones (zeros where `real` is None).
    """
    outcomes = np.full((len(pushes), len(OUTCOMES), len(experiment.points)), np.nan)
    beyond = np.zeros(len(pushes))
    for k, (interventions, is_matched) in enumerate(progress_bar(pushes, desc=name, unit="arm")):
        if is_matched:
            played = experiment.play(Intervened(experiment.agent, interventions), states=real is not None)
            outcomes[k] = played["outcomes"]
            beyond[k] = 0.0 if real is None else _share_beyond(real, played["after"])
    return {"outcomes": outcomes, "beyond": beyond, "matched": np.array([one for _, one in pushes])}


def _share_beyond(real: RealStates, states: np.ndarray) -> float:
    sample = states[np.linspace(0, len(states) - 1, min(len(states), _STATES)).astype(int)]
    distances: Mapping[str, np.ndarray] = real.distances(sample)
    return max(float((x > real.limits[name]).mean()) for name, x in distances.items())
