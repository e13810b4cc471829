"""True Q by forking the real game: is the value head calibrated, and at which steps does the action matter?

From saved fork points every distinct action is taken in forks of the game and the agent plays on, over many
noise draws shared by the actions. No simulator is needed. Writes numbers to results/true_q_precomp, figures
and a page to results/true_q_plots; the same command resumes or redraws.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts that fork points are taken from."""
    part: Literal["test", "train", "all"] = "all"
    """Split of the world models that fork points are from; the agent was trained on none of it."""
    per_layout: int = 1
    """Fork points per layout, at most."""
    num_fork_points: int = 40
    """Number of fork points."""
    draws: int = 8
    """Noise draws per fork point and action."""
    steps: int = 128
    """Horizon of a fork; later rewards are ignored."""
    gamma: float | None = None
    """Discount; default: the one that the agent was trained with, or 0.999 if its checkpoint has none."""
    batch_size: int = 288
    """Forks that are played at a time."""
    seed: int = 0
    """Seed of the choice of fork points. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Directory that receives true_q_precomp and true_q_plots."""
    new: bool = False
    """Start another run even if this command already has one."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.ppo import PPOConfig
from analysis.game_check.true_q_page import build_page
from analysis.io.artefacts import cached_part, fork_point_columns
from analysis.io.size_limits import Limit, check_least, fit_sizes
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, open_run
from common.words import counted
from generative.compatibility import load_recorder
from interpret.forks.fork_points import PARTS, ForkPointSampler, recording_seed
from interpret.forks.true_q import fork_returns, policy_outputs
from rollouts.states import longest_episode, replay_env
from rollouts.store import Rollouts

VERSION = 2
NUM_FRAMES = 1  # a fork needs only the current frame
BYTES_PER_FORK = 33
"""Return, whether it was cut, and numbers of fork point, action and draw."""


def identity(args: Args) -> dict:
    """Flags that the numbers depend on, besides the inputs."""
    return {"version": VERSION} | {
        name: getattr(args, name)
        for name in ("part", "per_layout", "num_fork_points", "draws", "steps", "gamma", "seed")
    }


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, per_layout=1, num_fork_points=2, draws=2, steps=1, batch_size=1)
    if args.gamma is not None and not 0 < args.gamma <= 1:
        raise UsageError(f"--gamma is {args.gamma}: give a discount above 0 and at most 1")


def make_sampler(args: Args, rollouts: Rollouts) -> ForkPointSampler:
    """Fork points of the chosen split."""
    return ForkPointSampler(rollouts, NUM_FRAMES, PARTS[args.part], args.seed, args.per_layout)


def fit_flags(args: Args, sampler: ForkPointSampler, num_classes: int) -> Args:
    """The flags with sizes lowered to what the store has.

    Args:
        args: the flags.
        sampler: of fork points.
        num_classes: number of distinct actions.

    Raises:
        UsageError: for more forks than the machine's memory holds.
    """
    longest = longest_episode(sampler.rollouts)
    points = Limit(len(sampler), f"{counted(len(sampler), 'fork point')} of layouts for {args.part}", 2)
    args = fit_sizes(
        args,
        {"num_fork_points": points, "steps": Limit(longest, f"an episode lasts {longest} steps at most")},
    )
    forks = args.num_fork_points * num_classes * args.draws
    check_memory(BYTES_PER_FORK * forks, f"what is kept of {forks:,} forks (--num_fork_points, --draws)")
    return replace(args, batch_size=min(args.batch_size, forks))


def compute_returns(args: Args, sampler: ForkPointSampler, agent, device) -> dict[str, np.ndarray]:
    """Returns of forks from every fork point, with the agent's value and policy there, as arrays by name."""
    rollouts = sampler.rollouts
    points = sampler.sample(args.num_fork_points)
    env = replay_env(rollouts, args.batch_size)
    value, shares = policy_outputs(agent, points, env.effect_classes, device)
    seed = recording_seed(rollouts)
    with progress_bar(total=len(points) * shares.shape[1] * args.draws, unit="fork", desc="true Q") as bar:
        returns = fork_returns(env, agent, points, args.draws, args.steps, args.gamma, seed, device, bar)
    env.close()
    return (
        fork_point_columns(points)
        | returns._asdict()
        | {"value": value, "shares": shares, "frame": points.frames[-1]}
    )


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, meta = load_recorder(rollouts, args.agent_file, device)
    args = args if args.gamma is not None else replace(args, gamma=meta.get("gamma", PPOConfig.gamma))
    sampler = make_sampler(args, rollouts)
    classes = classes_of(rollouts)
    args = fit_flags(args, sampler, len(classes))
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    run = open_run(
        args.out_dir / "true_q_precomp",
        "true_q",
        identity(args),
        args.new,
        inputs,
        precision=choose_precision(args.precision, device),
    )
    set_precision(run.precision, agent)
    arrays = cached_part(run, "true_q", lambda: compute_returns(args, sampler, agent, device))
    about = {"inputs": inputs, "asked": identity(args), "reward_scale": meta.get("reward_scale", 1.0)}
    about |= {"action_names": [rollouts.manifest["action_names"][i] for i in classes]}
    page = args.out_dir / "true_q_plots" / run.dir.name / "true_q.html"
    summary = build_page(arrays, about, page)
    write_json(run.dir / "summary.json", summary)
    run.finish({"page": str(page)})
    for line in summary["lines"]:
        logging.info("%s", line)
    logging.info("page: %s", page)


def classes_of(rollouts: Rollouts) -> np.ndarray:
    """One action of each effect class of the store's game."""
    env = replay_env(rollouts, 1)
    classes = np.unique(env.effect_classes)
    env.close()
    return classes


if __name__ == "__main__":
    run_main(main, ARGS)
