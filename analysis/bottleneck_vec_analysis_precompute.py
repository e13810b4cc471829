"""Latents that simulations start from: a joint map of posterior and prior samples, and how far q(z) is from
N(0, I).

Reads a real store, a store of simulated rollouts that start from its frames, and one that starts from random
latents. Draw the artefacts with analysis/bottleneck_vec_analysis_plotting.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName

GENERATED = Path("results/simulated")


@dataclass
class Args:
    world_model_file: Path
    """The world model."""
    agent_file: Path
    """The agent that the world model was trained with: a latent also encodes the agent's state."""
    data_dir: Path = Path("data")
    """The real store whose frames the informed rollouts start from."""
    informed_dir: Path = GENERATED / "informed_init"
    """Store of simulated rollouts that start from recorded frames."""
    random_dir: Path = GENERATED / "rand_init"
    """Store of simulated rollouts that start from random latents."""
    num_samples: int = 1000
    """Latents of each kind, sampled at random; all if a store has fewer."""
    clusters: int = 100
    """Number of k-means clusters of the informed latents; random latents are assigned to them."""
    maps: tuple[str, ...] = ("tsne",)
    """Embeddings besides PCA: tsne, umap, both, or no word for none."""
    seed: int = 0
    """Seed of all sampling and fits."""
    num_threads: int = 2
    """Threads of the linear algebra and of t-SNE."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    new: bool = False
    """Recompute a finished step."""
    out_dir: Path = Path("results")
    """Directory that receives bottleneck_vec_analysis_precomp."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, fit_sizes
from analysis.io.steps import cached_json, finish_step, open_step, point_latest
from analysis.maps.hidden_states import sample_episodes
from analysis.maps.latents import (
    STEP,
    VERSION,
    aggregate_arrays,
    aggregate_numbers,
    aggregate_of_samples,
    check_origin,
    latent_outcomes,
    posteriors,
    principal_axes,
    sample_distance,
)
from analysis.maps.map_parts import by_sample, check_maps, make_map
from analysis.maps.map_summary import map_numbers
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from common.words import counted
from generative.simulator_file import load_simulator
from interpret.clustering import fit_clusters
from interpret.embedding import MIN_POINTS
from interpret.overlap import FOLDS
from interpret.posterior import AggregatePosterior, aggregate_posterior
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

LATENTS_PER_CLUSTER = 2
"""Latents of each kind that each cluster needs."""


def main(args: Args) -> None:
    real, informed, random = map(Rollouts.open, (args.data_dir, args.informed_dir, args.random_dir))
    check_origin(informed, args.world_model_file, real)
    check_origin(random, args.world_model_file, None)
    check_maps(args.maps)
    if args.num_samples < MIN_POINTS:
        raise UsageError(f"--num_samples is {args.num_samples}: a map takes {MIN_POINTS} or more")
    args = fit_sizes(args, limits(args, informed, random))
    settings = {name: getattr(args, name) for name in ("num_samples", "clusters", "maps", "seed")}
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "data_dir": real.id,
        "informed_dir": informed.id,
        "random_dir": random.id,
    }
    precision = choose_precision(args.precision, choose_device(args.device))
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    if run.done:
        point_latest(run)
    else:
        with threadpool_limits(args.num_threads):
            compute(args, run, real, LatentSamples.load(args, real, informed, random))
    logging.info("latents: %s", run.dir)


def limits(args: Args, informed: Rollouts, random: Rollouts) -> dict[str, Limit]:
    """The largest sizes that both stores allow.

    Raises:
        UsageError: the recorded windows come from too few episodes for the folds of the classifier.
    """
    chosen = sample_episodes(informed, args.num_samples, args.seed)
    sources = len(np.unique(informed.episodes["source_episode"][chosen]))
    if sources < FOLDS:
        raise UsageError(
            f"{informed.path} starts from {counted(sources, 'recorded episode')}, and the classifier "
            f"needs {FOLDS} folds of them: {RECORD_MORE}"
        )
    fewest = min(len(informed), len(random))
    counts = f"{len(informed)} informed and {len(random)} random latents"
    kept = Limit(max(len(informed), len(random)) if fewest >= MIN_POINTS else fewest, counts, MIN_POINTS)
    clusters = Limit(min(fewest, args.num_samples) // LATENTS_PER_CLUSTER, counts)
    return {"num_samples": kept, "clusters": clusters}


@dataclass(frozen=True)
class LatentSamples:
    """Informed and random latents, by the names of the two stores.

    Args:
        stores: {name: store}.
        episodes: {name: sampled episodes [n]}.
        z: {name: latents [n, Z]}.
        groups: {name: level of each latent [n]}; each random latent is a group of its own.
    """

    stores: dict[str, Rollouts]
    episodes: dict[str, np.ndarray]
    z: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]

    @classmethod
    def load(cls, args: Args, real: Rollouts, informed: Rollouts, random: Rollouts) -> "LatentSamples":
        stores = {"informed": informed, "random": random}
        episodes = {
            name: sample_episodes(store, args.num_samples, args.seed) for name, store in stores.items()
        }
        z = {name: store.episodes["latent"][episodes[name]] for name, store in stores.items()}
        levels = real.episodes["level_seed"][informed.episodes["source_episode"][episodes["informed"]]]
        groups = {"informed": levels, "random": -1 - np.arange(len(episodes["random"]))}
        return cls(stores, episodes, z, groups)


