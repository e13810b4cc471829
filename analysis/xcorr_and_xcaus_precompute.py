"""Lagged correlations between direction scores, over a whole store and over clusters of episodes.

Each correlation is tested against two nulls: the later score circularly shifted within its episode, and the
later score of another episode. Significance is at one false discovery rate over everything that is tested.
Writes results/xcorr_precomp; draw it with analysis/xcorr_and_xcaus_plots.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    directions: Path | None = None
    """Saved directions of the agent's hidden state; default: those of the latest hidden-state analysis in
    <out_dir>, by ICA or, if that was not fit, by PCA.
    """
    data_dir: Path = Path("data")
    """Store of rollouts, real or simulated."""
    env_directions: Path | None = None
    """Saved directions of the environment state of a simulated store, whose scores are included."""
    clusters_dir: Path | None = None
    """A finished map of the same simulated store, such as combined_agent_env_hx_analysis; the correlations
    are also computed for the episodes of each behaviour.
    """
    lags: int = 10
    """Largest lag, in steps."""
    num_episodes: int = 2000
    """Largest number of episodes, spread evenly over the store."""
    null: Literal["both", "shift", "pairing"] = "both"
    """Null: shifts within the episode, pairs of different episodes, or both."""
    draws: int = 199
    """Surrogates of each null."""
    fdr: float = 0.1
    """False discovery rate (Benjamini-Hochberg) over all subsets, lags and pairs."""
    out_dir: Path = Path("results")
    """Directory that receives xcorr_precomp."""
    seed: int = 0
    """Seed of the choice of episodes and of the surrogates."""
    new: bool = False
    """Recompute a finished step."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, fit_sizes
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.lagged.store_correlations import (
    ALL,
    NAME,
    VERSION,
    as_arrays,
    episode_subsets,
    from_arrays,
    joint_scores,
    large_enough,
    latest_directions,
    part_name,
    significant_correlations,
    summarise_correlations,
)
from analysis.maps.step_fields import levels_in_words, steps_mask
from common.progress import progress_bar
from common.runs import Run, UsageError
from common.words import counted
from interpret.directions.directions import Directions, load_directions
from interpret.lagged import NULLS, LaggedCorrelations, check_episodes, lagged_correlations
from interpret.subsample import subsample
from rollouts.store import Rollouts


def main(args: Args) -> None:
    if args.lags < 0:
        raise UsageError(f"--lags is {args.lags}: give 0 or more")
    if not 0 < args.fdr < 1:
        raise UsageError(f"--fdr is {args.fdr}: give a rate between 0 and 1")
    rollouts = Rollouts.open(args.data_dir)
    fields = load_fields(args)
    args = fit_sizes(args, limits(args, rollouts))
    inputs = {"data_dir": rollouts.id} | {field: directions.id for field, directions in fields.items()}
    inputs |= {"clusters_dir": args.clusters_dir.resolve().name} if args.clusters_dir else {}
    names = ("lags", "num_episodes", "null", "draws", "fdr", "seed")
    settings = {name: getattr(args, name) for name in names}
    run = open_step(args.out_dir, NAME, VERSION, settings, inputs, args.new)
    if run.done:
        point_latest(run)
    else:
        compute(args, rollouts, fields, run)
    logging.info("lagged correlations: %s", run.dir)


def limits(args: Args, rollouts: Rollouts) -> dict[str, Limit]:
    """The largest lag that the chosen episodes allow. Raises UsageError for too few episodes for a null."""
    episodes = chosen_episodes(args, rollouts)
    check_episodes(len(episodes))
    longest = int(rollouts.episodes["length"][episodes].max())
    return {"lags": Limit(longest - 1, f"the longest episode has {counted(longest, 'step')}", 0)}


def chosen_episodes(args: Args, rollouts: Rollouts) -> np.ndarray:
    """Indices of the episodes that are read."""
    return subsample(np.arange(len(rollouts)), args.num_episodes, args.seed)


def load_fields(args: Args) -> dict[str, Directions]:
    """{step field: directions that read it}."""
    agent = (
        latest_directions(args.out_dir)[0] if args.directions is None else load_directions(args.directions)
    )
    fields = {"hidden_after": agent}
    if args.env_directions is not None:
        fields["env_state"] = load_directions(args.env_directions)
    return fields


def compute(args: Args, rollouts: Rollouts, fields: dict[str, Directions], run: Run) -> None:
    """Computes the correlations of every subset of episodes, then finishes the run with its numbers."""
    mask = steps_mask(rollouts, chosen_episodes(args, rollouts))
    scores, names = joint_scores(rollouts, mask, fields)
    episode = rollouts.step_table()[mask, 0]
    length = np.bincount(np.unique(episode, return_inverse=True)[1])
    subsets, small = large_enough(episode_subsets(rollouts, mask, args.clusters_dir), episode)
    if small:
        logging.warning(
            "%d clusters have too few episodes and are left out: %s", len(small), ", ".join(small)
        )
    correlations = correlate(args, run, scores, length, subsets)
    significant = significant_correlations(correlations, args.fdr)
    cached_part(run, "significant", lambda: {part_name(name): marks for name, marks in significant.items()})
    rows = summarise_correlations(correlations, significant, names)
    if not rows[ALL]["tests"]:
        raise UsageError(
            f"no two scores of {rollouts.path} vary together at any lag; check the store with: "
            f"python -m rollouts.inspect_store {rollouts.path} --check"
        )
    logging.info("%d of %d correlations are significant", rows[ALL]["significant"], rows[ALL]["tests"])
    about = {
        "names": names,
        "sets": rows,
        "left_out": small,
        "fdr": args.fdr,
        "null": args.null,
        "draws": args.draws,
        "steps": len(scores),
        "simulated": rollouts.simulated,
        "levels": levels_in_words(rollouts, mask),
        "store": rollouts.id,
        "directions": {field: directions.id for field, directions in fields.items()},
    }
    finish_step(run, about)


def correlate(
    args: Args, run: Run, scores: np.ndarray, length: np.ndarray, subsets: dict[str, np.ndarray]
) -> dict[str, LaggedCorrelations]:
    """{subset: correlations}, each saved as a part of the run.

    Args:
        args: lags, null, draws and seed.
        run: receives the parts.
        scores: [n, K].
        length: steps of each episode [E].
        subsets: {name: [n] bool}.
    """
    nulls = tuple(NULLS) if args.null == "both" else (args.null,)
    correlations = {}
    for name, member in progress_bar(subsets.items(), unit="subset", desc="correlate"):

        def fit(member: np.ndarray = member) -> dict[str, np.ndarray]:
            return as_arrays(
                lagged_correlations(scores, length, args.lags, member, nulls, args.draws, args.seed)
            )

        correlations[name] = from_arrays(cached_part(run, part_name(name), fit))
    return correlations


if __name__ == "__main__":
    run_main(main, ARGS)
