"""Makes labels by replaying a store: shard by shard, each frame compared with the stored one."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.errors import UsageError
from common.locks import Locked
from common.progress import progress_bar
from common.stopping import saving_on_stop
from envs.frame_labels import frame_labels
from rollouts.labels import (
    FOLDER,
    WITHOUT,
    BadLabels,
    check_labelable,
    checked_labels,
    entry_path,
    label_fields,
    manifest_stands,
    write_labels,
    write_manifest,
)
from rollouts.remote import StorePath, lock, remove_abandoned_locks
from rollouts.states import replay_env
from rollouts.store import Rollouts
from rollouts.walk import walk

SLOTS = 16
"""Environments that replay side by side; more would idle until the longest of their episodes ends."""


class Summary(NamedTuple):
    """Steps labelled, and the seconds that it took."""

    steps: int
    seconds: float


def label(rollouts: Rollouts, shards: Sequence[int], num_threads: int = 2) -> Summary:
    """Labels those shards that have no sound labels yet.

    Args:
        rollouts: store of real episodes of a Procgen game.
        shards: shard indices.
        num_threads: threads of the game simulator; results do not depend on it.

    Raises:
        UsageError: the store cannot be replayed, its frames differ from the game's, or another process labels
            one of the shards.
    """
    check_labelable(rollouts)
    remove_abandoned_locks(rollouts.path / FOLDER, ".labels_*.lock")
    entries = {entry["shard"]: entry for entry in rollouts.entries}
    todo = [index for index in shards if not _is_labelled(rollouts.path, entries[index])]
    if not todo and manifest_stands(rollouts):
        return Summary(0, 0.0)
    began = time.perf_counter()
    steps = 0
    env = replay_env(rollouts, SLOTS, num_threads)
    unit = float(env.symbols([0]).scene["unit"][0])
    write_manifest(rollouts, unit)
    bar = progress_bar(
        total=sum(entries[i]["num_steps"] for i in todo), unit="step", desc="label", disable=not todo
    )
    with saving_on_stop(lambda: labels_kept(rollouts, shards)), bar:
        for index in _unlabelled(rollouts, todo):
            write_labels(rollouts.path, entries[index], label_shard(rollouts, index, env, unit, bar))
            steps += entries[index]["num_steps"]
    env.close()
    return Summary(steps, time.perf_counter() - began)


def label_shard(
    rollouts: Rollouts, index: int, env, unit: float, bar: tqdm | None = None
) -> dict[str, np.ndarray]:
    """Labels of one shard: {field: [steps, ...]}. Every stored frame is compared with the replayed one.

    Args:
        rollouts: the store.
        index: shard index.
        env: VecEnv of the store's game (`replay_env`).
        unit: pixels per tile of its frames.
        bar: progress bar, counted in steps.
    """
    episodes = np.flatnonzero(rollouts.episodes["shard"] == index)
    length = rollouts.episodes["length"]
    total = int(length[episodes].sum())
    labels = {
        name: np.zeros((total, *field.shape), field.dtype) for name, field in label_fields(rollouts).items()
    }
    episodes = episodes[np.argsort(length[episodes], kind="stable")]  # of about one length side by side
    for begin in range(0, len(episodes), env.num):
        batch = episodes[begin : begin + env.num]
        for t, running in walk(rollouts, batch, env):
            symbols = env.symbols(running)
            if (symbols.scene["unit"] != np.float32(unit)).any():
                raise UsageError(
                    f"the frames of {rollouts.path} show levels at several scales, which labels cannot"
                    f" describe: {WITHOUT}"
                )
            rows = rollouts.episodes["offset"][batch[running]] + t
            for name, values in frame_labels(symbols).items():
                labels[name][rows] = values
            if bar is not None:
                bar.update(len(running))
    return labels


def labels_kept(rollouts: Rollouts, shards: Sequence[int]) -> str:
    """Message of how many of the requested shards are labelled; empty if none is."""
    done = sum(entry_path(rollouts.path, index).exists() for index in shards)
    return f"{done} of {len(shards)} shards are labelled in {rollouts.path / FOLDER}" if done else ""


def _is_labelled(store: StorePath, entry: dict) -> bool:
    """Whether a shard has sound labels; what is damaged or of another recording is made again."""
    if not entry_path(store, entry["shard"]).exists():
        return False
    try:
        with checked_labels(store, entry):
            return True
    except BadLabels as error:
        logging.info("labels shard %d again: %s", entry["shard"], error)
        return False


def _unlabelled(rollouts: Rollouts, indices: Sequence[int]) -> Iterator[int]:
    """Yields shards without sound labels, each locked until the next is requested."""
    folder = rollouts.path / FOLDER
    entries = {entry["shard"]: entry for entry in rollouts.entries}
    for index in indices:
        try:
            with lock(folder / f".labels_{index:05d}.lock"):
                if not _is_labelled(rollouts.path, entries[index]):  # as it may be by now
                    yield index
        except Locked as holder:
            raise UsageError(
                f"shard {index} of {rollouts.path} is being labelled by {holder}: wait for it or stop it,"
                " then run this command again, or give each its own --job"
            ) from holder
