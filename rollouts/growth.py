"""A store can grow: the same command with a larger number adds shards, and those that are there stay as they are."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from common.descriptions import look_up
from common.locks import Locked, held
from common.runs import UsageError
from common.words import counted
from rollouts.manifest import read_manifest
from rollouts.shard import BadStore, entry_path, read_entry

GROWN = "grown_from"
RECORD_MORE = "record more (the same record.py command with a larger --num_episodes, or record_gen_samples.py with a larger --num_samples, adds to its store)"
"""How to get a store that carries more, for messages."""


def shard_ranges(total: int, size: int, grown_from: Sequence[int] = ()) -> list[range]:
    """The numbers of the episodes of each shard, at most `size` each. grown_from: where a shard ends early, as the store ended there before."""
    stretches = pairwise([0, *grown_from, total])
    return [range(first, min(first + size, end)) for begin, end in stretches for first in range(begin, end, size)]


class Extent(NamedTuple):
    """How many episodes a store is to hold, where shards of it end early, and how many it holds if those are more than were asked for."""

    total: int
    grown_from: tuple[int, ...] = ()
    there: int | None = None


def extent(path: Path, section: str, count: str, asked: int, size: int) -> Extent:
    """The extent of a store that is asked to hold `asked` episodes in shards of `size`; its manifest says under section.count how many are planned.

    Raises UsageError for a store planned larger that holds fewer yet, and while another process makes the shard that was to be the last.
    """
    path = Path(path)
    if not (path / "manifest.json").exists():
        return Extent(asked)
    source, manifest = path / "manifest.json", read_manifest(path)
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
        with held(path / f".shard_{last:05d}.lock"):
            partial = (planned - (before[-1] if before else 0)) % size
            return Extent(asked, (*before, planned) if partial and entry_path(path, last).exists() else before)
    except Locked as holder:
        raise UsageError(f"shard {last} of {path} is being made by {holder}: wait for it or stop it, then run this command again") from holder


def _enough(path: Path, planned: int, asked: int) -> int:
    there = sum(read_entry(entry)["num_episodes"] for entry in sorted(path.glob("shard_*.json")))
    if there < asked:
        raise UsageError(f"{path} was begun with {counted(planned, 'episode')} and has {there}, fewer than the {asked} asked for: give {planned} or more")
    return there
