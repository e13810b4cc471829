"""Records a planned list of episodes into the shards of a store; every shard is reproducible bit for bit."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.noise import uniform_noise
from common.policy import Policy
from common.progress import progress_bar
from common.runs import UsageError
from common.stopping import saving_on_stop
from envs.procgen import NUM_LEVELS
from rollouts.growth import GROWN, shard_ranges
from rollouts.play import EpisodeSpec, StepBatch, play
from rollouts.store import shard_done, shards_kept, unwritten, write_shard

_LEVEL_DRAW = 2**32 - 1  # in place of a time step: a number that no step of an episode reaches
_KEPT = ("obs", "action", "reward", "terminated", "truncated", "value", "logits", "log_prob", "hidden")


@dataclass(frozen=True)
class Plan:
    """Which episodes are recorded, in which shards.

    Episode i plays a level drawn by (seed, shard, i) with repeat i: no two episodes of a store share level
    and noise. Raises UsageError for an impossible plan.
    """

    num_episodes: int
    episodes_per_shard: int = 256
    start_level: int = 0
    num_levels: int = 0
    """Levels start_level to start_level + num_levels - 1; 0 means all from start_level on."""
    seed: int = 0
    grown_from: tuple[int, ...] = ()
    """Earlier sizes of a store that has grown, at which shards end early."""

    def __post_init__(self):
        for name in ("num_episodes", "episodes_per_shard"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} is {getattr(self, name)}: there is nothing to record; ask for at least"
                    " one episode"
                )
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed is {self.seed}; take one from 0 to {2**31 - 1}")
        if (
            self.start_level < 0
            or self.num_levels < 0
            or self.start_level + max(self.num_levels, 1) > NUM_LEVELS
        ):
            asked = f"{self.num_levels or 'all'} levels from {self.start_level} on"
            raise UsageError(
                f"{asked} do not lie within 0 .. {NUM_LEVELS - 1}; change start_level or num_levels"
            )

    @property
    def num_shards(self) -> int:
        return len(self._ranges)

    @cached_property
    def _ranges(self) -> list[range]:
        return shard_ranges(self.num_episodes, self.episodes_per_shard, self.grown_from)

    def values(self) -> dict:
        """The plan as a manifest entry."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != GROWN or self.grown_from
        }

    def episodes(self, shard: int) -> np.ndarray:
        """Episode numbers of a shard."""
        return np.array(self._ranges[shard])

    def jobs(self, shard: int) -> list[EpisodeSpec]:
        """Episodes of a shard, in order."""
        episodes = self.episodes(shard)
        draw = uniform_noise(self.seed, shard, episodes, _LEVEL_DRAW, 1)[:, 0]
        levels = self.start_level + np.floor(
            draw * (self.num_levels or NUM_LEVELS - self.start_level)
        ).astype(np.int64)
        return [EpisodeSpec(int(level), int(episode)) for level, episode in zip(levels, episodes)]


class Actor(NamedTuple):
    """Who plays a shard: the policy with its behaviour, the behaviour's name, and the id of the weights."""

    policy: Policy
    behaviour: str
    policy_id: str


def take_turns(actors: Sequence[Actor]) -> Callable[[int], Actor]:
    """Assigns actors to shards in turn; an actor that is listed twice plays twice as many shards."""
    return lambda shard: actors[shard % len(actors)]


@dataclass
class Summary:
    """Episodes and steps written, and seconds spent on playing and on writing."""

    episodes: int = 0
    steps: int = 0
    playing: float = 0.0
    writing: float = 0.0

    @property
    def write_share(self) -> float:
        """Share of the time spent on writing."""
        return self.writing / max(self.playing + self.writing, 1e-9)


