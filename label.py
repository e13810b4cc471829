"""Labels a store of real rollouts with the truth behind its frames, found by replaying the game.

Writes <data_dir>/labels/: per step the position of the view, the player's velocity and, for CoinRun, contact
and a map of the tiles in view, about 250 bytes per step (600,000 steps: 150 MB). World models train on them.
The same command resumes; array jobs share a store by --job.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import ALONE, Job, JobFlag, LogLevel


@dataclass
class Args:
    data_dir: Path
    """Store that record.py wrote; may be on any file system (s3://bucket/name)."""
    job: JobFlag = ALONE
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from common.words import counted
from rollouts.labelling import label
from rollouts.labels import FOLDER, entry_path
from rollouts.store import Rollouts


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    shards = Job(*args.job).share([entry["shard"] for entry in rollouts.entries])
    summary = label(rollouts, shards, args.num_threads)
    if summary.steps:
        logging.info(
            "%s labelled, %s per second",
            counted(summary.steps, "step"),
            f"{summary.steps / summary.seconds:,.0f}",
        )
    done = sum(entry_path(rollouts.path, entry["shard"]).exists() for entry in rollouts.entries)
    logging.info("%s: %d of %d shards are done", rollouts.path / FOLDER, done, len(rollouts.entries))


if __name__ == "__main__":
    run_main(main, ARGS)
