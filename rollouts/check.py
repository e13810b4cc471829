"""Invariants of a store beyond its checksums. Each finding is one line; a sound store has none."""

from collections.abc import Iterator

import numpy as np

from rollouts import shard as shards
from rollouts.fields import ENDS, check_lengths, derive
from rollouts.remote import local_copy
from rollouts.shard import BadStore
from rollouts.store import Rollouts


def check_store(rollouts: Rollouts) -> Iterator[str]:
    """Checks bytes and content of every shard and that episode ids are unique; yields a line per finding."""
    for entry in rollouts.entries:
        name = entry["data"]["file"]
        with local_copy(shards.data_path(rollouts.path, entry["shard"])) as file:
            whole = shards.data_is_whole(file, entry)
        if not whole:
            yield (
                f"{name}: its bytes do not match their checksum; delete {name} and its .json and run"
                " the recording command again"
            )
            continue
        yield from (f"{name}: {finding}" for finding in _check_shard(rollouts, entry))
    ids = rollouts.episodes["id"]
    if len(np.unique(ids)) != len(ids):
        yield "two episodes have the same id"


def _check_shard(rollouts: Rollouts, entry: dict) -> Iterator[str]:
    episodes = entry["episodes"]
    try:
        shard = rollouts.shard(entry["shard"])
        steps = {name: shard.column(name) for name in rollouts.step_fields if name != "obs"}
        check_lengths(steps, episodes["length"])
    except (BadStore, ValueError) as error:
        yield str(error)
        return
    for name, column in derive(steps, episodes).items():
        if not np.array_equal(column, episodes[name]):
            yield f"the episodes' {name!r} disagrees with their steps"
    if not np.isin(episodes["end"], ENDS).all():
        yield f"an episode ended neither {', '.join(ENDS)}"
    if (steps["action"] >= rollouts.manifest["num_actions"]).any():
        yield f"an action is not among the {rollouts.manifest['num_actions']}"
    if (steps["log_prob"] > 1e-5).any():
        yield "a log-probability is above zero"
    yield from _check_numbers(steps, episodes)
    if not rollouts.simulated:
        yield from _check_hidden(steps["hidden"], episodes)


def _check_numbers(steps: dict[str, np.ndarray], episodes: dict[str, np.ndarray]) -> Iterator[str]:
    """Finds NaN and infinity; a policy without a value head has NaN values throughout an episode."""
    for name, column in {**steps, "final_hidden": episodes["final_hidden"]}.items():
        if column.dtype.kind == "f" and name != "value" and not np.isfinite(column).all():
            yield f"{name!r} holds NaN or infinity"
    missing = np.add.reduceat(np.isnan(steps["value"]), episodes["offset"], dtype=np.int64)
    if ((missing != 0) & (missing != episodes["length"])).any() or np.isinf(steps["value"]).any():
        yield "'value' is NaN or infinite at some steps of an episode"


def _check_hidden(hidden: np.ndarray, episodes: dict[str, np.ndarray]) -> Iterator[str]:
    """Finds policies whose episodes begin in different hidden states, which means a missing or late reset."""
    opening = hidden[episodes["offset"]]
    for policy in np.unique(episodes["policy_id"]):
        states = opening[episodes["policy_id"] == policy]
        if (states != states[0]).any():
            yield (
                f"episodes of policy {policy} begin in different hidden states: the state was not reset"
                " before the first frame"
            )
