"""Labels a store of real rollouts with the truth behind its frames, found by replaying the game.

Writes <data_dir>/labels/: per step the position of the view, the player's velocity and, for CoinRun, contact
and a map of the tiles in view, about 250 bytes per step (600,000 steps: 150 MB). World models train on them.
The same command resumes; array jobs share a store by --shards.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path
    """Store that record.py wrote."""
    shards: tuple[int, int] | None = None
    """First and last shard to label, inclusive, for array jobs; default: all."""
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from common.runs import UsageError
from common.words import counted
from rollouts.labelling import label
from rollouts.labels import FOLDER
from rollouts.store import Rollouts


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    shards = chosen_shards(rollouts, args.shards)
    summary = label(rollouts, shards, args.num_threads)
    if summary.steps:
        logging.info(
            "%s labelled, %s per second",
            counted(summary.steps, "step"),
            f"{summary.steps / summary.seconds:,.0f}",
        )
    logging.info("%s: %d of %d shards are done", args.data_dir / FOLDER, len(shards), len(rollouts.entries))


def chosen_shards(rollouts: Rollouts, chosen: tuple[int, int] | None) -> list[int]:
    """All shards of the store, or those from the first to the last of `chosen`, inclusive."""
    stored = [entry["shard"] for entry in rollouts.entries]
    if chosen is None:
        return stored
    first, last = chosen
    asked = [index for index in stored if first <= index <= last]
    if not asked or first not in stored or last not in stored:
        raise UsageError(
            f"shards {first} to {last} asked; {rollouts.path} has shards {stored[0]} to {stored[-1]}"
        )
    return asked


if __name__ == "__main__":
    run_main(main, ARGS)
