"""Writes one HTML file to look through the saliency maps of a run: player, maps, directions, filters.

Reads what saliency_exps.py wrote. The page holds its data, needs no server and loads nothing: open it in a
browser; its "Tour" button explains it.

    python -m analysis.saliency_panel --saliency_dir results/saliency/latest
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from common.cli import parse, run_main
from common.shared_flags import NONE_IF_EMPTY, SEED_DIRECTIONS, LogLevel


@dataclass
class Args:
    saliency_dir: Path
    """Directory that saliency_exps.py wrote."""
    direction_files: Annotated[tuple[Path, ...], SEED_DIRECTIONS] = ()
    """Files of directions whose scores are shown; without any, those of the run, or else principal components
    of its hidden states.
    """
    saliency_func_type: Annotated[tuple[str, ...], NONE_IF_EMPTY] = ()
    """Functions to show; without any, all of the run."""
    num_samples: int = 200
    """Samples on the page, the first of the run; each takes about 12 KB per function."""
    num_directions: int = 16
    """Directions shown of each file, the first ones."""
    map_dir: Path | None = None
    """Finished hidden-state analysis (of analysis/hidden_analysis_precompute.py) whose clusters sort the
    samples; default: k-means of the samples.
    """
    clusters: int = 8
    """Number of k-means clusters, where no map is given."""
    nmf_components: int = 6
    """Regions that the maps are decomposed into; 0 leaves the gallery out."""
    draws: int = 20
    """Refits on resampled levels that test the stability of the regions; 0 skips the test."""
    seed: int = 0
    """Seed of clusters and regions."""
    gradient_check: Path | None = None
    """gradient_check.json of the run's world model and agent: maps of gradients that fail it have no colour.
    By default that of the shipped simulator, where the run is of that one.
    """
    out_file: Path | None = None
    """The page; default: panel.html in the run's directory."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.size_limits import check_least
from analysis.panel.direction_sets import choose_sets, score_samples
from analysis.panel.factor_gallery import make_gallery
from analysis.panel.run_samples import RunSamples, read_samples
from analysis.panel.sample_clusters import clusters_of_map, clusters_of_samples
from analysis.panel.write_panel import Panel, write_panel
from analysis.rendering.path_trust import path_trust
from common.checkpoints import check_writable
from common.words import counted
from interpret.attribution.saliency_store import SaliencyStore

_MEGABYTE = 1e6


def main(args: Args) -> None:
    check_least(args, num_samples=1, num_directions=1, clusters=1, nmf_components=0, draws=0)
    store = SaliencyStore.open(args.saliency_dir)
    path = args.out_file or args.saliency_dir / "panel.html"
    check_writable(path)
    trust = path_trust(store.facts["inputs"], bool(store.facts.get("real_frames")), args.gradient_check)
    samples = read_samples(store, args.saliency_func_type, args.num_samples)
    clusters, source = choose_clusters(args, samples)
    sets = choose_sets(samples, args.direction_files, args.num_directions)
    directions = score_samples(samples, sets, args.num_directions)
    gallery = (
        make_gallery(samples, args.nmf_components, args.draws, args.seed) if args.nmf_components else None
    )
    write_panel(path, Panel(samples, directions, clusters, source, gallery, trust))
    logging.info(
        "%s, %s: %s (%.1f MB)",
        counted(len(samples.ids), "sample"),
        counted(len(samples.functions), "function"),
        path,
        path.stat().st_size / _MEGABYTE,
    )


def choose_clusters(args: Args, samples: RunSamples) -> tuple[np.ndarray, str]:
    """Cluster [N] of each sample, and how it was found, in words."""
    step = f"the hidden state after step {samples.sorting_step}"
    if args.map_dir:
        return clusters_of_map(samples, args.map_dir), f"clusters of a map of hidden states, by {step}"
    return clusters_of_samples(samples, args.clusters, args.seed), f"k-means of these samples, by {step}"


if __name__ == "__main__":
    run_main(main, ARGS)
