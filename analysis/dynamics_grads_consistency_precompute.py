"""Do gradients tell the same story as the dynamics? Signs and magnitudes of mean Jacobians against lagged
correlations of the same scores in the same episodes, for all episodes and for each behaviour.

Reads the Jacobians of analysis/jacobian_analysis_precompute.py. Agreement is compared with that of relabelled
directions, which keeps the share of each sign: with biased signs, chance is not one half. Draw the artefacts
with analysis/dynamics_grads_consistency_plots.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    jacobians_dir: Path | None = None
    """A finished directory of results/jacobians_precomp; default: the latest."""
    clusters_dir: Path | None = None
    """A finished map of the same simulated store, such as combined_agent_env_hx_analysis; each behaviour is
    then compared by itself.
    """
    lags: int = 10
    """Largest lag, in steps; at most that of the Jacobians."""
    norm_quantile: float = 0.95
    """At each lag, Jacobians with a norm beyond this quantile of the samples' norms are scaled down to it; 1
    keeps all as they are.
    """
    null: Literal["both", "shift", "pairing"] = "both"
    """Null of the correlations: shifts within the episode, pairs of different episodes, or both."""
    draws: int = 199
    """Surrogates of each null of the correlations."""
    permutations: int = 2000
    """Relabellings of the directions, the null of the agreement."""
    resamples: int = 500
    """Bootstrap resamples of start episodes, for intervals."""
    fdr: float = 0.1
    """False discovery rate (Benjamini-Hochberg) of the entries that count, and of the agreements."""
    out_dir: Path = Path("results")
    """Directory that receives dynamics_grads_consistency_precomp."""
    seed: int = 0
    """Seed of surrogates, relabellings and resamples."""
    new: bool = False
    """Recompute a finished step."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.lagged.consistency import (
    NAME,
    VERSION,
    Members,
    consistency,
    consistency_rows,
    correlation_signs,
    mark_significant,
    significant_by_subset,
)
from analysis.lagged.cross_causation import PATHS, cluster_samples
from analysis.lagged.store_correlations import as_arrays, from_arrays, part_name
from analysis.lagged.stored_jacobians import find_jacobians
from common.progress import progress_bar
from common.runs import Run, UsageError
from common.words import counted
from interpret.attribution.mean_jacobians import limit_norms
from interpret.attribution.sign_agreement import relabellings
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.lagged import NULLS, LaggedCorrelations, discoveries, lagged_correlations


def main(args: Args) -> None:
    check_flags(args)
    stored = find_jacobians(args.out_dir, args.jacobians_dir)
    step = stored.numbers["step"]
    args = fit_sizes(args, {"lags": Limit(step, f"the Jacobians reach back {counted(step, 'step')}")})
    if len(stored.names) < 3:
        raise UsageError(
            f"{counted(len(stored.names), 'direction')} cannot be relabelled: the null needs 3 or more"
        )
    inputs = {"jacobians_dir": stored.directory.name}
    inputs |= {"clusters_dir": args.clusters_dir.resolve().name} if args.clusters_dir else {}
    names = ("lags", "norm_quantile", "null", "draws", "permutations", "resamples", "fdr", "seed")
    run = open_step(
        args.out_dir, NAME, VERSION, {name: getattr(args, name) for name in names}, inputs, args.new
    )
    if run.done:
        point_latest(run)
    else:
        compute(args, run, stored)
    logging.info("consistency of gradients and dynamics: %s", run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, lags=1, permutations=20, resamples=20)
    for name, most in (("fdr", 1), ("norm_quantile", 1 + 1e-9)):
        if not 0 < getattr(args, name) < most:
            limit = f"above 0 and {'at most' if most > 1 else 'below'} {most:g}"
            raise UsageError(f"--{name} is {getattr(args, name)}: give a number {limit}")


def compute(args: Args, run: Run, stored: StoredJacobians) -> None:
    """Compares every subset of samples, then finishes the run with its numbers."""
    subsets = cluster_samples(stored, args.clusters_dir)
    if subsets.left_out:
        logging.warning("clusters with too few samples are left out: %s", ", ".join(subsets.left_out))
    whole = all_members(args, stored)
    members = {name: whole.subset(member) for name, member in subsets.kept.items()}
    correlations = correlate(args, run, members)
    correlated = dict(
        zip(correlations, discoveries(np.stack([found.p[1:] for found in correlations.values()]), args.fdr))
    )
    caused = significant_by_subset({name: one.p_values() for name, one in members.items()}, args.fdr)
    orders = relabellings(len(stored.names), args.permutations, args.seed)
    rows = {}
    for name, one in progress_bar(members.items(), unit="subset", desc="compare"):
        marks = np.concatenate([np.zeros_like(correlated[name][:1]), correlated[name]])
        theirs = correlation_signs(correlations[name], marks)
        found = {
            path: consistency(
                one, path, caused[name][path], correlations[name], theirs, orders, args.resamples, args.seed
            )
            for path in PATHS
        }
        arrays = {"correlation": correlations[name].correlation[1:].astype(np.float32)}
        arrays |= {f"jacobian/{path}": mean.astype(np.float32) for path, mean in one.means().items()}
        arrays |= {
            f"agreement/{path}": (x.jacobian_signs * theirs).astype(np.int8) for path, x in found.items()
        }
        cached_part(run, part_name(name), lambda arrays=arrays: arrays)
        rows[name] = {
            "samples": len(one.group),
            "groups": len(np.unique(one.group)),
            "paths": {path: consistency_rows(x) for path, x in found.items()},
        }
    mark_significant(
        [row for one in rows.values() for lags in one["paths"].values() for row in lags[:-1]], args.fdr
    )
    mark_significant([lags[-1] for one in rows.values() for lags in one["paths"].values()], args.fdr)
    facts = ("step", "names", "directions", "method", "n", "store", "levels")
    finish_step(
        run,
        {name: stored.numbers[name] for name in facts}
        | {"lags": args.lags, "sets": rows, "left_out": subsets.left_out, "fdr": args.fdr, "null": args.null}
        | {"permutations": args.permutations, "norm_quantile": args.norm_quantile}
        | {"jacobians": stored.directory.name},
    )


def all_members(args: Args, stored: StoredJacobians) -> Members:
    """All samples, with their Jacobians at the lags that are compared."""
    samples = stored.samples
    jacobians = {
        path: limit_norms(stored.in_scores(path)[:, 1 : args.lags + 1], args.norm_quantile) for path in PATHS
    }
    return Members(jacobians, samples["group"], samples["scores"], samples["length"])


def correlate(args: Args, run: Run, members: dict[str, Members]) -> dict[str, LaggedCorrelations]:
    """{subset: correlations}, each saved as a part of the run."""
    nulls = tuple(NULLS) if args.null == "both" else (args.null,)
    correlations = {}
    for name, one in progress_bar(members.items(), unit="subset", desc="correlate"):

        def fit(one: Members = one) -> dict[str, np.ndarray]:
            return as_arrays(
                lagged_correlations(one.scores, one.length, args.lags, None, nulls, args.draws, args.seed)
            )

        correlations[name] = from_arrays(cached_part(run, f"correlations_{part_name(name)}", fit))
    return correlations


if __name__ == "__main__":
    run_main(main, ARGS)
