"""True Q by forking the real game: is the value head calibrated, and at which steps does it matter what the agent does?

From saved moments every distinct action is taken in forks of the game and the agent plays on, over many noise draws shared by the
actions. No simulator is needed. Numbers go to results/true_q_precomp, figures and a page to results/true_q_plots; the same
command again goes on or redraws.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The agent, which recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts, from which moments are taken."""
    part: Literal["test", "train", "all"] = "all"
    """Layouts that moments are from, by the split of the world models; to the agent they are all alike."""
    per_layout: int = 1
    """The most moments that one layout gives."""
    num_moments: int = 40
    """Moments that are forked."""
    draws: int = 8
    """Noise draws per moment and action."""
    steps: int = 128
    """The longest a fork is played; what comes after is left out."""
    gamma: float | None = None
    """Discount; left out, the one that the agent was trained with (0.999, Procgen's, where its checkpoint does not say)."""
    batch_size: int = 288
    """Forks that are played together."""
    seed: int = 0
    """Seed of the choice of moments. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Where true_q_precomp and true_q_plots are written."""
    new: bool = False
    """Start afresh where the same command has already run."""
    device: str = "auto"
    """auto, gpu or cpu, for the agent."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import load_agent
from agents.ppo import PPOConfig
from analysis.artefacts import moment_names, part
from analysis.limits import Limit, check_least, fit_sizes
from analysis.true_q_page import build
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, open_run
from common.words import counted
from generative.compatibility import check_store, recorded_by
from interpret.moments import PARTS, Bank, recording_seed
from interpret.true_q import fork_returns, judge
from rollouts.states import longest_episode, replay_env
from rollouts.store import Rollouts

VERSION = 1
FRAMES = 1  # a fork needs no more than the frame on show
BYTES_PER_FORK = 33
"""Its return, whether it was cut, and which moment, action and draw it is of."""


def identity(args: Args) -> dict:
    """What the numbers depend on, besides the inputs."""
    return {"version": VERSION} | {name: getattr(args, name) for name in ("part", "per_layout", "num_moments", "draws", "steps", "gamma", "seed")}


def check_asked(args: Args) -> None:
    """Raises UsageError for numbers that make no sense."""
    check_least(args, per_layout=1, num_moments=2, draws=2, steps=1, batch_size=1)
    if args.gamma is not None and not 0 < args.gamma <= 1:
        raise UsageError(f"--gamma is {args.gamma}: a discount lies above 0 and at most at 1")


def bank_of(args: Args, rollouts: Rollouts) -> Bank:
    return Bank(rollouts, FRAMES, PARTS[args.part], args.seed, args.per_layout)


def fitted(args: Args, bank: Bank, classes: int) -> Args:
    """The flags with the sizes that the store carries. Raises UsageError for more draws than the machine's memory holds. classes: distinct actions."""
    longest = longest_episode(bank.rollouts)
    moments = Limit(len(bank), f"{counted(len(bank), 'moment')} of layouts for {args.part}", 2)
    args = fit_sizes(args, {"num_moments": moments, "steps": Limit(longest, f"an episode lasts {longest} steps at most")})
    forks = args.num_moments * classes * args.draws
    check_memory(BYTES_PER_FORK * forks, f"what is kept of {forks:,} forks (--num_moments, --draws)")
    return replace(args, batch_size=min(args.batch_size, forks))


def compute(args: Args, bank: Bank, agent, device) -> dict[str, np.ndarray]:
    """Forks every moment; arrays by name."""
    rollouts, moments = bank.rollouts, bank.moments(args.num_moments)
    env = replay_env(rollouts, args.batch_size)
    value, shares = judge(agent, moments, env.effect_classes, device)
    seed = recording_seed(rollouts)
    with progress_bar(total=len(moments) * shares.shape[1] * args.draws, unit="fork", desc="true Q") as bar:
        found = fork_returns(env, agent, moments, args.draws, args.steps, args.gamma, seed, device, bar)
    env.close()
    return moment_names(moments) | found._asdict() | {"value": value, "shares": shares, "frame": moments.frames[-1]}


def main(args: Args) -> None:
    check_asked(args)
    device, rollouts = choose_device(args.device, args.gpu_device), Rollouts.open(args.data_dir)
    agent, meta = load_agent(args.model_file, device)
    args = args if args.gamma is not None else replace(args, gamma=meta.get("gamma", PPOConfig.gamma))
    check_store(rollouts, agent, meta, args.model_file)
    if not recorded_by(rollouts, file_id(args.model_file)):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.model_file}; record with this one")
    bank, classes = bank_of(args, rollouts), classes_of(rollouts)
    args = fitted(args, bank, len(classes))
    inputs = {"model_file": file_id(args.model_file), "data_dir": rollouts.id}
    run = open_run(args.out_dir / "true_q_precomp", "true_q", identity(args), args.new, inputs, precision=choose_precision(args.precision, device))
    set_precision(run.precision, agent)
    found = part(run, "true_q", lambda: compute(args, bank, agent, device))
    about = {"inputs": inputs, "asked": identity(args), "reward_scale": meta.get("reward_scale", 1.0)}
    about |= {"action_names": [rollouts.manifest["action_names"][i] for i in classes]}
    page = args.out_dir / "true_q_plots" / run.dir.name / "true_q.html"
    summary = build(found, about, page)
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
