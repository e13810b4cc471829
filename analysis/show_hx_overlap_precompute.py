"""How far the agent's hidden states in the simulator differ from those in the game, as effect sizes.

Simulated episodes are compared with real ones of other levels, over the same steps from the same kind of
start; the baseline compares real episodes with real ones. Writes results/hx_overlap_precomp; draw it with
analysis/show_hx_overlap.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path
    """Store of real rollouts that the simulated ones start from."""
    sim_data_dir: Path
    """Store of simulated rollouts that start from recorded frames."""
    num_sim_episodes: int = 3000
    """Simulated episodes, sampled at random; all if the store has fewer."""
    points: int = 1500
    """States of each sample for the MMD, stratified by level."""
    seed: int = 0
    """Seed of all sampling and fits."""
    new: bool = False
    """Recompute a finished step."""
    out_dir: Path = Path("results")
    """Directory that receives hx_overlap_precomp."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.hidden_analysis_precompute import check_stores
from analysis.io.artefacts import cached_part
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.maps.hidden_states import load_hidden_states, sample_episodes
from common.progress import progress_bar
from common.runs import UsageError
from interpret.directions.fitting import sample_of
from interpret.directions.pca import fit_pca
from interpret.overlap import (
    CLASSIFIERS,
    STEP,
    VERSION,
    StateSample,
    auroc,
    median_distance,
    mmd2,
    out_of_fold_scores,
    split_levels,
)
from interpret.subsample import scores_of, subsample, varying_columns
from rollouts.store import Rollouts

BINS = ((0, 1), (1, 3), (3, 6), (6, 12), (12, 24), (24, 10**6))
"""Intervals of steps after the start, from and to (excluded), with an AUROC of their own."""
AXES = 6
"""Principal components stored for the figure."""
SPLITS = 20
"""Random halvings of the real levels, which give the spread of the MMD."""


def main(args: Args) -> None:
    real = Rollouts.open(args.data_dir)
    simulated = Rollouts.open(args.sim_data_dir)
    check_stores(real, simulated)
    settings = {"num_sim_episodes": args.num_sim_episodes, "points": args.points, "seed": args.seed}
    inputs = {"data_dir": real.id, "sim_data_dir": simulated.id}
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new)
    if run.done:
        point_latest(run)
    else:
        sim_cloud, real_cloud = load_clouds(real, simulated, args.num_sim_episodes, args.seed)
        numbers = compare(sim_cloud, real_cloud, args.points, args.seed)
        cached_part(run, "axes", lambda: principal_scores(sim_cloud, real_cloud, args.points, args.seed))
        levels = [int(real_cloud.level.min()), int(real_cloud.level.max())]
        finish_step(run, numbers | {"levels": levels})
    plot = f"python analysis/show_hx_overlap.py --out_dir {args.out_dir}"
    logging.info("overlap: %s; draw it with: %s", run.dir, plot)


def load_clouds(real: Rollouts, simulated: Rollouts, most: int, seed: int) -> tuple[StateSample, StateSample]:
    """Simulated states, and the recorded states over the same steps of the episodes they start from.

    Args:
        real: store that the simulations start from.
        simulated: store of simulations.
        most: number of simulated episodes.
        seed: of their choice.

    Raises:
        UsageError: the simulations start from another store.
    """
    source = simulated.manifest.get("inputs", {}).get("data_dir")
    if source != real.id:
        raise UsageError(
            f"{simulated.path} starts from store {source or 'none (random starts)'}, not from {real.path} "
            f"({real.id}): give the store that it starts from"
        )
    chosen = sample_episodes(simulated, most, seed)
    states = load_hidden_states(simulated, chosen)
    episode, start = (simulated.episodes[name][chosen] for name in ("source_episode", "source_step"))
    level = real.episodes["level_seed"][episode]
    longest = simulated.episodes["length"].max()
    length = np.minimum(real.episodes["length"][episode] - start, longest)
    k = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    rows = np.repeat(real.first_step[episode] + start, length) + k
    sim_cloud = StateSample(states.x, np.repeat(level, simulated.episodes["length"][chosen]), states.step)
    return sim_cloud, StateSample(real.hidden_after()[rows], np.repeat(level, length), k)


