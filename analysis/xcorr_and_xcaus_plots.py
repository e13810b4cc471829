"""Draws lagged correlations and cross-causation from their artefacts: matrices by lag, all clusters, and the
strongest pairs.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    draw: tuple[Literal["xcorr", "xcaus"], ...] = ("xcorr", "xcaus")
    """What to draw: lagged correlations, cross-causation, or both; what has not been computed is skipped."""
    precomp_dir: Path | None = None
    """Directory of finished lagged correlations; default: the latest in <out_dir>/xcorr_precomp."""
    xcaus_dir: Path | None = None
    """Directory of finished cross-causation; default: the latest in <out_dir>/xcaus_precomp."""
    shown_lags: tuple[int, ...] = (0, 1, 2, 4, 6, 10)
    """Lags that have a matrix; cross-causation begins at lag 1."""
    overview_lag: int = 1
    """Lag at which clusters are compared."""
    order: Literal["clustered", "fitted"] = "clustered"
    """Order of scores: hierarchically clustered, or as their directions were fit."""
    gradient_check: Path | None = None
    """gradient_check.json of the same world model: gradients that it does not confirm are drawn without
    colour.
    """
    results: Path | None = None
    """Also write the numbers of cross-causation to this JSON file, for documentation pages to quote."""
    images: Path | None = None
    """Also copy the figures of cross-causation over all samples and over clusters to this directory."""
    out_dir: Path = Path("results")
    """Directory that holds the artefacts and receives xcorr_plots and xcaus_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.publish import publish
from analysis.io.steps import LATEST, find_step, read_numbers, read_part
from analysis.lagged import cross_causation, store_correlations
from analysis.lagged.cross_causation import read_means
from analysis.lagged.figures import (
    clustered_order,
    draw_matrices,
    draw_overview,
    draw_pairs,
    effect_order,
    symmetric_at_lag_0,
)
from analysis.lagged.matrices import FigureText
from analysis.lagged.store_correlations import ALL, from_arrays, part_name
from analysis.lagged.xcaus_figures import (
    Scores,
    draw_extremes,
    draw_paths,
    draw_strongest,
    draw_subsets,
)
from analysis.plotting.style import REAL, SIMULATED
from analysis.rendering.path_trust import untrusted_paths
from common.runs import UsageError


def main(args: Args) -> None:
    chosen = {"xcorr": args.precomp_dir, "xcaus": args.xcaus_dir}
    wanted = [
        kind for kind in args.draw if chosen[kind] or (args.out_dir / f"{kind}_precomp" / LATEST).exists()
    ]
    for kind in wanted or args.draw[:1]:  # without any, the first says how to compute it
        {"xcorr": draw_correlations, "xcaus": draw_effects}[kind](args)


def draw_correlations(args: Args) -> None:
    """Draws lagged correlations."""
    step = store_correlations.NAME, store_correlations.VERSION, store_correlations.COMMAND
    directory = find_step(args.out_dir, *step, args.precomp_dir)
    about = read_numbers(directory)
    correlations = {name: from_arrays(read_part(directory, part_name(name))) for name in about["sets"]}
    marks = read_part(directory, "significant")
    lags = shown_lags(args, len(correlations[ALL].pairs) - 1)
    names = about["names"]
    order = np.arange(len(names))
    if args.order == "clustered":
        order = clustered_order(correlations[ALL].correlation[0])
    plots = args.out_dir / f"{store_correlations.NAME}_plots" / directory.name
    kind, look = ("Simulated", SIMULATED) if about["simulated"] else ("Recorded", REAL)
    for name, found in correlations.items():
        significant = symmetric_at_lag_0(marks[part_name(name)])
        n = f"{found.episodes:,} episodes, {found.pairs[0]:,} steps"
        text = FigureText(f"{kind} episodes, {'all' if name == ALL else name}.", n, about["levels"])
        path = plots / part_name(name)
        draw_matrices(found, significant, names, order, lags, text, path)
        draw_pairs(found, significant, names, look, text, path.with_name(f"{path.name}_pairs"))
    if len(correlations) > 1:
        n = f"{correlations[ALL].episodes:,} episodes, {correlations[ALL].pairs[0]:,} steps"
        text = FigureText(f"{kind} episodes.", n, about["levels"])
        draw_overview(correlations, order, args.overview_lag, text, plots / "clusters")
    logging.info("figures of %d subsets: %s", len(correlations), plots)


