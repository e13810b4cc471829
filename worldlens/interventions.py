"""Edit directions of a policy's hidden state, and measure what that changes."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch

from agents.actor_critic import ActorCritic
from common.errors import UsageError
from common.policy import Policy
from common.stats import Estimate, level_weights
from generative.simulator import Simulator
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints, recording_seed
from interpret.forks.world_comparison import Runs, run_arrays
from interpret.forks.worlds import RealWorld, SimulatedWorld, run_in_batches
from interpret.interventions.edit import Edit, edit_of
from interpret.interventions.effects import effect_summary, outcomes_by_point
from interpret.interventions.from_flags import with_sources
from interpret.interventions.interchange import patched_state, record_activations, site_of
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import bind
from rollouts.states import replay_env
from rollouts.store import Rollouts
from worldlens.activations import AgentOutput


def intervene(
    policy: Policy,
    edits: Edit | dict | Sequence[Edit | dict],
    directions: Directions | Mapping[str, Directions],
) -> Intervened:
    """The policy with its hidden state edited at each step: a Policy for `fork`, `simulate` and recordings.

    Args:
        policy: A policy whose state [N, D] is its hidden state.
        edits: One edit or several, which act one after the other; dicts as in an edits file, such as
            {"kind": "collapse", "directions": [1], "mode": "state"}.
        directions: One set, or sets by kind, {"pca": ...}, which edits name by `direction_set`.

    Raises:
        UsageError: No edit, an unknown direction or entry, or directions of another width.
    """
    given = [edits] if isinstance(edits, Edit | dict) else list(edits)
    if not given:
        raise UsageError("no edits: give one edit or more")
    described, sources = with_sources([one if isinstance(one, Edit) else edit_of(one) for one in given])
    by_kind = {"": directions} if isinstance(directions, Directions) else directions
    bound = bind(described, by_kind, sources, policy.num_actions)
    return Intervened(policy, bound.to(policy.initial_state(1).device))


def edit_effect(
    where: Rollouts | Simulator,
    points: ForkPoints,
    edited: Intervened,
    num_steps: int = 24,
    *,
    draws: int = 1,
    seed: int | None = None,
    batch_size: int = 64,
) -> dict[str, Estimate]:
    """How an edit changes the probability of an outcome: both arms play on from fork points, with one noise.

    Args:
        where: The store that the points are from, for forks of the real game; or a simulator.
        points: B fork points.
        edited: What `intervene` returned; the policy in it is the control arm.
        num_steps: Horizon: an outcome counts within these steps.
        draws: Noise draws per point.
        seed: Of all noise. Default: the recording's; 0 in a simulator.
        batch_size: Forks that are played at a time.

    Returns:
        {"death", "coin" or "none": change of its probability, edited minus control}, each with a 95% interval
        by layout. In games without deaths or coins these are ends without and with a completed level.

    Raises:
        UsageError: `edited` holds no edits.
    """
    if not isinstance(edited, Intervened):
        raise UsageError("this policy has no edits: give one that `intervene` returned")
    arms = (edited.policy, edited)
    with ExitStack() as stack:
        if isinstance(where, Simulator):
            worlds, seed = [SimulatedWorld(where, arm) for arm in arms], seed or 0
        else:
            env = replay_env(where, min(batch_size, len(points) * draws))
            stack.callback(env.close)
            worlds = [RealWorld(env, arm, arm.initial_state(1).device) for arm in arms]
            seed = recording_seed(where) if seed is None else seed
        control, arm = (
            outcomes_by_point(
                Runs(**run_in_batches(world, points, num_steps, seed, draws, batch_size, run_arrays))
            )
            for world in worlds
        )
    return effect_summary(arm, control, level_weights(points.layout))


def patch(
    agent: ActorCritic,
    clean: torch.Tensor,
    corrupt: torch.Tensor,
    site: str,
    step: int,
    directions: Directions | None = None,
    state: torch.Tensor | None = None,
) -> AgentOutput:
    """Interchange patching: the agent watches corrupt frames, but one activation at one step is that of clean
    frames.

    Args:
        agent: The agent.
        clean: Frames [T, N, H, W, C].
        corrupt: Frames of the same shape.
        site: "state", "encoder", "channel 3" (of the encoder's last stage), or the name of a direction.
        step: 0 to T - 1, when.
        directions: Of the hidden state, for a site along one of them.
        state: [N, D] before the first frame of both. Default: the initial state.

    Returns:
        Hidden state [N, D], logits [N, A] and value [N] after the last frame.

    Raises:
        UsageError: No such site or step, or frames of different shapes.
    """
    if clean.shape != corrupt.shape:
        raise UsageError(
            f"clean frames are {list(clean.shape)} and corrupt ones {list(corrupt.shape)}: give equal shapes"
        )
    before = agent.initial_state(clean.shape[1]) if state is None else state
    clean_run, corrupt_run = (record_activations(agent, frames, before) for frames in (clean, corrupt))
    where = site_of(site, directions)
    with torch.no_grad():
        after = patched_state(agent, corrupt_run, clean_run, before, where, step, directions)
        return AgentOutput(agent.hidden(after), *agent.heads(after))
