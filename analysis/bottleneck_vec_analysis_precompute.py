"""The latents that simulations begin from: those of recorded windows beside draws from the prior, in one map, and how far q(z) is from N(0, I).

Reads a real store, a store of simulated rollouts that begin in it, and one that begins at random latents. Draw the artefacts with
analysis/bottleneck_vec_analysis_plotting.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main

GENERATED = Path("results/simulated")


@dataclass
class Args:
    model_file: Path
    """The world model."""
    agent_file: Path
    """The agent that it was trained with: a latent also says what that one remembers."""
    data_dir: Path = Path("data")
    """The real store in whose frames the informed rollouts begin."""
    informed_dir: Path = GENERATED / "informed_init"
    """Store of simulated rollouts that begin in recorded frames."""
    random_dir: Path = GENERATED / "rand_init"
    """Store of simulated rollouts that begin at random latents."""
    num_samples: int = 1000
    """Latents of each kind, drawn at random; all where there are no more."""
    clusters: int = 100
    """Clusters of the informed latents, to which the random ones are assigned."""
    maps: tuple[str, ...] = ("tsne",)
    """Flat maps to make beside the principal axes: tsne, umap, both or none."""
    seed: int = 0
    """Seed of everything random."""
    num_threads: int = 2
    """Threads of the linear algebra and of t-SNE."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    new: bool = False
    """Make it again even where it is done."""
    out_dir: Path = Path("results")
    """Where bottleneck_vec_analysis_precomp is written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.artefacts import part
from analysis.clusters import fit_clusters
from analysis.embedding import FEWEST
from analysis.hidden_maps import check_maps, make_map
from analysis.hidden_numbers import map_numbers
from analysis.hidden_states import choose_episodes
from analysis.latents import (
    STEP, VERSION, aggregate_arrays, aggregate_numbers, by_episode, check_origin, distance, of_draws, posteriors, prior_axes,
)  # fmt: skip
from analysis.limits import Limit, fit_sizes
from analysis.overlap import FOLDS
from analysis.steps import finish_step, json_part, open_step, point_latest
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from common.words import counted
from generative.simulator import load_simulator
from interpret.posterior import Aggregate, aggregate
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

LATENTS_PER_CLUSTER = 2
"""Latents of each kind, for each cluster."""


def main(args: Args) -> None:
    real, informed, random = (Rollouts.open(path) for path in (args.data_dir, args.informed_dir, args.random_dir))
    check_origin(informed, args.model_file, real)
    check_origin(random, args.model_file, None)
    check_maps(args.maps)
    if args.num_samples < FEWEST:
        raise UsageError(f"--num_samples is {args.num_samples}: a map takes {FEWEST} or more")
    args = fit_sizes(args, limits(args, informed, random))
    settings = {name: getattr(args, name) for name in ("num_samples", "clusters", "maps", "seed")}
    inputs = {"model_file": file_id(args.model_file), "data_dir": real.id, "informed_dir": informed.id, "random_dir": random.id}
    precision = choose_precision(args.precision, choose_device(args.device, args.gpu_device))
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    if run.done:
        point_latest(run)
    else:
        with threadpool_limits(args.num_threads):
            compute(args, run, real, informed, random)
    logging.info("latents: %s", run.dir)


def limits(args: Args, informed: Rollouts, random: Rollouts) -> dict[str, Limit]:
    """The sizes that the fewer of both kinds of latents carry. Raises UsageError where recorded windows come from too few levels."""
    sources = len(np.unique(informed.episodes["source_episode"][choose_episodes(informed, args.num_samples, args.seed)]))
    if sources < FOLDS:
        raise UsageError(f"{informed.path} begins in {counted(sources, 'recorded episode')}, and latents are told apart on {FOLDS} folds of them: {RECORD_MORE}")
    fewest = min(len(informed), len(random))
    told = f"{len(informed)} informed and {len(random)} random latents"
    kept = Limit(max(len(informed), len(random)) if fewest >= FEWEST else fewest, told, FEWEST)
    return {"num_samples": kept, "clusters": Limit(min(fewest, args.num_samples) // LATENTS_PER_CLUSTER, told)}


def compute(args: Args, run: Run, real: Rollouts, informed: Rollouts, random: Rollouts) -> None:
    stores = {"informed": informed, "random": random}
    chosen = {name: choose_episodes(store, args.num_samples, args.seed) for name, store in stores.items()}
    levels = real.episodes["level_seed"][informed.episodes["source_episode"][chosen["informed"]]]
    groups = {"informed": levels, "random": -1 - np.arange(len(chosen["random"]))}
    z = {name: store.episodes["latent"][chosen[name]] for name, store in stores.items()}
    q, drawn = part(run, "posteriors", lambda: encoded(args, real, informed, chosen["informed"], run.precision)), of_draws(z["random"])
    found = aggregate(q["mean"], q.get("log_variance"))
    axes, variance, mean = prior_axes(z["informed"])
    points = {name: ((x - mean) @ axes.T).astype(np.float32) for name, x in z.items()}
    clusters = fit_clusters(points["informed"], np.arange(len(points["informed"])), args.clusters, args.seed)
    labels = {name: by_episode(store, chosen[name]) | {"cluster": clusters.assign(points[name])} for name, store in stores.items()}
    part(run, "labels", lambda: {f"{name}.{label}": column for name, columns in labels.items() for label, column in columns.items()})
    maps = {}
    for kind in progress_bar(("pca", *args.maps), unit="map", desc="maps"):
        both = {"real": points["informed"], "random": points["random"]}
        maps[kind] = part(run, f"map_{kind}", lambda: make_map(kind, both, args.seed, args.num_threads))
    part(run, "dimensions", lambda: dimensions(found, drawn, variance, prior_axes(z["random"])[1]))
    part(run, "radius", lambda: {name: (x.astype(np.float64) ** 2).sum(1) for name, x in z.items()})
    finish_step(run, {
        "samples": {name: len(x) for name, x in z.items()}, "width": z["informed"].shape[1], "levels": f"{levels.min()}-{levels.max()}",
        "q": aggregate_numbers(found), "draws": aggregate_numbers(drawn), "maps": map_numbers(maps),
        "distance": json_part(run, "distance", lambda: distances(z, groups, args.seed)),
    })  # fmt: skip


def encoded(args: Args, real: Rollouts, informed: Rollouts, episodes: np.ndarray, precision: str) -> dict[str, np.ndarray]:
    """Mean and, unless latents lie on a sphere, log_variance of the posteriors of the windows that the episodes began in: [n, Z]."""
    device = choose_device(args.device, args.gpu_device)
    with progress_bar(total=len(episodes), unit="window", desc="encode") as bar:
        simulator = load_simulator(args.model_file, args.agent_file, device=device)[0]
        set_precision(precision, simulator.model, simulator.agent)
        mean, log_variance = posteriors(simulator, real, informed, episodes, device, bar.update)
    return {"mean": mean} | ({} if log_variance is None else {"log_variance": log_variance})


def distances(z: dict[str, np.ndarray], groups: dict[str, np.ndarray], seed: int) -> dict:
    """Informed latents from random ones; and, as a control that must show nothing, one half of the random ones from the other."""
    half = len(z["random"]) // 2
    control = (z["random"][:half], z["random"][half:], groups["random"][:half], groups["random"][half:])
    return {"informed": distance(z["informed"], z["random"], groups["informed"], groups["random"], seed), "control": distance(*control, seed)}


def dimensions(found: Aggregate, drawn: Aggregate, variance: np.ndarray, null_variance: np.ndarray) -> dict[str, np.ndarray]:
    """Every number by dimension [Z], of q and of the draws; and the variances of principal axes, of informed and of random latents."""
    both = {f"{name}.{key}": array for name, one in (("q", found), ("draws", drawn)) for key, array in aggregate_arrays(one).items()}
    return both | {"axes.q": variance, "axes.draws": null_variance}


if __name__ == "__main__":
    run_main(main, ARGS)
