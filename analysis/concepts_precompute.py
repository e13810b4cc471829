"""Concepts of every step of a store of CoinRun rollouts: position, velocity, support, what is ahead and how
far, and how the episode ends.

The store's episodes are replayed in the real game and checked frame by frame. Columns are aligned with the
store's steps and written shard by shard to results/concepts_precomp; an unfinished run is resumed. Read them
with analysis.probing.store_concepts.load_concepts.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    out_dir: Path = Path("results")
    """Directory that receives concepts_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.probing.store_concepts import (
    EPISODE_ENDS,
    GROUP,
    VERSION,
    check_store,
    load_concepts,
    part_name,
    run_summary,
    shard_concepts,
)
from common.progress import progress_bar
from common.runs import Run, open_run
from common.words import counted
from rollouts.states import SLOTS, replay_env
from rollouts.store import Rollouts


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts)
    run = open_run(
        args.out_dir / GROUP, "concepts", {"version": VERSION}, args.new, {"data_dir": rollouts.id}
    )
    if not run.done:
        compute(rollouts, run)
        run.finish(run_summary(rollouts))
    first = load_concepts(rollouts, args.out_dir)["end"][rollouts.first_step]
    counts = zip(EPISODE_ENDS, np.bincount(first, minlength=len(EPISODE_ENDS)))
    logging.info(
        "how %s ended: %s",
        counted(len(first), "episode"),
        ", ".join(f"{name} {count}" for name, count in counts if count),
    )
    logging.info("concepts of %s: %s", counted(rollouts.num_steps, "step"), run.dir)


def compute(rollouts: Rollouts, run: Run) -> None:
    """Computes and writes the columns of every shard that has none yet."""
    env = replay_env(rollouts, SLOTS)
    with progress_bar(total=rollouts.num_steps, unit="step", unit_scale=True, desc="concepts") as bar:
        for entry in rollouts.entries:
            begun = bar.n
            cached_part(
                run,
                part_name(entry["shard"]),
                lambda: shard_concepts(rollouts, entry["shard"], env, bar.update),
            )
            bar.update(begun + entry["num_steps"] - bar.n)  # of a shard that is already there
    env.close()


if __name__ == "__main__":
    run_main(main, ARGS)
