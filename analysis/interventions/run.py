"""Runs an experiment with one edit: fork points, all arms in every world, and their numbers."""

from dataclasses import dataclass

import numpy as np

from analysis.interventions.experiment import (
    Experiment,
    play_control,
    play_nulls,
    play_tested,
    real_states,
    state_sample,
)
from analysis.interventions.inputs import Recorded
from analysis.interventions.summary import full_strength, prediction, summarize_causes, summarize_world
from analysis.io.artefacts import cached_part, fork_point_columns
from analysis.io.steps import cached_json
from common.runs import Run, UsageError
from common.shared_flags import ALONE, Job
from common.words import counted
from envs.edits import next_hazard
from envs.procgen_body import parse as parse_state
from generative.compatibility import env_name_of
from interpret.forks.fork_deaths import fork_death_causes
from interpret.forks.fork_points import PARTS, ForkPoints, ForkPointSampler, fork_points_at, recording_seed
from interpret.interventions.arms import FAMILIES, JUDGED_BY, STRENGTHS, Arm, null_arms, strength_arms
from interpret.interventions.interventions import Interventions
from interpret.interventions.manifold import RealStates
from interpret.interventions.nulls import MIN_NULLS
from rollouts.growth import RECORD_MORE
from rollouts.states import replay_env
from rollouts.store import Rollouts


@dataclass(frozen=True)
class Settings:
    """Sizes and choices of an experiment; see the flags of analysis.interventions_precompute."""

    part: str = "all"
    scenes: str = "hazard"
    num_fork_points: int = 300
    steps: int = 24
    draws: int = 1
    strengths: tuple[float, ...] = STRENGTHS
    num_nulls: int = MIN_NULLS
    seed: int = 0
    batch_size: int = 64
    num_threads: int = 2
    least_fork_points: int = 2
    job: Job = ALONE


def choose_points(settings: Settings, rollouts: Rollouts, frames: int) -> ForkPoints:
    """Fork points on as many layouts."""
    sampler = ForkPointSampler(rollouts, frames, PARTS[settings.part], settings.seed)
    if settings.scenes == "any":
        return sampler.sample(settings.num_fork_points)
    pairs, _ = sampler.search(
        lambda snapshot: next_hazard(parse_state(snapshot.data)), settings.num_fork_points, "hazard ahead"
    )
    return fork_points_at(rollouts, *pairs.T, frames, sampler.layouts)


def play_world(
    run: Run,
    name: str,
    experiment: Experiment,
    settings: Settings,
    tested: Interventions,
    matched_on: dict | None,
) -> dict:
    """All parts of one world; those that the run already has are read.

    matched_on: the control arm of the real game, on whose states nulls are matched; None in the game itself.
        Elsewhere only the families that verdicts use are played.

    Returns:
        The parts by name; None for null arms of which another job has not played its share.
    """
    parts = {"control": cached_part(run, f"{name}_control", lambda: play_control(experiment))}
    arms = strength_arms(tested, settings.strengths)
    parts["tested"] = cached_part(run, f"{name}_tested", lambda: play_tested(experiment, arms))
    device = experiment.agent.initial_state(1).device
    sample = state_sample(matched_on or parts["control"], settings.seed, device)
    nulls = null_arms(tested, experiment.agent, sample, settings.num_nulls, settings.seed)
    for family in FAMILIES if matched_on is None else JUDGED_BY:
        key = f"{name}_{family.replace(' ', '_').replace('-', '_')}"
        of_family = [arm for arm in nulls if arm.family == family]
        parts[family] = shared_nulls(run, key, experiment, of_family, family, settings.job)
    return parts


def shared_nulls(
    run: Run, name: str, experiment: Experiment, arms: list[Arm], family: str, job: Job
) -> dict[str, np.ndarray] | None:
    """The null arms of a family, of which this job plays its share; None while shares are missing."""
    if job.count == 1 or (run.dir / f"{name}.safetensors").exists():
        return cached_part(run, name, lambda: play_nulls(experiment, arms, family))
    pieces = [f"{name}_{i}_of_{job.count}" for i in range(job.count)]
    mine = job.share(arms)
    cached_part(run, pieces[job.index], lambda: play_nulls(experiment, mine, family))
    if not all((run.dir / f"{piece}.safetensors").exists() for piece in pieces):
        return None
    return cached_part(run, name, lambda: interleave([cached_part(run, piece, dict) for piece in pieces]))


def interleave(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of which piece i of n has every n-th row from row i on."""
    whole = {}
    for name, first in pieces[0].items():
        rows = sum(len(piece[name]) for piece in pieces)
        whole[name] = np.empty((rows, *first.shape[1:]), first.dtype)
        for i, piece in enumerate(pieces):
            whole[name][i :: len(pieces)] = piece[name]
    return whole


def death_causes(env, points: ForkPoints, parts: dict, steps: int) -> dict[str, list[str]]:
    """Causes of death in the control arm and in the tested arm at full strength, run by run."""
    i = full_strength(parts["tested"])
    draws = parts["control"]["action"].shape[2]
    repeated = points.take(np.repeat(np.arange(len(points)), draws))
    arms = {"control": parts["control"], "tested": {name: x[i] for name, x in parts["tested"].items()}}
    found = {}
    for name, arm in arms.items():
        died = (arm["done"] * (1 - arm["coin"]) * arm["running"]).reshape(steps, -1) > 0.5
        died_at = np.where(died.any(0), died.argmax(0), -1)
        found[name] = fork_death_causes(env, repeated, arm["action"].reshape(steps, -1), died_at)
    return found


def compute(
    run: Run,
    settings: Settings,
    recorded: Recorded,
    tested: Interventions,
    device,
) -> dict | None:
    """The numbers of the experiment; None while other jobs have not played their share of it."""
    rollouts = recorded.rollouts
    points = choose_points(settings, rollouts, recorded.num_frames)
    if len(points) < settings.least_fork_points:
        raise UsageError(
            f"{rollouts.path} has {counted(len(points), 'fork point')} on distinct layouts, and "
            f"{settings.least_fork_points} are needed: {RECORD_MORE}"
        )
    columns = cached_part(run, "points", lambda: fork_point_columns(points))
    env = replay_env(rollouts, settings.batch_size, settings.num_threads)
    shared = dict(
        agent=recorded.agent,
        action_names=rollouts.manifest["action_names"],
        points=points,
        steps=settings.steps,
        seed=recording_seed(rollouts),
        draws=settings.draws,
        batch=settings.batch_size,
    )
    parts = {}
    for name, world_of in recorded.worlds(env, device).items():
        matched_on = parts["real"]["control"] if parts else None
        parts[name] = play_world(run, name, Experiment(world_of, **shared), settings, tested, matched_on)
    if any(part is None for found in parts.values() for part in found.values()):
        env.close()
        return None
    real = RealStates(real_states(rollouts, settings.seed), settings.seed)
    numbers = {
        "fork_points": len(points),
        "levels": [int(columns["level"].min()), int(columns["level"].max())],
        "layouts": len(np.unique(points.layout)),
        "worlds": {name: summarize_world(found, points.layout, real) for name, found in parts.items()},
    }
    if env_name_of(rollouts.manifest) == "coinrun":
        causes = cached_json(run, "causes", lambda: death_causes(env, points, parts["real"], settings.steps))
        numbers["causes"] = summarize_causes(causes, len(points), points.layout)
    if recorded.simulator:
        numbers["prediction"] = prediction(parts["real"], parts["simulator"], points.layout)
    env.close()
    return numbers