def compute(args: Args, run: Run, real: Rollouts, samples: LatentSamples) -> None:
    """Computes every part of the run that is missing, then finishes the run with its numbers."""
    z = samples.z
    q = cached_part(run, "posteriors", lambda: encode(args, real, samples, run.precision))
    posterior = aggregate_posterior(q["mean"], q.get("log_variance"))
    prior = aggregate_of_samples(z["random"])
    axes, variance, mean = principal_axes(z["informed"])
    points = {name: ((x - mean) @ axes.T).astype(np.float32) for name, x in z.items()}
    cached_part(run, "labels", lambda: by_sample(labels(args, samples, points)))
    maps = {}
    for kind in progress_bar(("pca", *args.maps), unit="map", desc="maps"):
        both = {"real": points["informed"], "random": points["random"]}
        fit = partial(make_map, kind, both, args.seed, args.num_threads)
        maps[kind] = cached_part(run, f"map_{kind}", fit)
    null_variance = principal_axes(z["random"])[1]
    cached_part(run, "dimensions", lambda: dimensions(posterior, prior, variance, null_variance))
    cached_part(run, "radius", lambda: {name: (x.astype(np.float64) ** 2).sum(1) for name, x in z.items()})
    levels = samples.groups["informed"]
    numbers = {
        "samples": {name: len(x) for name, x in z.items()},
        "width": z["informed"].shape[1],
        "levels": f"{levels.min()}-{levels.max()}",
        "q": aggregate_numbers(posterior),
        "draws": aggregate_numbers(prior),
        "maps": map_numbers(maps),
        "distance": cached_json(run, "distance", lambda: distances(z, samples.groups, args.seed)),
    }
    finish_step(run, numbers)


def labels(
    args: Args, samples: LatentSamples, points: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """{name: {label: [n]}}: outcomes, and clusters fit on the informed latents."""
    informed = points["informed"]
    clusters = fit_clusters(informed, np.arange(len(informed)), args.clusters, args.seed)
    return {
        name: latent_outcomes(store, samples.episodes[name]) | {"cluster": clusters.assign(points[name])}
        for name, store in samples.stores.items()
    }


def encode(args: Args, real: Rollouts, samples: LatentSamples, precision: str) -> dict[str, np.ndarray]:
    """mean and, unless latents lie on a sphere, log_variance [n, Z] of q(z) of the informed windows."""
    device = choose_device(args.device)
    episodes = samples.episodes["informed"]
    with progress_bar(total=len(episodes), unit="window", desc="encode") as bar:
        simulator = load_simulator(args.world_model_file, args.agent_file, device=device)[0]
        set_precision(precision, simulator.model, simulator.agent)
        mean, log_variance = posteriors(
            simulator, real, samples.stores["informed"], episodes, device, bar.update
        )
    return {"mean": mean} | ({} if log_variance is None else {"log_variance": log_variance})


def distances(z: dict[str, np.ndarray], groups: dict[str, np.ndarray], seed: int) -> dict:
    """Informed against random latents; as a control, one half of the random latents against the other."""
    half = len(z["random"]) // 2
    control = (z["random"][:half], z["random"][half:], groups["random"][:half], groups["random"][half:])
    return {
        "informed": sample_distance(z["informed"], z["random"], groups["informed"], groups["random"], seed),
        "control": sample_distance(*control, seed),
    }


def dimensions(
    posterior: AggregatePosterior, prior: AggregatePosterior, variance: np.ndarray, null_variance: np.ndarray
) -> dict[str, np.ndarray]:
    """Statistics of every dimension [Z] of q and of prior samples, and variances of their principal axes."""
    statistics = {
        f"{name}.{key}": array
        for name, aggregated in (("q", posterior), ("draws", prior))
        for key, array in aggregate_arrays(aggregated).items()
    }
    return statistics | {"axes.q": variance, "axes.draws": null_variance}


if __name__ == "__main__":
    run_main(main, ARGS)
