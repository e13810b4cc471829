"""The concepts of every step of a store: its episodes are replayed in the real game, and causes of death are
found by deleting hazards.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from common.checkpoints import load_checkpoint
from common.descriptions import read_json
from common.runs import UsageError
from envs.coinrun import HAZARDS, UNKNOWN, causes_of_death
from envs.concepts import CONCEPTS, Concept, check_game, measure
from rollouts.store import Rollouts
from rollouts.walk import walk

EPISODE_ENDS = ("coin", *HAZARDS, UNKNOWN, "time")
"""How episodes end; the column `end` holds indices.

UNKNOWN: a death that deleting no single kind of hazard prevents (see envs.coinrun).
"""
EPISODE_CONCEPTS = {
    "end": Concept(
        "one of: " + ", ".join(EPISODE_ENDS),
        "How the episode will end, as an index into this list.",
    ),
    "steps_left": Concept("steps", "Actions until the episode ends, including the next one."),
}
"""Concepts that depend on the rest of the episode, not on the state alone."""
GROUP = "concepts_precomp"
VERSION = 1
"""Of the definitions; raised when a column changes."""

_COMMAND = "python -m analysis.concepts_precompute"
_REMAKE = f"delete its directory and make it again with: {_COMMAND}"


def check_store(rollouts: Rollouts) -> None:
    """Raises UsageError for a store whose states have no concepts."""
    if rollouts.simulated:
        raise UsageError(
            f"{rollouts.path} holds simulated episodes, which have no states to read concepts from; give a "
            "store that record.py made"
        )
    check_game(rollouts.manifest.get("env", {}).get("env_name", "unnamed"))


def shard_concepts(
    rollouts: Rollouts, shard: int, env, advance: Callable[[int], object] = lambda steps: None
) -> dict[str, np.ndarray]:
    """Columns of all concepts over the steps of one shard, in the shard's order.

    Args:
        rollouts: the store.
        shard: number of the shard.
        env: from rollouts.states.replay_env; its slots are overwritten.
        advance: called with the number of steps done.
    """
    episodes = np.flatnonzero(rollouts.episodes["shard"] == shard)
    offset, length = (rollouts.episodes[name][episodes] for name in ("offset", "length"))
    types = {name: bool if concept.unit == "yes or no" else np.float32 for name, concept in CONCEPTS.items()}
    columns = {name: np.empty(length.sum(), type_) for name, type_ in types.items()}
    columns |= {"end": np.empty(length.sum(), np.uint8), "steps_left": np.empty(length.sum(), np.float32)}
    order = np.argsort(length, kind="stable")
    for begin in range(0, len(order), env.num):
        batch = order[begin : begin + env.num]
        end = _walk_batch(rollouts, episodes[batch], env, columns, advance)
        for first, steps, name in zip(offset[batch], length[batch], end):
            columns["end"][first : first + steps] = EPISODE_ENDS.index(name)
            columns["steps_left"][first : first + steps] = np.arange(steps, 0, -1)
    return columns


def _walk_batch(
    rollouts: Rollouts, episodes: np.ndarray, env, columns: dict[str, np.ndarray], advance
) -> list[str]:
    """Fills in the columns of some episodes of one shard, and returns how each of them ends."""
    about = {name: rollouts.episodes[name][episodes] for name in ("offset", "length", "complete", "end")}
    end = np.where(about["complete"], "coin", np.where(about["end"] == "truncated", "time", UNKNOWN)).tolist()
    died = np.array([name == UNKNOWN for name in end])
    last = {}
    for t, live in walk(rollouts, episodes, env):
        for name, column in measure(env.symbols(live)).items():
            columns[name][about["offset"][live] + t] = column
        dying = live[died[live] & (about["length"][live] == t + 1)]
        last |= zip(dying, env.snapshot(dying))
        advance(len(live))
    final = (about["offset"] + about["length"] - 1)[list(last)]
    actions = rollouts.shard(rollouts.episodes["shard"][episodes[0]]).rows("action", final)
    for slot, cause in zip(last, causes_of_death(env, list(last.values()), actions)):
        end[slot] = cause
    return end


def load_concepts(rollouts: Rollouts, directory: Path = Path("results")) -> dict[str, np.ndarray]:
    """The newest columns [num_steps] of a store, aligned with rollouts.steps(...).

    The value at a step describes the state that its obs shows.

    Args:
        rollouts: the store.
        directory: the --out_dir of analysis.concepts_precompute.

    Raises:
        UsageError: if the concepts have not been computed, or the store can have none.
    """
    for done in _newest_first((Path(directory) / GROUP).glob("*/done.json")):
        if read_json(done, _REMAKE) == run_summary(rollouts):
            files = [done.parent / f"{part_name(entry['shard'])}.safetensors" for entry in rollouts.entries]
            parts = [load_checkpoint(file)[0] for file in files]
            return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    check_store(rollouts)
    command = f"{_COMMAND} --data_dir {rollouts.path}"
    raise UsageError(f"no concepts of {rollouts.path} in {directory}; make them with: {command}")


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def run_summary(rollouts: Rollouts) -> dict:
    """The content of done.json of a finished run."""
    return {
        "data_dir": rollouts.id,
        "steps": rollouts.num_steps,
        "version": VERSION,
        "ends": list(EPISODE_ENDS),
    }


def part_name(shard: int) -> str:
    """Name of the artefact of one shard."""
    return f"shard_{shard:05d}"
