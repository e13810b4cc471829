"""Cross-causation: the mean gradient of each direction's score at a step with respect to all scores some
steps earlier, over all samples, clusters of episodes, and samples with extreme scores.

Reads the Jacobians of analysis/jacobian_analysis_precompute.py. An entry is tested for a mean of zero by
flipping the signs of whole groups of samples, and, in a subset, for a difference from the other samples.
Writes results/xcaus_precomp; draw it with analysis/xcorr_and_xcaus_plots.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    jacobians_dir: Path | None = None
    """A finished directory of results/jacobians_precomp; default: the latest."""
    clusters_dir: Path | None = None
    """A finished map of the same simulated store, such as combined_agent_env_hx_analysis; means are also
    taken over the episodes of each behaviour.
    """
    norm_quantile: float = 0.95
    """At each lag, Jacobians with a norm beyond this quantile of the samples' norms are scaled down to it: a
    few explode and would dominate the mean. 1 keeps all as they are.
    """
    extrema_steps: tuple[int, ...] = (0, 2, 4)
    """Steps at which samples with extreme scores are selected; no word for none."""
    extrema_quantile: float = 0.02
    """Share of the samples at either end of a score that count as extreme."""
    resamples: int = 1000
    """Bootstrap resamples of start episodes, for intervals."""
    fdr: float = 0.1
    """False discovery rate (Benjamini-Hochberg) over all lags and pairs: of all samples and clusters, along
    both paths; and of samples with extreme scores.
    """
    out_dir: Path = Path("results")
    """Directory that receives xcaus_precomp."""
    seed: int = 0
    """Seed of the bootstrap."""
    new: bool = False
    """Recompute a finished step."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.lagged.cross_causation import (
    NAME,
    PATHS,
    VERSION,
    cluster_samples,
    extreme_subsets,
    made_of_jacobians,
    mean_jacobians,
    summarise,
    write_means,
)
from analysis.lagged.stored_jacobians import find_jacobians
from common.runs import Run, UsageError
from interpret.attribution.mean_jacobians import limit_norms
from interpret.attribution.stored_jacobians import StoredJacobians


def main(args: Args) -> None:
    check_flags(args)
    stored = find_jacobians(args.out_dir, args.jacobians_dir)
    beyond = [step for step in args.extrema_steps if step > stored.numbers["step"]]
    if beyond:
        raise UsageError(
            f"--extrema_steps {beyond[0]} is after step {stored.numbers['step']}, whose scores these "
            "Jacobians are of: give earlier ones"
        )
    inputs = {"jacobians_dir": stored.directory.name}
    inputs |= {"clusters_dir": args.clusters_dir.resolve().name} if args.clusters_dir else {}
    names = ("norm_quantile", "extrema_steps", "extrema_quantile", "resamples", "fdr", "seed")
    run = open_step(
        args.out_dir, NAME, VERSION, {name: getattr(args, name) for name in names}, inputs, args.new
    )
    if run.done:
        point_latest(run)
    else:
        compute(args, run, stored)
    logging.info("cross-causation: %s", run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, resamples=20)
    for name, most in (("fdr", 1), ("norm_quantile", 1 + 1e-9), ("extrema_quantile", 0.5)):
        if not 0 < getattr(args, name) < most:
            limit = f"above 0 and {'at most' if most > 1 else 'below'} {most:g}"
            raise UsageError(f"--{name} is {getattr(args, name)}: give a number {limit}")
    if any(step < 0 for step in args.extrema_steps):
        raise UsageError(f"--extrema_steps {min(args.extrema_steps)}: steps count from 0")


def compute(args: Args, run: Run, stored: StoredJacobians) -> None:
    """Computes the mean Jacobians of all subsets, then finishes the run with its numbers."""
    groups = stored.samples["group"]
    jacobians = {path: limit_norms(stored.in_scores(path), args.norm_quantile) for path in PATHS}
    clusters = cluster_samples(stored, args.clusters_dir)
    extremes = extreme_subsets(stored, args.extrema_steps, args.extrema_quantile)
    for subsets, what in ((clusters, "clusters"), (extremes, "sets of extreme samples")):
        if subsets.left_out:
            logging.warning("%d %s have too few samples and are left out", len(subsets.left_out), what)
    circular = made_of_jacobians(args.clusters_dir)
    tests = args.resamples, args.seed
    means = mean_jacobians(jacobians, groups, clusters.kept, *tests, compare=not circular)
    ends = mean_jacobians({"total": jacobians["total"]}, groups, extremes.kept, *tests)
    rows, extrema = (
        summarise(found, write_means(run, found, args.fdr), stored.names) for found in (means, ends)
    )
    facts = ("step", "lags", "names", "directions", "method", "n", "store", "levels")
    finish_step(
        run,
        {name: stored.numbers[name] for name in facts}
        | {"sets": rows, "extrema": extrema, "left_out": clusters.left_out + extremes.left_out}
        | {"fdr": args.fdr, "norm_quantile": args.norm_quantile, "extrema_quantile": args.extrema_quantile}
        | {"circular": circular, "jacobians": stored.directory.name},
    )


if __name__ == "__main__":
    run_main(main, ARGS)
