"""Checks a simulator against the real game: the same moments played on in both, action by action and with the agent in the loop.

Four questions, each from saved real moments of held-out layouts: does each action do the same? does the agent, with the same noise,
act the same? how often does what happen? and does deleting a hazard save the agent as often as it does in the game? The last is also asked of
the simulator where it is shown every frame of the game, which tells what it knows of hazards from what its own pictures keep of them.
Numbers go to results/real_check_precomp, figures and a page to results/real_check_plots; the same command again goes on or redraws.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The simulator: a world model."""
    agent_file: Path
    """The agent that it was trained with, which recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts, from which moments are taken."""
    part: Literal["test", "train", "all"] = "test"
    """Layouts that moments are from: never trained on; trained on (what is better there is memory); or both."""
    per_layout: int = 1
    """The most moments that one layout gives, to each question."""
    num_moments: int = 64
    """Moments that are played on in both worlds."""
    draws: int = 4
    """Noise draws per moment; the first is the recording's own."""
    num_hazards: int = 64
    """Moments with a hazard 2-6 tiles ahead, which are played on with and without it."""
    hazard_draws: int = 16
    """Noise draws per such moment and arm: a risk is a mean over these."""
    steps: int = 24
    """How far the agent plays on."""
    hold: tuple[int, ...] = (1, 4)
    """Steps for which one action is held when the effects of actions are compared."""
    batch_size: int = 128
    """Runs that are played together."""
    seed: int = 0
    """Seed of the choice of moments. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Where real_check_precomp and real_check_plots are written."""
    new: bool = False
    """Start afresh where the same command has already run."""
    device: str = "auto"
    """auto, gpu or cpu, for agent and simulator."""
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
from analysis.artefacts import moment_names, part
from analysis.limits import Limit, check_least, fit_sizes
from analysis.real_check_page import build
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, open_run
from common.words import counted
from generative.compatibility import check_store, frame_shape, recorded_by
from generative.simulator import load_simulator
from interpret.effects import match, motion, products, real_consequences, representatives, simulated_consequences
from interpret.moments import PARTS, Bank, Moments, recording_seed
from interpret.two_worlds import STRIP, TOGETHER, Runs, kept, strangers
from interpret.worlds import RealWorld, SimulatedWorld, WatchedWorld, World, in_batches
from rollouts.segment import Segment
from rollouts.states import longest_episode, replay_env
from rollouts.store import Rollouts

VERSION = 3


class Check:
    """Both worlds over one store, and what each question keeps of them, as arrays by name. watched: the game, as the simulator foretells it that sees it."""

    def __init__(self, args: Args, real: RealWorld, simulated: World, watched: World, bank: Bank, noise_seed: int):
        self.args, self.real, self.simulated, self.watched, self.bank, self.noise_seed = args, real, simulated, watched, bank, noise_seed
        self.env, self.rollouts = real.env, bank.rollouts

    def effects(self, hold: int) -> dict[str, np.ndarray]:
        """Every effect class held for `hold` steps from every moment."""
        moments, acts = self.bank.moments(self.args.num_moments), representatives(self.env.effect_classes)
        real = real_consequences(self.env, moments, hold)
        simulated = simulated_consequences(self.simulated, moments, hold, acts, self.noise_seed, self.args.batch_size)
        moved = {"real_motion": motion(real), "simulated_motion": motion(simulated)}
        scores = {"products": products(real, simulated), "ended": real.ended, "acts": acts}
        return moment_names(moments) | match(real, simulated)._asdict() | moved | scores

    def closed_loop(self) -> dict[str, np.ndarray]:
        """The agent for itself in both worlds, and the frames of the first draw at the steps STRIP."""
        moments = self.bank.moments(self.args.num_moments)
        found = moment_names(moments)
        for name, world in self._worlds().items():
            runs = self._run(world, moments, self.args.draws, with_frames, f"{name}, closed loop")
            found |= {f"{name}/{key}": value for key, value in runs.items() if key != "frames"} | {f"{name}/frames": runs["frames"][:, :, 0]}
        real = Runs(*(found[f"real/{name}"] for name in Runs._fields))
        null = strangers(real, moments, self.noise_seed)
        found |= {"null/action": null.action, "null/running": null.running}
        return found | {"retraced": self._retraced(moments, real.action[:, :, 0], real.running[:, :, 0])}

    def hazards(self) -> dict[str, np.ndarray]:
        """The same with a hazard ahead and without it, and what the simulator foretells where it is shown the game's own frames."""
        intact, deleted, ahead = self.bank.hazards(self.args.num_hazards, self.real.policy)
        found = moment_names(intact) | {"left": np.array([h.left for h in ahead]), "kind": np.array([KIND_CODES[h.kind] for h in ahead])}
        for arm, moments in (("intact", intact), ("deleted", deleted)):
            for name, world in (self._worlds() | {"watched": self.watched}).items():
                runs = self._run(world, moments, self.args.hazard_draws, with_frames, f"{name}, hazard {arm}")
                found |= {f"{name}/{arm}/{key}": value for key, value in runs.items() if key not in ("hidden", "logits", "frames")}
                found[f"{name}/{arm}/frame"] = runs["frames"][0, :, 0]
                if name != "watched":  # its frames are the game's
                    found[f"{name}/{arm}/frames"] = runs["frames"][:, :, 0]
        return found

    def _worlds(self) -> dict[str, World]:
        return {"real": self.real, "simulated": self.simulated}

    def _run(self, world: World, moments: Moments, draws: int, keep, desc: str) -> dict[str, np.ndarray]:
        with progress_bar(total=len(moments) * draws, unit="run", desc=desc) as bar:
            return in_batches(world, moments, self.args.steps, self.noise_seed, draws, self.args.batch_size, keep, bar=bar)

    def _retraced(self, moments: Moments, action: np.ndarray, running: np.ndarray) -> np.ndarray:
        """Share [M] of the recorded actions that a fork with the recording's noise takes again: 1, or states or noise are misaligned.

        action, running [T, M]: of the real forks' first draw.
        """
        shares = []
        for i, (episode, step) in enumerate(zip(moments.episode, moments.step)):
            recorded = self.rollouts.episode(episode)["action"][step : step + self.args.steps]
            taken = action[: len(recorded), i]
            shares.append(np.mean((taken == recorded) & running[: len(recorded), i]))
        return np.array(shares)


