"""Copies a store into full shards: python -m rollouts.compact data/coinrun --target data/compacted

A store that has grown, or that many jobs have filled, has short shards; the copy has none. Episodes, their
order and their bits stay the same. Source and target may be on any file system (s3://bucket/name). The same
command resumes.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    source: tyro.conf.Positional[Path]
    """The store to copy."""
    target: Path
    """Where the copy goes."""
    episodes_per_shard: int = 256
    """Episodes in each shard of the copy but the last."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from rollouts.fields import episode_fields
from rollouts.growth import shard_ranges
from rollouts.labels import FOLDER
from rollouts.remote import StorePath, store_path
from rollouts.store import Rollouts, create_store, unwritten, write_shard

OWN = ("kind", "schema", "made")
"""Entries of a manifest that every store makes for itself."""


def main(args: Args) -> None:
    if args.episodes_per_shard < 1:
        raise UsageError(f"--episodes_per_shard is {args.episodes_per_shard}: give 1 or more")
    if store_path(args.source) == store_path(args.target):
        raise UsageError("--target is the source: give another place for the copy")
    source = Rollouts.open(args.source)
    planned = (source.manifest.get("plan") or {}).get("num_episodes", 0)
    if planned > len(source):
        raise UsageError(
            f"{source.path} has {len(source)} of {planned} episodes, and a copy cannot grow: finish it"
            " first, by the command that records it"
        )
    compact(source, args.target, args.episodes_per_shard)
    copy = Rollouts.open(args.target)
    sizes = [sum(entry["data"]["bytes"] for entry in store.entries) / 2**20 for store in (source, copy)]
    logging.info(
        "%s: %s, %.1f MiB; %s: %s, %.1f MiB",
        source.path,
        counted(len(source.entries), "shard"),
        sizes[0],
        copy.path,
        counted(len(copy.entries), "shard"),
        sizes[1],
    )
    if (source.path / FOLDER).exists():
        logging.info("labels are not copied: label.py makes them again")


def compact(source: Rollouts, target: StorePath, size: int) -> None:
    """Copies a store into shards of `size` episodes. Raises UsageError if the target is of other episodes.

    The copy does not grow: record.py refuses it, because its shards are not those of the plan.
    """
    about = {name: value for name, value in source.manifest.items() if name not in OWN}
    create_store(target, about | {"compacted": {"store": source.id, "episodes_per_shard": size}})
    ranges = shard_ranges(len(source), size)
    with progress_bar(total=len(ranges), unit="shard", desc="compact") as bar:
        for index in unwritten(target, range(len(ranges))):
            write_shard(target, index, *_part(source, ranges[index]))
            bar.update(1)


def _part(source: Rollouts, episodes: range) -> tuple[dict, dict]:
    """Steps and table of some episodes, as `write_shard` takes them."""
    read = [source.episode(i) for i in episodes]
    for one in read:
        one["hidden"] = one["hidden"][:-1]
    steps = {name: np.concatenate([one[name] for one in read]) for name in source.step_fields}
    rows = slice(episodes.start, episodes.stop)
    return steps, {name: source.episodes[name][rows] for name in episode_fields(source.manifest)}


if __name__ == "__main__":
    run_main(main, ARGS)
