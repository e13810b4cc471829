"""The concepts of every step of a store: its episodes are walked through in the real game, and what killed
the player is found by deletion.
"""

from collections.abc import Callable
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
"""How episodes end; the column `end` holds indices. unknown: dead, and no single kind of hazard is to blame
(see envs.coinrun).
"""
EPISODE_CONCEPTS = {
    "end": Concept(
        "one of: " + ", ".join(EPISODE_ENDS),
        "How the episode will end, as an index into this list.",
    ),
    "steps_left": Concept("steps", "Actions until the episode ends, including the next one."),
}
"""Columns that the state itself does not say."""
GROUP = "concepts_precomp"
VERSION = 1
"""Of the definitions: raised when a column would come out otherwise."""


def check_store(rollouts: Rollouts) -> None:
    """Raises UsageError for a store that has no concepts."""
    if rollouts.simulated:
        raise UsageError(
            f"{rollouts.path} holds simulated episodes, which have no states to read concepts from; give a store that record.py made"
        )
    check_game(rollouts.manifest.get("env", {}).get("env_name", "unnamed"))


def shard_concepts(
    rollouts: Rollouts, shard: int, env, advance: Callable[[int], object] = lambda steps: None
) -> dict[str, np.ndarray]:
    """Columns of all concepts [steps of the shard], in the shard's order. env: rollouts.states.replay_env,
    whose slots are used up; advance: told of the steps as they are done.
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
    """Fills in the columns of some episodes of one shard; how each of them ends."""
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
    """All columns [num_steps], aligned with rollouts.steps(...): the value at a step describes the state in
    which its obs is on show.

    The last made ones. directory: the --out_dir of analysis.concepts_precompute. Raises UsageError where it
    has not been run for this store, and for a store that has none.
    """
    for done in sorted(
        (Path(directory) / GROUP).glob("*/done.json"), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        if read_json(
            done, "delete its directory and make it again with: python -m analysis.concepts_precompute"
        ) == run_summary(rollouts):
            parts = [
                load_checkpoint(done.parent / f"{part_name(entry['shard'])}.safetensors")[0]
                for entry in rollouts.entries
            ]
            return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    check_store(rollouts)
    raise UsageError(
        f"no concepts of {rollouts.path} in {directory}; make them with: python -m analysis.concepts_precompute --data_dir {rollouts.path}"
    )


def run_summary(rollouts: Rollouts) -> dict:
    """What a run that is done says of itself."""
    return {
        "data_dir": rollouts.id,
        "steps": rollouts.num_steps,
        "version": VERSION,
        "ends": list(EPISODE_ENDS),
    }


def part_name(shard: int) -> str:
    return f"shard_{shard:05d}"
