"""What responds to an edit of a level: directions and actions at the next frame, and what happens later."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from common.policy import Policy
from envs.procgen import Snapshot
from envs.vecenv import ActionSpace
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from interpret.forks.object_deletion import rendered
from interpret.forks.paired_outcomes import OUTCOMES, outcome_probabilities
from interpret.forks.world_comparison import Runs, run_arrays
from interpret.forks.worlds import RealWorld, run_in_batches


def with_snapshots(env, points: ForkPoints, snapshots: Sequence[Snapshot]) -> ForkPoints:
    """The fork points in other states of the game, whose frames are drawn; the agent's memory stays."""
    return replace(points, snapshots=list(snapshots), frames=rendered(env, snapshots)[None])


@torch.inference_mode()
def frame_responses(
    policy: Policy, points: ForkPoints, directions: Directions | None, actions: ActionSpace
) -> dict[str, np.ndarray]:
    """[B] each, when the agent sees the points' frames with their memory: the score of each direction, the
    probability of each group of actions (leftwards, ...), and the value.
    """
    state = policy.initial_state(1)
    not_first = torch.zeros(len(points), dtype=torch.bool, device=state.device)
    after = policy.advance(
        torch.from_numpy(points.frames[-1]).to(state.device),
        points.hidden.to(state.device),
        not_first,
        not_first.float(),
    )
    logits, value = policy.heads(after)
    probability = torch.softmax(logits.double(), -1)
    found = {}
    if directions is not None:
        scores = directions.scores(policy.hidden(after)).double().cpu().numpy()
        found = dict(zip(directions.names, scores.T))
    groups = {
        name: probability[:, list(group)].sum(1).cpu().numpy() for name, group in actions.groups.items()
    }
    return found | groups | {"value": value.double().cpu().numpy()}


def fork_responses(
    env, policy: Policy, points: ForkPoints, steps: int, draws: int, seed: int, actions: ActionSpace, bar=None
) -> dict[str, np.ndarray]:
    """[B] each, when the agent plays on: the probability of each outcome within `steps` steps, and the share
    of steps with each group of actions. Draw 0 has the noise of the recording, if the seed is its own.
    """
    world = RealWorld(env, policy, policy.initial_state(1).device)
    runs = Runs(**run_in_batches(world, points, steps, seed, draws, env.num, run_arrays, None, bar))
    outcomes = dict(zip(OUTCOMES, outcome_probabilities(runs).mean(2)))
    taken = runs.running.sum((0, 2))
    shares = {
        name: (np.isin(runs.action, group) & runs.running).sum((0, 2)) / taken
        for name, group in actions.groups.items()
    }
    return outcomes | shares