def record(
    path: Path,
    plan: Plan,
    shards: Iterable[int],
    make_env: Callable,
    actor_of: Callable[[int], Actor],
    device="cpu",
) -> Summary:
    """Plays and writes those shards that do not exist yet.

    Args:
        path: a store (create_store).
        plan: the planned episodes.
        shards: shard indices.
        make_env: creates a new VecEnv for each shard, so that a shard depends only on the plan and its index.
        actor_of: maps a shard index to the actor that plays it.
        device: where policies run.

    Raises:
        UsageError: another process writes one of the shards.
    """
    summary, shards = Summary(), list(shards)
    todo = [shard for shard in shards if not shard_done(path, shard)]
    bar = progress_bar(
        total=sum(len(plan.episodes(shard)) for shard in todo),
        unit="episode",
        desc="record",
        disable=not todo,
    )
    with saving_on_stop(lambda: shards_kept(path, shards)), bar:
        for shard in unwritten(path, todo):
            began = time.perf_counter()
            env = make_env()
            actor = actor_of(shard)
            steps, episodes = play_shard(env, actor, plan.jobs(shard), plan.seed, device, bar)
            env.close()
            played = time.perf_counter()
            write_shard(path, shard, steps, episodes)
            summary.playing, summary.writing = (
                summary.playing + played - began,
                summary.writing + time.perf_counter() - played,
            )
            summary.episodes, summary.steps = (
                summary.episodes + len(episodes["length"]),
                summary.steps + len(steps["reward"]),
            )
            logging.debug(
                "shard %d: %d steps, writing %.0f%% of the time",
                shard,
                len(steps["reward"]),
                100 * summary.write_share,
            )
    return summary


def play_shard(
    env, actor: Actor, jobs: Sequence[EpisodeSpec], seed: int, device="cpu", bar: tqdm | None = None
) -> tuple[dict, dict]:
    """Plays the episodes of a shard.

    Args:
        env: VecEnv, see `play`.
        actor: the actor.
        jobs: episodes to play.
        seed: of the action noise.
        device: where the policy runs.
        bar: progress bar, counted in episodes.

    Returns:
        Step arrays, episode after episode in the order of `jobs`, and episode arrays.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("job", "t", *_KEPT)}
    level, repeat = np.array(jobs, np.int64).T
    length = np.zeros(len(jobs), np.int64)
    complete = np.zeros(len(jobs), bool)
    final_hidden = None
    for played in play(env, actor.policy, jobs, seed, device):
        for name, arrays in parts.items():
            arrays.append(getattr(played, name))
        final_hidden = _keep_ends(played, length, complete, final_hidden)
        if bar is not None:
            bar.update(int(played.ended.sum()))
    offset = np.cumsum(length) - length
    rows = [offset[job] + t for job, t in zip(parts.pop("job"), parts.pop("t"))]
    steps = {name: _flat(parts.pop(name), rows) for name in _KEPT}
    words = {
        "behaviour": np.full(len(jobs), actor.behaviour),
        "policy_id": np.full(len(jobs), actor.policy_id),
    }
    episodes = {
        "id": repeat,
        "level_seed": level,
        "repeat": repeat,
        "length": length,
        "complete": complete,
        "final_hidden": final_hidden,
    }
    return steps, episodes | words


def _keep_ends(
    played: StepBatch, length: np.ndarray, complete: np.ndarray, final_hidden: np.ndarray | None
) -> np.ndarray:
    """Fills in length, completion and final state of the episodes that end with this step; returns
    final_hidden.
    """
    if final_hidden is None:
        final_hidden = np.zeros((len(length), played.hidden_after.shape[1]), np.float32)
    job = played.job[played.ended]
    ended = played.ended
    length[job], complete[job] = played.t[ended] + 1, played.complete[ended]
    final_hidden[job] = played.hidden_after[ended]
    return final_hidden


def _flat(parts: list[np.ndarray], rows: list[np.ndarray]) -> np.ndarray:
    """Scatters every part [n, ...] to its rows of one array; frees parts on the way to hold one copy in
    memory.
    """
    out = np.empty((sum(map(len, rows)), *parts[0].shape[1:]), parts[0].dtype)
    for i, row in enumerate(rows):
        out[row], parts[i] = parts[i], None
    return out
