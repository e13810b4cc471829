"""Directions to push: the pattern of each concept's own probe, and the leading principal components.

Probes that are fit together have write columns that hold what is unique to each concept, far from where
states lie. Here a concept's column is how the state covaries with its probe alone (Haufe et al. 2014). One
unit of a score is one standard deviation. Writes one file of directions; hypotheses name it by its id.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts with concepts (python -m analysis.concepts_precompute)."""
    concepts: tuple[str, ...] = (
        "coin_ahead", "saw_ahead", "enemy_ahead", "crate_ahead", "pit_ahead", "wall_ahead", "support",
        "on_crate", "facing_right", "vx", "vy", "x", "y", "steps_left",
    )  # fmt: skip
    """Concepts that have a value at every step."""
    components: int = 16
    """Number of principal components."""
    out_file: Path = Path("directions.safetensors")
    """File that receives the directions."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp."""
    seed: int = 0
    """Seed of the split into levels that probes are fit on and held-out ones."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from collections.abc import Mapping

import numpy as np

from analysis.probing.store_concepts import load_concepts
from common.runs import UsageError
from interpret.directions.directions import Directions, save_directions
from interpret.directions.pca import fit_pca
from interpret.directions.probe_directions import fit_probes
from rollouts.split import episode_layouts
from rollouts.store import Rollouts


def push_directions(
    x: np.ndarray, layouts: np.ndarray, concepts: Mapping[str, np.ndarray], components: int, seed: int
) -> Directions:
    """Each concept's probe with its own pattern, then principal components; scores in standard deviations.

    Args:
        x: [n, D] states.
        layouts: [n], of each state.
        concepts: {name: [n]}.
        components: number of principal components.
        seed: of the fits.
    """
    fits = [fit_probes(x, layouts, {name: values}, seed) for name, values in concepts.items()]
    pca = fit_pca(x, layouts, components, seed)
    read = np.concatenate([one.read.numpy() for one in (*fits, pca)])
    write = np.concatenate([one.write.numpy() for one in (*fits, pca)], 1)
    std = np.sqrt(np.einsum("kd,de,ke->k", read, np.cov(x.T.astype(np.float64)), read))
    read, write = read / std[:, None], write * std
    mean = x.mean(0, dtype=np.float64)
    names = [*concepts, *(f"pc_{i}" for i in range(components))]
    held_out = {name: fit.provenance["held_out"][name] for name, fit in zip(concepts, fits)}
    facts = {"method": "concepts", "n": len(x), "seed": seed, "held_out": held_out}
    return Directions(read, -read @ mean, write, mean, names, facts)


def sole_policy(rollouts: Rollouts) -> str:
    """Id of the agent that recorded a store. Raises UsageError for several."""
    policies = np.unique(rollouts.episodes["policy_id"])
    if len(policies) > 1:
        raise UsageError(f"{rollouts.path} was recorded by {', '.join(policies)}: give a store of one agent")
    return str(policies[0])


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    agent = sole_policy(rollouts)
    known = load_concepts(rollouts, args.out_dir)
    x = rollouts.hidden_after()
    for name in args.concepts:
        if name not in known:
            raise UsageError(f"no concept {name!r}; choose from: {', '.join(sorted(known))}")
        if not np.isfinite(known[name]).all():
            raise UsageError(f"concept {name!r} has no value at some steps: choose one that always has")
    layouts = episode_layouts(rollouts)[rollouts.step_table()[:, 0]]
    chosen = {name: known[name] for name in args.concepts}
    made = push_directions(x, layouts, chosen, args.components, args.seed)
    about = {"site": "hidden after the observation", "store": rollouts.id, "agent": agent}
    save_directions(args.out_file, made.with_provenance(**about))
    logging.info("%d directions with id %s: %s", len(made), made.id, args.out_file)


if __name__ == "__main__":
    run_main(main, ARGS)