KIND_CODES = {"saw": 0, "enemy": 1, "lava": 2}


def with_frames(segment: Segment) -> dict[str, np.ndarray]:
    return kept(segment) | {"frames": segment.obs[[s for s in STRIP if s < len(segment.obs)]].numpy()}


def check_asked(args: Args) -> None:
    """Raises UsageError for numbers that make no sense."""
    check_least(args, **dict.fromkeys(("per_layout", "num_moments", "draws", "num_hazards", "hazard_draws", "steps", "hold", "batch_size"), 1))


def identity(args: Args) -> dict:
    """What the numbers depend on, besides the inputs."""
    wanted = ("part", "per_layout", "num_moments", "draws", "num_hazards", "hazard_draws", "steps", "hold", "seed")
    return {"version": VERSION} | {name: getattr(args, name) for name in wanted}


def open_worlds(args: Args) -> Check:
    """Both worlds, with the sizes that the store carries, once agent, store and model are known to belong together.

    Raises UsageError or BadCheckpoint if they do not, and UsageError for more runs than the machine's memory holds.
    """
    device = choose_device(args.device, args.gpu_device)
    rollouts = Rollouts.open(args.data_dir)
    agent, agent_meta = load_agent(args.agent_file, device)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    if not recorded_by(rollouts, file_id(args.agent_file)):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.agent_file}: its forks would not retrace; record with it")
    simulator, _ = load_simulator(args.model_file, args.agent_file, device=device)
    bank = Bank(rollouts, simulator.model.config.num_initializing_steps, PARTS[args.part], args.seed, args.per_layout)
    args = fit_sizes(args, limits(args, bank))
    check_memory(bytes_kept(args, rollouts), "what is kept of so many moments, draws and steps (--num_moments, --draws, --num_hazards, --hazard_draws, --steps)")
    real = RealWorld(replay_env(rollouts, min(args.batch_size, most_runs(args))), simulator.agent, device)
    return Check(args, real, SimulatedWorld(simulator), WatchedWorld(real, simulator), bank, recording_seed(rollouts))


def limits(args: Args, bank: Bank) -> dict[str, Limit]:
    """The sizes that the store carries, and the longest that its game lasts."""
    moments = Limit(len(bank), f"{counted(len(bank), 'moment')} of layouts for {args.part}")
    longest = longest_episode(bank.rollouts)
    return dict.fromkeys(("num_moments", "num_hazards"), moments) | dict.fromkeys(("steps", "hold"), Limit(longest, f"an episode lasts {longest} steps at most"))


def most_runs(args: Args) -> int:
    """The most forks that one question plays."""
    return max(args.num_moments * args.draws, args.num_hazards * args.hazard_draws)


def bytes_kept(args: Args, rollouts: Rollouts) -> int:
    """What one question keeps at least of its forks in two worlds: see `with_frames`."""
    about = rollouts.manifest
    together = 4 * min(args.steps, TOGETHER) * (about["hidden_size"] + about["num_actions"])
    return 2 * most_runs(args) * (14 * args.steps + together + sum(s < args.steps for s in STRIP) * math.prod(frame_shape(rollouts)))


def main(args: Args) -> None:
    check_asked(args)
    check = open_worlds(args)
    args = check.args
    inputs = {"model_file": file_id(args.model_file), "agent_file": file_id(args.agent_file), "data_dir": check.rollouts.id}
    precision = choose_precision(args.precision, check.real.device)
    run = open_run(args.out_dir / "real_check_precomp", "real_check", identity(args), args.new, inputs, precision=precision)
    set_precision(run.precision, check.simulated.simulator.model, check.simulated.simulator.agent)
    arrays = {f"effects_{hold}": part(run, f"effects_{hold}", lambda: check.effects(hold)) for hold in args.hold}
    arrays["closed_loop"] = part(run, "closed_loop", check.closed_loop)
    if check.env.config.env_name == "coinrun":
        arrays["hazards"] = part(run, "hazards", check.hazards)
    about = {"inputs": inputs, "asked": identity(args), "game": check.env.config.env_name}
    about |= {"effect_classes": list(check.env.effect_classes), "action_names": list(check.env.action_names)}
    summary = build(arrays, about, args.out_dir / "real_check_plots" / run.dir.name)
    write_json(run.dir / "summary.json", summary)
    run.finish({"page": str(args.out_dir / "real_check_plots" / run.dir.name / "real_check.html")})
    for line in summary["lines"]:
        logging.info("%s", line)
    logging.info("page: %s", args.out_dir / "real_check_plots" / run.dir.name / "real_check.html")


if __name__ == "__main__":
    run_main(main, ARGS)
