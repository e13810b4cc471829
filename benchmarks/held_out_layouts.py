"""How many held-out levels have the tile grid of a training level, under three ways to split levels: by level
seed, by grid and entities, and by layout (envs/layouts.py), as this project does.

    python -m benchmarks.held_out_layouts
    python -m benchmarks.held_out_layouts --data_dir data/coinrun --out_file benchmarks/results/store.json

All sixteen games take about half a minute on one core.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    games: tuple[str, ...] = ()
    """Games to count in; default: all sixteen."""
    start_level: int = 10_000
    """First level."""
    num_levels: int = 2468
    """Number of levels of each game."""
    data_dir: Path | None = None
    """Store of real rollouts: count the levels of its episodes instead."""
    out_file: Path = Path("benchmarks/results/held_out_layouts.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import write_json
from common.errors import UsageError
from common.runs import manifest
from envs.layouts import first_states, geometry_hash, layout_hash
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, described_game
from rollouts.split import HELD_OUT, split_by_layout
from rollouts.store import Rollouts

SLOTS = 64


def count_levels(config: ProcgenConfig, seeds: np.ndarray) -> dict:
    """Distinct grids and layouts of some levels [n], and `count_shared` of each way to split them."""
    env = ProcgenVecEnv(min(SLOTS, len(seeds)), config, num_threads=0)
    hashes = [
        (geometry_hash(state, False), geometry_hash(state, True), layout_hash(state))
        for state in first_states(env, seeds.tolist())
    ]
    env.close()
    grid, both, layout = np.array(hashes).T
    splits = {"seed": seeds, "grid_and_entities": both, "layout": layout}
    return {
        "levels": len(seeds),
        "grids": len(set(grid)),
        "layouts": len(set(layout)),
        "parts": count_layouts(layout),
        "split_by": {name: count_shared(split_by_layout(keys), grid, both) for name, keys in splits.items()},
    }


def count_layouts(layout: np.ndarray) -> dict:
    """By part of the split: its levels, its layouts, and the share of its levels with the commonest layout.

    layout: [n], of each level.
    """
    part = split_by_layout(layout)
    counts = {name: np.unique(layout[part == name], return_counts=True)[1] for name in np.unique(part)}
    return {
        str(name): {"levels": int(n.sum()), "layouts": len(n), "commonest": float(n.max() / n.sum())}
        for name, n in counts.items()
    }


def count_shared(part: np.ndarray, grid: np.ndarray, both: np.ndarray) -> dict:
    """By held-out part: its levels, and those with the grid, and grid and entities, of a training level.

    Args:
        part: [n], of each level.
        grid: [n], hash of its grid.
        both: [n], hash of its grid and entities.
    """
    training = part == "train"
    return {
        name: {
            "levels": int((part == name).sum()),
            "same_grid": int(np.isin(grid[part == name], grid[training]).sum()),
            "same_first_state": int(np.isin(both[part == name], both[training]).sum()),
        }
        for name in HELD_OUT
    }


def levels_to_count(args: Args) -> tuple[dict[str, tuple[ProcgenConfig, np.ndarray]], dict[str, str]]:
    """Options and level seeds by game, and the ids of the inputs.

    Raises:
        UsageError: for a store of another game than Procgen's.
    """
    if args.data_dir is None:
        seeds = np.arange(args.start_level, args.start_level + args.num_levels)
        return {game: (ProcgenConfig(env_name=game), seeds) for game in args.games or GAMES}, {}
    rollouts = Rollouts.open(args.data_dir)
    if not rollouts.manifest.get("env"):
        raise UsageError(f"{args.data_dir} does not name a Procgen game, whose grids are counted")
    config = described_game(rollouts.manifest["env"], args.data_dir)
    levels = {config.env_name: (config, np.unique(rollouts.episodes["level_seed"]))}
    return levels, {"data_dir": rollouts.id}


def main(args: Args) -> None:
    if args.num_levels < 1:
        raise UsageError("--num_levels must be at least 1")
    results = {}
    levels, inputs = levels_to_count(args)
    for game, (config, seeds) in levels.items():
        results[game] = count_levels(config, seeds)
        test = {name: parts["test"] for name, parts in results[game]["split_by"].items()}
        logging.info(
            "%s: %d grids in %d levels; test levels with a training level's grid: %s",
            game,
            results[game]["grids"],
            len(seeds),
            ", ".join(f"{n['same_grid']} of {n['levels']} by {name}" for name, n in test.items()),
        )
    write_json(args.out_file, {"games": results, "manifest": manifest(inputs)})


if __name__ == "__main__":
    run_main(main, ARGS)
