"""Checks the straight-through gradient: the change it predicts for small moves of the latent, against the
change over many rollouts, by gradient path.

Writes gradient_check.json, the numbers behind it and a figure. Gradients with a correlation below 0.3, or not
significantly above 0, or with a `ceiling` of 0 are `greyed`: figures must not show them in colour. A low
ceiling means that too few rollouts were taken to tell, because changed actions rarely matter. Runs on the
CPU: PyTorch's GRU has no forward-mode derivative on a GPU.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    world_model_file: Path
    """The world model to check."""
    agent_file: Path
    """The agent it was trained with."""
    data_dir: Path = Path("data")
    """Store of real rollouts that windows are taken from."""
    num_states: int = 200
    """Starting windows, each with one random move of its latent."""
    num_rollouts: int = 16
    """Rollouts from each state, with common noise; an even number, as one half predicts the other."""
    horizons: tuple[int, ...] = (1, 2, 4, 8)
    """Steps after the first simulated one at which quantities are compared."""
    share: float = 0.05
    """Length of a move as a share of the latent's length."""
    hold_place: bool = False
    """Moves leave the start's place in its tile and its motion as they are: pictures that move by part of a
    pixel change in ways that no gradient predicts.
    """
    batch_size: int = 64
    """Rollouts simulated at a time."""
    seed: int = 0
    """Seed of states, moves, hidden units and noise."""
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("results/gradient_check")
    """Directory of the runs."""
    new: bool = False
    """Start another run even if this command already has one."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.plotting.style import GROUPS, NULL, add_caption, new_figure, save_figure
from common.checkpoints import save_checkpoint, write_json
from common.integrity import check_memory
from common.progress import progress_bar
from common.runs import UsageError, file_id, open_run
from common.words import counted
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import InformedStarts, open_agent_rollouts
from interpret.attribution.gradient_estimator import (
    PATHS,
    QUANTITIES,
    cross_half_agreement,
    holding_place,
    noise_ceiling,
    perturbations,
    predicted_and_measured_changes,
    to_float32,
)
from rollouts.store import Rollouts

GREY_BELOW = 0.3
_MOVE_SEED = 5_000_011  # added to the seed, for the noise of the moves
_UNIT_SEED = 6_000_011


def main(args: Args) -> None:
    check_flags(args)
    simulator = to_float32(load_simulator(args.world_model_file, args.agent_file)[0])
    rollouts = open_agent_rollouts(args.data_dir, args.agent_file)
    starts = InformedStarts(simulator, rollouts, args.seed)
    args = fit_flags(args, simulator, starts)
    asked = {
        name: value
        for name, value in vars(args).items()
        if name not in ("world_model_file", "agent_file", "data_dir", "batch_size")
    }
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": rollouts.id,
    }
    run = open_run(args.out_dir, f"seed_{args.seed}", asked, args.new, inputs)
    if run.done:
        return
    predicted, measured = measure_changes(args, simulator, starts)
    level = rollouts.episodes["level_seed"][starts.source(np.arange(args.num_states))[:, 0]]
    results = summary(args.horizons, predicted, measured, level)
    arrays = {"predicted": torch.from_numpy(predicted), "measured": torch.from_numpy(measured)}
    save_checkpoint(
        run.dir / "changes.safetensors",
        arrays,
        {"paths": PATHS, "quantities": QUANTITIES, "horizons": args.horizons},
    )
    write_json(run.dir / "gradient_check.json", {"inputs": inputs} | results)
    draw(results, args, levels_of(rollouts, level), run.dir / "gradient_check")
    run.finish({"paths": results["paths"]})
    for path, row in results["paths"].items():
        mean = "unknown" if row["mean_correlation"] is None else f"{row['mean_correlation']:.2f}"
        logging.info("%s: mean correlation %s%s", path, mean, ", greyed" if row["greyed"] else "")
    logging.info("written to %s", run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_states=2, num_rollouts=2, horizons=0, batch_size=1)
    if args.num_rollouts % 2:
        raise UsageError(
            f"--num_rollouts is {args.num_rollouts}: give an even number, as one half predicts the other"
        )
    if args.share <= 0:
        raise UsageError(f"--share is {args.share}: give a number above 0, such as 0.05")


def fit_flags(args: Args, simulator: Simulator, starts: InformedStarts) -> Args:
    """The flags with sizes lowered to what the store has.

    Raises:
        UsageError: if memory cannot hold the rollouts simulated at a time.
    """
    args = fit_sizes(args, {"num_states": Limit(starts.count, counted(starts.count, "starting place"), 2)})
    batch = states_per_batch(args) * args.num_rollouts
    frames = batch * (max(args.horizons) + 1)
    check_memory(
        4 * frames * math.prod(simulator.model.config.obs_shape),
        f"{batch:,} rollouts at a time (--num_rollouts, --batch_size, --horizons)",
    )
    return args


def states_per_batch(args: Args) -> int:
    """States whose rollouts are simulated at a time."""
    return min(max(args.batch_size // args.num_rollouts, 1), args.num_states)


def measure_changes(
    args: Args, simulator: Simulator, starts: InformedStarts
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured changes [2, paths, quantities, horizons, n], for two halves of the rollouts."""
    predicted, measured = np.zeros((2, 2, len(PATHS), len(QUANTITIES), len(args.horizons), args.num_states))
    per_batch = states_per_batch(args)
    for begin in progress_bar(range(0, args.num_states, per_batch), unit="batch", desc="gradient check"):
        states = np.arange(begin, min(begin + per_batch, args.num_states))
        for whole, part in zip((predicted, measured), _batch(args, simulator, starts, states)):
            whole[..., states] = np.stack([part[..., half::2].mean(-1) for half in (0, 1)])
    return predicted, measured


