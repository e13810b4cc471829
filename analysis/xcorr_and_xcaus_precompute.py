"""Lagged correlations between the scores of directions, within episodes: of all episodes of a store, and of each cluster of them.

Every correlation is held against two nulls (the later score turned round within its episode; that of another episode), and marked where
it differs from both, at a false discovery rate over all that is tested. Writes results/xcorr_precomp.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    directions: Path | None = None
    """Saved directions of the agent's hidden state, whose scores are correlated; left out, those of the latest hidden-state analysis in
    <out_dir>: independent components or, where they could not be fit, the next method that could."""
    data_dir: Path = Path("data")
    """Store of rollouts, real or simulated."""
    env_directions: Path | None = None
    """Saved directions of the environment's state (of a simulated store), whose scores are taken alongside."""
    clusters_dir: Path | None = None
    """A finished map of the same simulated store, such as combined_agent_env_hx_analysis: the same is done for the episodes of each behaviour."""
    lags: int = 10
    """The largest lag, in steps."""
    num_episodes: int = 2000
    """At most so many episodes, spread evenly over the store."""
    null: Literal["both", "shift", "pairing"] = "both"
    """What a correlation must differ from: shifts within the episode, pairs of different episodes, or either."""
    draws: int = 199
    """Draws from each null."""
    rate: float = 0.1
    """False discovery rate of the marks (Benjamini-Hochberg), over all sets, lags and pairs together."""
    out_dir: Path = Path("results")
    """Where xcorr_precomp is written."""
    seed: int = 0
    """Which episodes, and the draws of the nulls."""
    new: bool = False
    """Make it again where it is done."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.artefacts import part
from analysis.hidden_numbers import COMMAND as STEP_COMMAND, STEP, VERSION as STEP_VERSION, choose_method
from analysis.limits import Limit, fit_sizes
from analysis.points import subsample
from analysis.sampled_states import levels_of, steps_of
from analysis.steps import find_step, finish_step, open_step, point_latest
from analysis.xcorr import ALL, NAME, VERSION, as_arrays, from_arrays, joint_scores, judged, large_enough, members, summary
from common.progress import progress_bar
from common.runs import Run, UsageError, read_config
from common.words import counted
from interpret.directions import Directions, load_directions
from interpret.lagged import NULLS, check_episodes, lagged
from rollouts.store import Rollouts


def main(args: Args) -> None:
    if args.lags < 0 or not 0 < args.rate < 1:
        raise UsageError(f"--lags {args.lags} and --rate {args.rate}: give lags from 0 on and a rate between 0 and 1")
    rollouts = Rollouts.open(args.data_dir)
    given = {"hidden_after": args.directions, "env_state": args.env_directions}
    fields = {"hidden_after": fitted_directions(args)} if args.directions is None else {}
    fields |= {field: load_directions(path) for field, path in given.items() if path is not None}
    args = fit_sizes(args, limits(args, rollouts))
    inputs = {"data_dir": rollouts.id} | {field: found.id for field, found in fields.items()}
    inputs |= {"clusters_dir": args.clusters_dir.resolve().name} if args.clusters_dir else {}
    asked = {name: getattr(args, name) for name in ("lags", "num_episodes", "null", "draws", "rate", "seed")}
    run = open_step(args.out_dir, NAME, VERSION, asked, inputs, args.new)
    if run.done:
        point_latest(run)
    else:
        compute(args, rollouts, fields, run)
    logging.info("lagged correlations: %s", run.dir)


def limits(args: Args, rollouts: Rollouts) -> dict[str, Limit]:
    """The lags that the chosen episodes carry. Raises UsageError for fewer episodes than a null takes."""
    episodes = chosen_episodes(args, rollouts)
    check_episodes(len(episodes))
    longest = int(rollouts.episodes["length"][episodes].max())
    return {"lags": Limit(longest - 1, f"the longest episode has {counted(longest, 'step')}", 0)}


def chosen_episodes(args: Args, rollouts: Rollouts) -> np.ndarray:
    """Numbers of the episodes that are read."""
    return subsample(np.arange(len(rollouts)), args.num_episodes, args.seed)


def fitted_directions(args: Args) -> Directions:
    """Those of the latest hidden-state analysis. As many principal components as it was to fit independent ones where these were left out."""
    directory = find_step(args.out_dir, STEP, STEP_VERSION, STEP_COMMAND)
    method = choose_method(directory)
    directions = load_directions(directory / f"{method}.safetensors")
    logging.info("directions: %s of %s", method, directory)
    return directions.first(read_config(directory)["components"]) if method == "pca" else directions


def compute(args: Args, rollouts: Rollouts, fields: dict[str, Directions], run: Run) -> None:
    kept = steps_of(rollouts, chosen_episodes(args, rollouts))
    scored, names = joint_scores(rollouts, kept, fields)
    episode = rollouts.step_table()[kept, 0]
    length = np.bincount(np.unique(episode, return_inverse=True)[1])
    sets, small = large_enough(members(rollouts, kept, args.clusters_dir), episode)
    if small:
        logging.warning("%d clusters have too few of these episodes and are left out: %s", len(small), ", ".join(small))
    nulls = tuple(NULLS) if args.null == "both" else (args.null,)
    found = {}
    for name, member in progress_bar(sets.items(), unit="set", desc="correlate"):
        arrays = part(run, name.replace(" ", "_"), lambda: as_arrays(lagged(scored, length, args.lags, member, nulls, args.draws, args.seed)))
        found[name] = from_arrays(arrays)
    stands = judged(found, args.rate)
    part(run, "stands", lambda: {name.replace(" ", "_"): marks for name, marks in stands.items()})
    rows = summary(found, stands, names)
    if not rows[ALL]["tests"]:
        raise UsageError(f"no two scores of {rollouts.path} vary together at any lag: nothing can be correlated; check what was recorded")
    logging.info("%d of %d correlations of all episodes stand", rows[ALL]["stand"], rows[ALL]["tests"])
    finish_step(run, {
        "names": names, "sets": rows, "left_out": small, "rate": args.rate, "null": args.null, "draws": args.draws, "steps": len(scored),
        "simulated": rollouts.simulated, "levels": levels_of(rollouts, kept), "store": rollouts.id,
        "directions": {field: directions.id for field, directions in fields.items()},
    })  # fmt: skip


if __name__ == "__main__":
    run_main(main, ARGS)
