"""What maps of states cost: clustering with assignment, outliers and every fit of directions as recordings
grow, and t-SNE against scikit-learn's.

Asked is that a million states of width 64 take at most 10 minutes and 6 GB on two cores, all steps together,
and that t-SNE of 50,000 points is four times as fast as scikit-learn's, both run one after the other on the
same points. States as in benchmarks/directions.py. Figures are written after each cell, so that a run that is
stopped leaves those it has.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    counts: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of states; none leaves this part out."""
    width: int = 64
    """Features of each state."""
    num_directions: int = 16
    """Directions to fit; a dictionary has 16 times as many and activates this many at a time."""
    tsne_points: int = 50_000
    """Points of the paired run of t-SNE; 0 leaves it out."""
    num_threads: int = 2
    """Of everything."""
    out_file: Path = Path("benchmarks/results/maps.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from benchmarks.directions import MOST_BYTES, MOST_SECONDS, cell, made_states, with_growth
from benchmarks.simulation import peak_bytes
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import manifest
from interpret.clustering import fit_clusters
from interpret.directions.fitting import sample_of
from interpret.embedding import PERPLEXITY, embed, trustworthiness
from interpret.subsample import inliers, principal_space, scores_of

CLUSTERS = 32
FITS = ("pca", "ica", "nmf", "dictionary")


def outlier_step(x: np.ndarray, groups: np.ndarray) -> float:
    """Finds outliers of states x [n, D]; the share of the variance that is left without them."""
    sample = sample_of(x, groups)
    z = sample.standardised()
    return float(np.square(z[inliers(z).kept]).sum() / np.square(z).sum())


def cluster_step(x: np.ndarray, groups: np.ndarray) -> float:
    """Clusters principal components of x [n, D] and assigns every state; the share of their variance that
    lies between clusters.
    """
    points = scores_of(principal_space(x, groups), x)
    found = fit_clusters(points, groups, CLUSTERS)
    labels = found.assign(points)
    return float(
        1 - np.square(points - found.centres[labels]).sum() / np.square(points - points.mean(0)).sum()
    )


def timed(method: str, work: Callable[[], float], states: int) -> dict:
    """A cell as those of benchmarks.directions: seconds by the clock and of the CPU, peak memory, and what
    `work` returns.
    """
    peak_bytes(torch.device("cpu"), reset=True)
    clock = time.perf_counter()
    cpu = time.process_time()
    value = work()
    spent = {
        "clock_s": time.perf_counter() - clock,
        "cpu_s": time.process_time() - cpu,
        "peak_bytes": peak_bytes(torch.device("cpu")),
    }
    return {"method": method, "states": states, "fit_on": states, **spent, "explained": value}


def growth(args: Args, save: Callable[[str, object], None]) -> list[dict]:
    """Every step at every number of states, with the sum of them."""
    rows: list[dict] = []
    for count in progress_bar(sorted(args.counts), unit="size", desc="growth"):
        x, groups = made_states(count, args.width)
        for name, step in (("outliers", outlier_step), ("clusters", cluster_step)):
            rows.append(timed(name, lambda: step(x, groups), count))
            save("rows", rows)
        for method in FITS:
            rows.append(cell(method, x, groups, args.num_directions))
            save("rows", rows)
        mine = [row for row in rows if row["states"] == count]
        sums = {name: sum(row[name] for row in mine) for name in ("clock_s", "cpu_s")}
        rows.append(
            {
                "method": "all",
                "states": count,
                "fit_on": count,
                **sums,
                "peak_bytes": max(row["peak_bytes"] for row in mine),
                "explained": None,
            }
        )
        save("rows", with_growth(rows))
    return rows


def paired_tsne(
    points: int, width: int, threads: int, save: Callable[[str, object], None]
) -> dict[str, dict]:
    """openTSNE and scikit-learn's t-SNE of the same points, one after the other: seconds, memory, trust in
    the map.
    """
    x, groups = made_states(points, width)
    scores = scores_of(principal_space(x, groups), x)
    maps = {}
    found = {}

    def ours():
        maps["openTSNE"] = embed("tsne", scores, threads=threads).points

    def theirs():
        maps["scikit-learn"] = TSNE(
            perplexity=PERPLEXITY, init="pca", random_state=0, n_jobs=threads
        ).fit_transform(scores)

    for name, work in (("openTSNE", ours), ("scikit-learn", theirs)):
        row = timed(name, work, points)
        found[name] = row | {"explained": trustworthiness(scores, maps[name])}
        save("tsne", found)
    return found


def main(args: Args) -> None:
    torch.set_num_threads(args.num_threads)
    results: dict = {"threads": args.num_threads, "manifest": manifest()}

    def save(name: str, value) -> None:
        write_json(args.out_file, results | {name: value})
        results[name] = value

    with threadpool_limits(args.num_threads):
        rows = growth(args, save)
        found = paired_tsne(args.tsne_points, args.width, args.num_threads, save) if args.tsne_points else {}
    logging.info(
        "step         states  clock s    CPU s  growth  peak GB  explained  within %d min and %.0f GB",
        MOST_SECONDS / 60,
        MOST_BYTES / 1e9,
    )
    for row in rows:
        rate, held = ("" if row[name] is None else f"{row[name]:.2f}" for name in ("growth", "explained"))
        logging.info(
            "%-10s %8d  %7.1f  %7.1f  %6s  %7.2f  %9s  %s",
            row["method"],
            row["states"],
            row["clock_s"],
            row["cpu_s"],
            rate,
            row["peak_bytes"] / 1e9,
            held,
            "yes" if row["within"] else "no",
        )
    for name, row in found.items():
        logging.info(
            "t-SNE of %d points by %s: %.1f s by the clock, %.1f s of the CPU, trustworthiness %.3f",
            row["states"],
            name,
            row["clock_s"],
            row["cpu_s"],
            row["explained"],
        )
    if found:
        ratios = {
            unit: found["scikit-learn"][unit] / found["openTSNE"][unit] for unit in ("clock_s", "cpu_s")
        }
        logging.info(
            "scikit-learn takes %.1f times as long by the clock, %.1f times the CPU",
            ratios["clock_s"],
            ratios["cpu_s"],
        )


if __name__ == "__main__":
    run_main(main, ARGS)