def draw_effects(args: Args) -> None:
    """Draws cross-causation."""
    step = cross_causation.NAME, cross_causation.VERSION, cross_causation.COMMAND
    directory = find_step(args.out_dir, *step, args.xcaus_dir)
    about = read_numbers(directory)
    lags = shown_lags(args, about["lags"] - 1, 1)
    sets = {name: read_means(directory, name) for name in about["sets"]}
    order = np.arange(len(about["names"]))
    if args.order == "clustered":
        order = effect_order(sets[ALL]["mean/total"][args.overview_lag])
    scores = Scores(about["names"], order)
    plots = args.out_dir / f"{cross_causation.NAME}_plots" / directory.name
    greyed = untrusted_paths(args.gradient_check) if args.gradient_check else ()
    drawn = []
    for name, arrays in sets.items():
        path = plots / f"effects_{part_name(name)}"
        text = effects_text(about, name)
        drawn.append(draw_paths(arrays, scores, lags, text, path, greyed))
        drawn.append(draw_strongest(arrays, scores, text, path.with_name(f"{path.name}_strongest")))
    if len(sets) > 1:
        text = effects_text(about, ALL)
        for which in cross_causation.PATHS:
            path = plots / f"effects_clusters_{which}"
            drawn.append(draw_subsets(sets, which, scores, args.overview_lag, text, path))
    draw_extremes_by_step(args, about, directory, scores, sets[ALL], plots)
    shown = [path for path in drawn if path and path.name.startswith((f"effects_{ALL}", "effects_clusters"))]
    publish(args, {name: x for name, x in about.items() if name != "extrema"}, shown)


def draw_extremes_by_step(
    args: Args, about: dict, directory: Path, scores: Scores, whole, plots: Path
) -> None:
    """A figure for each step at which extreme samples were selected."""
    for step in sorted({int(name.split()[-1]) for name in about["extrema"]}):
        suffix = f" at step {step}"
        ends = {
            name.removesuffix(suffix): read_means(directory, name)
            for name in about["extrema"]
            if name.endswith(suffix)
        }
        share = f"{about['extrema_quantile']:.0%}"
        first = f"Simulated episodes in the highest or lowest {share} of a score at step {step}."
        text = FigureText(first, about["n"], about["levels"])
        draw_extremes(ends, whole, scores, args.overview_lag, text, plots / f"extremes_step_{step}")


def effects_text(about: dict, name: str) -> FigureText:
    """Caption of the mean Jacobians of a set of samples."""
    row = about["sets"][name]
    first = (
        f"Mean gradients of scores at step {about['step']} of simulated episodes, "
        f"{'all' if name == ALL else name}."
    )
    if about["norm_quantile"] < 1:
        first += f" Norms are limited to their {about['norm_quantile']:.0%} quantile."
    if name != ALL and about["circular"]:
        first += " Clusters are of these Jacobians, and are not tested for differences."
    n = f"{row['samples']:,} simulated episodes from {row['groups']:,} start episodes"
    return FigureText(first, n, about["levels"])


def shown_lags(args: Args, largest: int, least: int = 0) -> list[int]:
    """The lags to draw that were computed. Raises UsageError if there is none, or for the overview's lag."""
    lags = [lag for lag in args.shown_lags if least <= lag <= largest]
    if not lags or not least <= args.overview_lag <= largest:
        raise UsageError(
            f"lags from {least} to {largest} were computed: choose --shown_lags and --overview_lag among them"
        )
    return lags


if __name__ == "__main__":
    run_main(main, ARGS)