def _batch(
    args: Args, simulator: Simulator, starts: InformedStarts, states: np.ndarray
) -> Iterator[np.ndarray]:
    """Predicted and measured changes [paths, quantities, horizons, states, rollouts]."""
    own = NoiseKeys(args.seed, states)
    with torch.no_grad():
        z = starts.latents(states, own, "cpu")
    noise = NoiseKeys(args.seed + _MOVE_SEED, states).normal(z.shape[1], z)
    move = perturbations(z, noise, args.share, simulator.model.spherical)
    if args.hold_place:
        move = holding_place(simulator, z, move)
    width = simulator.agent.core.state_size
    unit = (NoiseKeys(args.seed + _UNIT_SEED, states).uniform(0, 0, z) * width).long()
    z, move, unit = (x.repeat_interleave(args.num_rollouts, 0) for x in (z, move, unit))
    keys = NoiseKeys(
        args.seed, np.repeat(states, args.num_rollouts), np.tile(np.arange(args.num_rollouts), len(states))
    )
    both = predicted_and_measured_changes(simulator, z, move, keys, max(args.horizons) + 1, unit)
    return (x[:, :, list(args.horizons)].unflatten(-1, (len(states), -1)).double().numpy() for x in both)


def summary(horizons, predicted: np.ndarray, measured: np.ndarray, level: np.ndarray) -> dict:
    """Slope, correlation, sign agreement and noise ceiling, by path, quantity and horizon.

    Args:
        horizons: [K].
        predicted: from `measure_changes`.
        measured: likewise.
        level: [n], of each state.
    """
    cells = []
    for p, path in enumerate(PATHS):
        for q, quantity in enumerate(QUANTITIES):
            for h, k in enumerate(horizons):
                halves = predicted[:, p, q, h], measured[:, p, q, h]
                found = cross_half_agreement(*halves, level) | {"ceiling": noise_ceiling(*halves)}
                cells.append(
                    {
                        "path": path,
                        "quantity": quantity,
                        "k": k,
                        **found,
                        "greyed": not found["ceiling"] or _is_grey(*found["correlation"][:2]),
                    }
                )
    paths = {}
    for path in PATHS:
        mine = [cell for cell in cells if cell["path"] == path]
        known = [cell["correlation"][0] for cell in mine if cell["correlation"][0] is not None]
        mean = float(np.mean(known)) if known else None
        paths[path] = {"mean_correlation": mean, "greyed": mean is None or mean < GREY_BELOW}
    return {"states": len(level), "levels": len(np.unique(level)), "paths": paths, "cells": cells}


