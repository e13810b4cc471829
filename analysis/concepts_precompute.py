"""Concepts of every step of a store of CoinRun rollouts: position, velocity, support, what is ahead and how far, and how the episode ends.

The store's episodes are replayed in the real game and checked frame by frame. Columns are aligned with the store's steps and written shard by
shard to results/concepts_precomp; the same command again goes on where it was. Read them with analysis.concepts.load_concepts.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is written."""
    new: bool = False
    """Make them again even where they are done."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.artefacts import part
from analysis.concepts import ENDS, GROUP, VERSION, check_store, load_concepts, part_name, shard_concepts, summary
from common.progress import progress_bar
from common.runs import Run, open_run
from common.words import counted
from rollouts.states import SLOTS, replay_env
from rollouts.store import Rollouts


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts)
    run = open_run(args.out_dir / GROUP, "concepts", {"version": VERSION}, args.new, {"data_dir": rollouts.id})
    if not run.done:
        compute(rollouts, run)
        run.finish(summary(rollouts))
    first = load_concepts(rollouts, args.out_dir)["end"][rollouts.first_step]
    counts = zip(ENDS, np.bincount(first, minlength=len(ENDS)))
    logging.info("how %s ended: %s", counted(len(first), "episode"), ", ".join(f"{name} {count}" for name, count in counts if count))
    logging.info("concepts of %s: %s", counted(rollouts.num_steps, "step"), run.dir)


def compute(rollouts: Rollouts, run: Run) -> None:
    """Writes the columns of every shard that has none yet."""
    env = replay_env(rollouts, SLOTS)
    with progress_bar(total=rollouts.num_steps, unit="step", unit_scale=True, desc="concepts") as bar:
        for entry in rollouts.entries:
            begun = bar.n
            part(run, part_name(entry["shard"]), lambda: shard_concepts(rollouts, entry["shard"], env, bar.update))
            bar.update(begun + entry["num_steps"] - bar.n)  # those of a shard that was there already
    env.close()


if __name__ == "__main__":
    run_main(main, ARGS)
