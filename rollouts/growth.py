"""Growing stores: the same command with a larger number of episodes adds shards and keeps existing ones."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from common.descriptions import look_up
from common.locks import Locked
from common.runs import UsageError
from common.words import counted
from rollouts.manifest import read_manifest
from rollouts.remote import StorePath, lock, store_path
from rollouts.shard import BadStore, entry_path, read_entry

GROWN = "grown_from"
RECORD_MORE = (
    "record more (the same record.py command with a larger --num_episodes, or record_gen_samples.py"
    " with a larger --num_samples, adds to its store)"
)
"""Advice on enlarging a store, for error messages."""


def shard_ranges(total: int, size: int, grown_from: Sequence[int] = ()) -> list[range]:
    """Episode numbers of each shard.

    Args:
        total: number of episodes.
        size: episodes per shard at most.
        grown_from: earlier sizes of the store, at which shards end early.

    Returns:
        One range per shard.
    """
    stretches = pairwise([0, *grown_from, total])
    return [
        range(first, min(first + size, end)) for begin, end in stretches for first in range(begin, end, size)
    ]


class Extent(NamedTuple):
    """Planned size of a store.

    Attributes:
        total: number of episodes.
        grown_from: earlier sizes of the store, at which shards end early.
        there: episodes that exist, if these are more than requested; else None.
    """

    total: int
    grown_from: tuple[int, ...] = ()
    there: int | None = None


def extent(path: StorePath, section: str, count: str, asked: int, size: int) -> Extent:
    """Size of a store if `asked` episodes are requested of it.

    Args:
        path: the store's directory, which may not exist yet.
        section: manifest entry that describes the recording.
        count: name of the planned number of episodes in it.
        asked: requested number of episodes.
        size: episodes per shard.

    Raises:
        UsageError: the store was planned larger and has fewer episodes than requested so far, or another
            process writes its last shard.
    """
    path = store_path(path)
    if not (path / "manifest.json").exists():
        return Extent(asked)
    source = path / "manifest.json"
    manifest = read_manifest(path)
    if section not in manifest:
        raise UsageError(f"{path} is in use: it holds a store that another script made; choose another place")
    planned = look_up(manifest, f"{section}.{count}", int, source, BadStore)
    before = tuple(look_up({GROWN: []} | manifest[section], GROWN, list[int], source, BadStore))
    if asked < planned:
        return Extent(planned, before, _enough(path, planned, asked))
    if asked == planned:
        return Extent(asked, before)
    last = len(shard_ranges(planned, size, before)) - 1
    try:
        with lock(path / f".shard_{last:05d}.lock"):
            partial = (planned - (before[-1] if before else 0)) % size
            return Extent(
                asked, (*before, planned) if partial and entry_path(path, last).exists() else before
            )
    except Locked as holder:
        raise UsageError(
            f"shard {last} of {path} is being made by {holder}: wait for it or stop it, then run"
            " this command again"
        ) from holder


def _enough(path: StorePath, planned: int, asked: int) -> int:
    there = sum(read_entry(entry)["num_episodes"] for entry in sorted(path.glob("shard_*.json")))
    if there < asked:
        raise UsageError(
            f"{path} was begun with {counted(planned, 'episode')} and has {there}, fewer than the"
            f" {asked} asked for: give {planned} or more"
        )
    return there