def _is_grey(correlation: float | None, low: float | None) -> bool:
    """Whether a correlation is too low, not significant, or undefined because nothing changed."""
    return correlation is None or low is None or correlation < GREY_BELOW or low <= 0


def levels_of(rollouts: Rollouts, level: np.ndarray) -> str:
    """Range of levels and mode of the game, for the caption."""
    game = (rollouts.manifest.get("env") or {}).get("distribution_mode", "")
    return f"{level.min():,}-{level.max():,}" + (f", {game}" if game else "")


def draw(results: dict, args: Args, levels: str, path: Path) -> None:
    """Correlation (top) and slope (bottom) by horizon, a column for each path; greyed results in grey."""
    figure, axes = new_figure(2, len(PATHS), (3.0, 2.5), sharex=True, sharey="row")
    for column, name in enumerate(PATHS):
        axes[0, column].set_title(f"path: {name}")
        axes[0, column].axhspan(-1, GREY_BELOW, color="#f2f2f2", zorder=0)
        for row, (statistic, ideal) in enumerate((("correlation", 1), ("slope", 1))):
            axes[row, column].axhline(ideal, color=NULL["color"], linewidth=0.8)
            _draw_lines(
                axes[row, column],
                [cell for cell in results["cells"] if cell["path"] == name],
                statistic,
                args.horizons,
            )
        axes[1, column].set_xlabel("k, steps after the start")
    axes[0, 0].set_ylabel("correlation")
    axes[1, 0].set_ylabel("slope: measured per predicted")
    axes[0, 0].set_ylim(-0.4, 1.05)
    axes[1, 0].set_ylim(-0.5, 2.5)
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    held = " that leaves the view's place and motion as they are" if args.hold_place else ""
    text = (
        "Change of each quantity at step k predicted by the straight-through gradient, against the change "
        f"over other common-noise rollouts ({args.num_rollouts // 2} each), for a random move of "
        f"{args.share:.0%} of the latent's length{held}. Bars: 95%, by level. Open grey marks: correlation "
        f"below {GREY_BELOW}, or not significantly above 0, or a ceiling of 0. Ticks: ceiling, what a "
        "perfect estimator would show with as many rollouts."
    )
    add_caption(figure, text, f"{results['states']} states", levels)
    save_figure(figure, path)


def _draw_lines(axis, cells: list[dict], statistic: str, horizons) -> None:
    spread = np.linspace(-0.2, 0.2, len(QUANTITIES))
    for q, quantity in enumerate(QUANTITIES):
        mine = [cell for cell in cells if cell["quantity"] == quantity]
        x = np.arange(len(horizons)) + spread[q]
        values = np.array([cell[statistic] for cell in mine], float)
        axis.plot(
            x,
            values[:, 0],
            color=NULL["color"] if all(cell["greyed"] for cell in mine) else GROUPS[q],
            linewidth=0.8,
            alpha=0.4,
        )
        axis.plot([], [], "o", color=GROUPS[q], markersize=4, label=quantity)
        for at, (middle, low, high), cell in zip(x, values, mine):
            color = NULL["color"] if cell["greyed"] else GROUPS[q]
            axis.plot([at, at], [low, high], color=color, linewidth=1)
            axis.plot(
                at,
                middle,
                "o",
                color=color,
                markersize=4,
                markerfacecolor="white" if cell["greyed"] else color,
            )
            if statistic == "correlation":
                axis.plot(
                    at, np.nan if cell["ceiling"] is None else cell["ceiling"], "_", color=color, markersize=6
                )
    axis.set_xticks(range(len(horizons)), [str(k) for k in horizons])


if __name__ == "__main__":
    run_main(main, ARGS)
