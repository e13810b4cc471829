"""Whether the agent's hidden states in the simulator are those that it has in the game: effect sizes, real against simulated and real against real.

Simulated episodes are compared with real ones over the same steps from the same kind of start, on other levels; the floor is what comes out when both
are real. Writes to results/hx_overlap_precomp; draw it with analysis/show_hx_overlap.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    data_dir: Path
    """The store of real rollouts that the simulated ones began from."""
    sim_data_dir: Path
    """The store of simulated rollouts, with informed starts."""
    num_sim_episodes: int = 3000
    """Simulated episodes, drawn at random; all where there are no more."""
    points: int = 1500
    """States of each side for the discrepancy, stratified by episode."""
    seed: int = 0
    """Seed of everything random."""
    new: bool = False
    """Make it again even where it is done."""
    out_dir: Path = Path("results")
    """Where hx_overlap_precomp is written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.artefacts import part
from analysis.hidden_analysis_precompute import check_stores
from analysis.hidden_states import choose_episodes, gather
from analysis.overlap import CLASSIFIERS, STEP, VERSION, Cloud, auroc, median_distance, mmd2, out_of_fold, split_levels
from analysis.points import changing, scores_of, subsample
from analysis.steps import finish_step, open_step, point_latest
from common.progress import progress_bar
from common.runs import UsageError
from interpret.fitting import sample_of
from interpret.pca import fit_pca
from rollouts.store import Rollouts

BINS = ((0, 1), (1, 3), (3, 6), (6, 12), (12, 24), (24, 10**6))
"""Steps after the start over which the AUROC is taken apart: from, to (excluded)."""
AXES = 6
"""Principal components kept for the picture."""
PARTINGS = 20
"""Partings of the real levels, for the spread of the discrepancy of real from real."""


def main(args: Args) -> None:
    real, simulated = Rollouts.open(args.data_dir), Rollouts.open(args.sim_data_dir)
    check_stores(real, simulated)
    settings = {"num_sim_episodes": args.num_sim_episodes, "points": args.points, "seed": args.seed}
    run = open_step(args.out_dir, STEP, VERSION, settings, {"data_dir": real.id, "sim_data_dir": simulated.id}, args.new)
    if run.done:
        point_latest(run)
    else:
        sim, twins = clouds(real, simulated, args.num_sim_episodes, args.seed)
        numbers = compare(sim, twins, args.points, args.seed)
        part(run, "axes", lambda: axes(sim, twins, args.points, args.seed))
        finish_step(run, numbers | {"levels": [int(twins.level.min()), int(twins.level.max())]})
    logging.info("overlap: %s; draw it with: python analysis/show_hx_overlap.py --out_dir %s", run.dir, args.out_dir)


def clouds(real: Rollouts, simulated: Rollouts, most: int, seed: int) -> tuple[Cloud, Cloud]:
    """Simulated states, and the recorded ones over the steps that the simulations began from. Raises UsageError for another store than that."""
    source = simulated.manifest.get("inputs", {}).get("data_dir")
    if source != real.id:
        began = f"{simulated.path} began from store {source or 'none (random starts)'}, not from {real.path} ({real.id})"
        raise UsageError(f"{began}: give the store that it began from")
    chosen = choose_episodes(simulated, most, seed)
    states = gather(simulated, chosen)
    episode, start = (simulated.episodes[name][chosen] for name in ("source_episode", "source_step"))
    level, longest = real.episodes["level_seed"][episode], simulated.episodes["length"].max()
    length = np.minimum(real.episodes["length"][episode] - start, longest)
    k = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    rows = np.repeat(real.first_step[episode] + start, length) + k
    sim = Cloud(states.x, np.repeat(level, simulated.episodes["length"][chosen]), states.step)
    return sim, Cloud(real.hidden_after()[rows], np.repeat(level, length), k)


def compare(sim: Cloud, twins: Cloud, points: int, seed: int) -> dict:
    """Every number: {real or simulated: against real states of other levels}."""
    columns = changing(twins.x)
    scale = sample_of(twins.x[:, columns], twins.level)
    sim, twins = (cloud._replace(x=((cloud.x[:, columns] - scale.mean) / scale.std).astype(np.float32)) for cloud in (sim, twins))
    ours, others = split_levels(twins.level, seed)
    reference = twins.where(np.isin(twins.level, others))
    sides = {"simulated": sim.where(np.isin(sim.level, ours)), "real": twins.where(np.isin(twins.level, ours))}
    counts = {name: len(side.x) for name, side in sides.items()} | {"reference": len(reference.x)}
    numbers: dict = {"n": counts, "num_levels": len(ours) + len(others)}
    numbers["auroc"] = {name: {kind: by_step(side, reference, kind, seed) for kind in CLASSIFIERS} for name, side in sides.items()}
    return numbers | {"mmd2": discrepancies(sim, twins, points, seed)}


def by_step(a: Cloud, b: Cloud, kind: str, seed: int) -> dict:
    """AUROC over all steps and over each of BINS that both samples reach."""
    scores, first = out_of_fold(a, b, kind, seed)
    k = np.concatenate([a.k, b.k])
    found = {"all": auroc(a, b, scores, first, np.ones(len(k), bool), seed)._asdict(), "steps": []}
    for low, high in BINS:
        rows = (k >= low) & (k < high)
        if min(first[rows].sum(), (~first[rows]).sum()) >= 20:
            found["steps"].append({"from": low, "to": min(high, int(k.max()) + 1)} | auroc(a, b, scores, first, rows, seed)._asdict())
    return found


def discrepancies(sim: Cloud, twins: Cloud, points: int, seed: int) -> dict:
    """Squared discrepancy of each side from real states of other levels over PARTINGS halvings of the levels: {simulated, real: [PARTINGS]}."""

    def some(cloud: Cloud, levels) -> np.ndarray:
        mine = cloud.where(np.isin(cloud.level, levels))
        return mine.x[subsample(mine.level, points, seed)]

    bandwidth, found = median_distance(twins.x[subsample(twins.level, points, seed)]), {"simulated": [], "real": []}
    for parting in progress_bar(range(PARTINGS), unit="parting", desc="discrepancy"):
        ours, others = split_levels(twins.level, seed + parting)
        reference = some(twins, others)
        for name, cloud in (("simulated", sim), ("real", twins)):
            found[name].append(mmd2(some(cloud, ours), reference, bandwidth))
    return found


def axes(sim: Cloud, twins: Cloud, points: int, seed: int) -> dict[str, np.ndarray]:
    """Scores of both on the first principal components of the real states, and the share of variance of each component."""
    columns = changing(twins.x)
    count = min(AXES, len(columns))
    pca = fit_pca(twins.x[:, columns], twins.level, count, seed)

    def shown(cloud: Cloud) -> np.ndarray:
        return scores_of(pca, cloud.x[subsample(cloud.level, 4 * points, seed)][:, columns])

    return {"real": shown(twins), "simulated": shown(sim)} | {"share": np.array(pca.provenance["variance"]) / len(columns)}


if __name__ == "__main__":
    run_main(main, ARGS)
