"""Gradient maps: how the agent's value depends on the pixels of a frame, directly and through the simulator.

Three routes: the value of the agent that sees the frame; its value some steps later in the simulator, given
the frame and the recorded actions; and the value of the same network with random weights, as a control
(Adebayo et al. 2018). The first two are checked by finite differences: patches of the frame are made brighter
and darker. Writes numbers to <out_dir>/frame_gradients_precomp; the demo's report draws them.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    world_model_file: Path
    """World model of the simulator."""
    agent_file: Path
    """The agent it was trained with, which also recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts."""
    num_states: int = 32
    """Recorded steps that maps are computed for, each from a different level."""
    steps: int = 4
    """Steps after which the value is read in the simulator."""
    draws: int = 8
    """Rollouts over which a simulated value and its gradient are averaged; the same noise for every patch."""
    num_patches: int = 16
    """Patches of each frame for the finite differences."""
    patch: int = 8
    """Side of a patch, in pixels."""
    change: float = 0.05
    """Change of a patch's brightness, pixels in [0, 1]."""
    seed: int = 0
    """Seed of states, patches, noise and untrained weights."""
    out_dir: Path = Path("results")
    """Directory that receives frame_gradients_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.io.steps import finish_step, open_step
from common.integrity import check_memory
from common.progress import progress_bar
from common.runs import UsageError, file_id
from common.stats import json_mean
from common.words import counted
from generative.compatibility import check_recorder
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import open_agent_rollouts
from interpret.attribution.frame_gradients import (
    direct_value,
    frame_gradient,
    measured_change,
    predicted_changes,
    randomised_agent,
    rank_correlation,
    sample_patches,
    simulated_value,
)
from interpret.attribution.gradient_estimator import to_float32
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.store import Rollouts
from rollouts.windows import Windows

STEP = "frame_gradients"
VERSION = 1
ROUTES = ("agent", "simulator", "untrained")
NOT_SETTINGS = ("world_model_file", "agent_file", "data_dir", "out_dir", "new", "log_level")


def main(args: Args) -> None:
    check_flags(args)
    simulator = to_float32(load_simulator(args.world_model_file, args.agent_file)[0])
    rollouts = open_agent_rollouts(args.data_dir, args.agent_file)
    check_recorder(rollouts, file_id(args.agent_file))
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": rollouts.id,
    }
    args, windows = choose_states(args, simulator, rollouts)
    settings = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new)
    if run.done:
        logging.info("%s is done; --new computes it again", run.dir)
        return
    arrays = cached_part(run, "gradients", lambda: gradients(args, simulator, windows))
    finish_step(
        run, summary(arrays) | {"steps": args.steps, "draws": args.draws, "patches": args.num_patches}
    )
    logging.info("gradient maps of %s: %s", counted(len(arrays["level"]), "state"), run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_states=2, steps=1, draws=1, num_patches=3, patch=1)
    if args.change <= 0:
        raise UsageError(f"--change is {args.change}: give a number above 0, such as 0.05")


def choose_states(args: Args, simulator: Simulator, rollouts: Rollouts) -> tuple[Args, Windows]:
    """Recorded windows, and the flags with sizes lowered to what the store and its frames have.

    Raises:
        UsageError: for too few levels, too large patches, or more rollouts at a time than memory can hold.
    """
    k = simulator.model.config.num_initializing_steps
    shape = simulator.model.config.obs_shape
    windows = draw_windows(rollouts, k + args.steps, args.num_states, args.seed)
    has = math.ceil(shape[1] / args.patch) ** 2
    if has < 3:
        found = f"a frame of {shape[1]} pixels has {counted(has, 'such patch')}, and 3 or more are needed"
        raise UsageError(f"--patch is {args.patch}: {found}; give a smaller one")
    states = Limit(
        len(windows),
        counted(len(windows), "level with an episode so long", "levels with an episode so long"),
        2,
    )
    patches_of = Limit(has, f"{has} patches of {args.patch} pixels", 3)
    args = fit_sizes(args, {"num_states": states, "num_patches": patches_of})
    frames = args.num_patches * args.draws * (k + args.steps)
    check_memory(
        4 * frames * math.prod(shape),
        f"{args.draws:,} draws of {args.num_patches} patches at a time (--draws, --num_patches)",
    )
    return args, windows


def draw_windows(rollouts: Rollouts, length: int, count: int, seed: int) -> Windows:
    """Up to `count` random windows of `length` steps, each from a different level.

    Raises:
        UsageError: for fewer than two levels.
    """
    table = np.random.default_rng([seed, 17]).permutation(
        rollouts.windows(length, anchor="start", pad="none").table
    )
    levels = rollouts.episodes["level_seed"][table[:, 0]] if len(table) else np.zeros(0)
    first = np.sort(np.unique(levels, return_index=True)[1])[:count]
    if len(first) < 2:
        found = f"episodes of {counted(length, 'step')} on {counted(len(first), 'level')}"
        raise UsageError(
            f"{rollouts.path} has {found}, and 2 levels are needed: lower --steps, or {RECORD_MORE}"
        )
    return Windows(rollouts, length, table[first])


def gradients(args: Args, simulator: Simulator, windows: Windows) -> dict[str, np.ndarray]:
    """Gradient maps and their checks for n windows.

    Returns:
        `frame` [n, H, W, C]; `map/<route>` [n, H, W], the norm of the gradient over colours;
        `predicted/<route>` and `measured/<route>` [n, P], changes of the value by patch; `value`, and `later`
        in the simulator [n]; `level`, `episode` and `step` [n].
    """
    k = simulator.model.config.num_initializing_steps
    untrained = randomised_agent(simulator.agent, args.seed)
    states = []
    for i in progress_bar(range(len(windows)), unit="state", desc="frame gradients"):
        states.append(one_state(args, simulator, untrained, windows.batch([i]), k, i))
    arrays = {name: np.stack([one[name] for one in states]) for name in states[0]}
    episode, start = windows.table.T
    return arrays | {
        "episode": episode,
        "step": start + k - 1,
        "level": windows.rollouts.episodes["level_seed"][episode],
    }


def one_state(
    args: Args, simulator: Simulator, untrained: ActorCritic, window: Segment, k: int, i: int
) -> dict[str, np.ndarray]:
    """Maps and changes of one window [K + steps, 1]."""
    frames = window.obs.float() / 255
    hidden = window.hidden[k - 1]
    corners = sample_patches(
        args.num_patches, frames.shape[2], args.patch, np.random.default_rng([args.seed, 18, i])
    )
    out = {"frame": window.obs[k - 1, 0].numpy(), "value": window.value[k - 1, 0].numpy()}
    for route in ROUTES:
        gradient, measured, value = _route(
            args, simulator, untrained, frames, hidden, window.action, k, i, corners, route
        )
        out[f"map/{route}"] = gradient.square().sum(-1).sqrt().numpy()
        out[f"predicted/{route}"] = predicted_changes(gradient[None], corners[None], args.patch, args.change)[
            0
        ].numpy()
        out[f"measured/{route}"] = measured.numpy()
        if route == "simulator":
            out["later"] = value.numpy()
    return out


def _route(
    args, simulator, untrained, frames, hidden, actions, k, i, corners, route
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient [H, W, C], measured changes [P] and value of one route, averaged over its noise draws."""

    def value_of(patches_: int):
        draws = args.draws if route == "simulator" else 1
        count = patches_ * draws
        if route == "simulator":
            keys = NoiseKeys(args.seed, np.full(count, i), np.tile(np.arange(draws), patches_))
            given = actions[k - 1 : k - 1 + args.steps].expand(-1, count)
            return simulated_value(
                simulator, frames[: k - 1].expand(-1, count, -1, -1, -1), given, keys
            ), draws
        agent, state = (
            (simulator.agent, hidden) if route == "agent" else (untrained, untrained.initial_state(1))
        )
        return direct_value(agent, state.expand(count, -1)), draws

    value, draws = value_of(1)
    shown = frames[k - 1].expand(draws, -1, -1, -1)
    gradient = frame_gradient(value, shown).mean(0)
    with torch.no_grad():
        mean_value = value(shown).mean()
    value, draws = value_of(len(corners))
    many = frames[k - 1].expand(len(corners) * draws, -1, -1, -1)
    measured = measured_change(value, many, corners.repeat(draws, 0), args.patch, args.change)
    return gradient, measured.reshape(len(corners), draws).mean(1), mean_value


