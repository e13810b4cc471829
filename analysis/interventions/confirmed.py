"""The whole test of a family of hypotheses: fork points, worlds, bank, arms, and all numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.interventions.bank import play_bank
from analysis.interventions.confirmation import confirm_family, predict_effects, summarize_bank
from analysis.interventions.experiment import Experiment, real_states
from analysis.interventions.inputs import Recorded
from analysis.interventions.run import Settings, choose_points
from analysis.io.artefacts import cached_part, fork_point_columns
from common.runs import Run, UsageError
from common.words import counted
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints, fork_points_at, recording_seed
from interpret.forks.worlds import RealWorld, TeacherForcedWorld
from interpret.interventions.hypothesis import SHARED, Hypothesis
from interpret.interventions.manifold import RealStates
from rollouts.growth import RECORD_MORE
from rollouts.split import episode_layouts
from rollouts.states import replay_env


@dataclass(frozen=True)
class FamilyInputs:
    """What the test of a family reads, and how it runs."""

    recorded: Recorded
    directions: Directions
    batch_size: int
    num_threads: int
    device: object


def compute(run: Run, family: Mapping[str, Hypothesis], given: FamilyInputs) -> dict:
    """Plays all arms, or reads those that the run already has, and returns all numbers."""
    shared = next(iter(family.values()))
    points = family_points(run, shared, given)
    env = replay_env(given.recorded.rollouts, given.batch_size, given.num_threads)
    worlds = worlds_of(env, points, shared, given)
    edits = [one.edit for one in family.values()]
    bank = play_bank(run, worlds, given.directions, edits, shared, watched_game(env, worlds["real"], given))
    real = RealStates(real_states(given.recorded.rollouts, shared.seed), shared.seed)
    found = confirm_family(run, bank, family, real)
    env.close()
    numbers = {
        "shared": {name: getattr(shared, name) for name in (*SHARED, "test", "exclusions")},
        "fork_points": len(points),
        "layouts": len(np.unique(points.layout)),
        "levels": [int(points.level.min()), int(points.level.max())],
        "episodes": len(given.recorded.rollouts),
        "worlds": summarize_bank(bank, shared),
        "hypotheses": [registered(one, given.directions) | two for one, two in zip(family.values(), found)],
    }
    return numbers | ({"prediction": predict_effects(bank, shared)} if given.recorded.simulator else {})


def family_points(run: Run, shared: Hypothesis, given: FamilyInputs) -> ForkPoints:
    """The n fork points, each on its own layout; chosen once for a run.

    Raises:
        UsageError: the store has fewer.
    """
    rollouts, frames = given.recorded.rollouts, given.recorded.num_frames
    settings = Settings(scenes=shared.scenes, num_fork_points=shared.n, seed=shared.seed)
    path = run.dir / "points.safetensors"
    points = None if path.exists() else choose_points(settings, rollouts, frames)
    if points is not None and len(points) < shared.n:
        raise UsageError(
            f"{rollouts.path} has {counted(len(points), 'fork point')} on distinct layouts, and {shared.n} "
            f"are needed: {RECORD_MORE}"
        )
    columns = cached_part(run, "points", lambda: fork_point_columns(points))
    if points is None:
        layouts = episode_layouts(rollouts)
        points = fork_points_at(rollouts, columns["episode"], columns["step"], frames, layouts)
    return points


def worlds_of(env, points: ForkPoints, shared: Hypothesis, given: FamilyInputs) -> dict[str, Experiment]:
    """The experiment in the game and, with a simulator, in that."""
    names = given.recorded.rollouts.manifest["action_names"]
    seed = recording_seed(given.recorded.rollouts)
    return {
        name: Experiment(
            world_of, given.recorded.agent, names, points, shared.steps, seed, 1, given.batch_size
        )
        for name, world_of in given.recorded.worlds(env, given.device).items()
    }


def watched_game(env, real: Experiment, given: FamilyInputs) -> Experiment | None:
    """The experiment in the game, its outcomes as the simulator recognises them; None without a simulator."""
    simulator = given.recorded.simulator
    if simulator is None:
        return None
    return replace(
        real, world_of=lambda policy: TeacherForcedWorld(RealWorld(env, policy, given.device), simulator)
    )


def registered(hypothesis: Hypothesis, directions: Directions) -> dict:
    """What the file of a hypothesis says, without the fields that the family shares."""
    edit = hypothesis.edit
    return {
        "sentence": hypothesis.sentence,
        "why": hypothesis.why,
        "event": hypothesis.event,
        "change": hypothesis.change,
        "smallest_effect": hypothesis.smallest_effect,
        "edit": edit.description(),
        "touched": [directions.names[one] for one in edit.touched],
    }