def compare(sim_cloud: StateSample, real_cloud: StateSample, points: int, seed: int) -> dict:
    """AUROC and MMD of simulated and of real states (the baseline), each against real states of other levels.

    Args:
        sim_cloud: simulated states.
        real_cloud: real states.
        points: states of each sample for the MMD.
        seed: of splits and fits.
    """
    columns = varying_columns(real_cloud.x)
    scale = sample_of(real_cloud.x[:, columns], real_cloud.level)
    sim_cloud, real_cloud = (
        cloud._replace(x=((cloud.x[:, columns] - scale.mean) / scale.std).astype(np.float32))
        for cloud in (sim_cloud, real_cloud)
    )
    levels, other_levels = split_levels(real_cloud.level, seed)
    reference = real_cloud.where(np.isin(real_cloud.level, other_levels))
    sides = {
        name: cloud.where(np.isin(cloud.level, levels))
        for name, cloud in (("simulated", sim_cloud), ("real", real_cloud))
    }
    aurocs = {
        name: {kind: auroc_by_step(side, reference, kind, seed) for kind in CLASSIFIERS}
        for name, side in sides.items()
    }
    return {
        "n": {name: len(side.x) for name, side in sides.items()} | {"reference": len(reference.x)},
        "num_levels": len(levels) + len(other_levels),
        "auroc": aurocs,
        "mmd2": mmd_over_splits(sim_cloud, real_cloud, points, seed),
    }


def auroc_by_step(a: StateSample, b: StateSample, kind: str, seed: int) -> dict:
    """AUROC over all steps, and over each of BINS that has 20 states of both samples."""
    scores, first = out_of_fold_scores(a, b, kind, seed)
    k = np.concatenate([a.k, b.k])
    whole = auroc(a, b, scores, first, np.ones(len(k), bool), seed)
    steps = []
    for low, high in BINS:
        rows = (k >= low) & (k < high)
        if min(first[rows].sum(), (~first[rows]).sum()) >= 20:
            interval = {"from": low, "to": min(high, int(k.max()) + 1)}
            steps.append(interval | auroc(a, b, scores, first, rows, seed)._asdict())
    return {"all": whole._asdict(), "steps": steps}


def mmd_over_splits(
    sim_cloud: StateSample, real_cloud: StateSample, points: int, seed: int
) -> dict[str, list[float]]:
    """Squared MMD of each sample from real states of other levels, over SPLITS halvings of the levels."""

    def sample(cloud: StateSample, levels: np.ndarray) -> np.ndarray:
        part_of_cloud = cloud.where(np.isin(cloud.level, levels))
        return part_of_cloud.x[subsample(part_of_cloud.level, points, seed)]

    bandwidth = median_distance(real_cloud.x[subsample(real_cloud.level, points, seed)])
    mmd: dict[str, list[float]] = {"simulated": [], "real": []}
    for split in progress_bar(range(SPLITS), unit="split", desc="MMD"):
        levels, other_levels = split_levels(real_cloud.level, seed + split)
        reference = sample(real_cloud, other_levels)
        for name, cloud in (("simulated", sim_cloud), ("real", real_cloud)):
            mmd[name].append(mmd2(sample(cloud, levels), reference, bandwidth))
    return mmd


def principal_scores(
    sim_cloud: StateSample, real_cloud: StateSample, points: int, seed: int
) -> dict[str, np.ndarray]:
    """Scores of both samples on the first principal components of the real states, and explained variance."""
    columns = varying_columns(real_cloud.x)
    count = min(AXES, len(columns))
    pca = fit_pca(real_cloud.x[:, columns], real_cloud.level, count, seed)

    def scores(cloud: StateSample) -> np.ndarray:
        return scores_of(pca, cloud.x[subsample(cloud.level, 4 * points, seed)][:, columns])

    share = np.array(pca.provenance["variance"]) / len(columns)
    return {"real": scores(real_cloud), "simulated": scores(sim_cloud), "share": share}


if __name__ == "__main__":
    run_main(main, ARGS)