def summary(arrays: dict[str, np.ndarray]) -> dict:
    """Agreement of gradient and finite difference by route, and of the agent's map with the other two.

    Means over states with intervals by level.
    """
    level = arrays["level"]
    checks = {
        route: correlation(arrays[f"predicted/{route}"], arrays[f"measured/{route}"]) for route in ROUTES
    }
    flat = {route: coarse(arrays[f"map/{route}"]).reshape(len(level), -1) for route in ROUTES}
    report = {f"check/{route}": json_mean(values, level) for route, values in checks.items()}
    report["like untrained"] = json_mean(rank_correlation(flat["agent"], flat["untrained"]), level)
    report["like the simulator's"] = json_mean(rank_correlation(flat["agent"], flat["simulator"]), level)
    return report


def coarse(maps: np.ndarray, side: int = 8) -> np.ndarray:
    """Maps [n, H, W] averaged over squares of `side` pixels (or the nearest that divides the frame)."""
    n, height, width = maps.shape
    side = next(s for s in range(min(side, height), 0, -1) if height % s == 0 and width % s == 0)
    return maps.reshape(n, height // side, side, width // side, side).mean((2, 4))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row of a, b [n, P]; NaN where a row is constant."""
    a, b = (x.astype(np.float64) - x.mean(1, keepdims=True, dtype=np.float64) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


if __name__ == "__main__":
    run_main(main, ARGS)
