"""Checks a simulator against the real game: the same fork points are played on in both.

Four questions, asked at real fork points of held-out layouts. Does each action have the same effect? Does the
agent, with the same noise, act the same? How often does each event happen? Does deleting a hazard save the
agent as often as in the game? The last is also asked of the simulator teacher-forced by the game's frames,
which separates what it knows of hazards from what its own frames keep of them. Writes numbers to
results/real_check_precomp, figures and a page to results/real_check_plots; the same command resumes or
redraws.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    world_model_file: Path
    """World model of the simulator."""
    agent_file: Path
    """The agent it was trained with, which also recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts that fork points are taken from."""
    part: Literal["test", "train", "all"] = "test"
    """Split that fork points are from: test (held out), train (to measure memorization), or all."""
    per_layout: int = 4
    """Fork points per layout and question, at most; a layout gets a second one only where layouts run out."""
    num_fork_points: int = 256
    """Fork points for the questions on actions and on the agent."""
    draws: int = 4
    """Noise draws per fork point; the first is the recording's own."""
    num_hazards: int = 256
    """Fork points with a hazard 2-6 tiles ahead, played on with and without it."""
    hazard_draws: int = 8
    """Noise draws per such fork point, with and without the hazard; a risk is their mean."""
    steps: int = 24
    """Steps that the agent plays on."""
    hold: tuple[int, ...] = (1, 4)
    """Steps that an action is held when effects of actions are compared."""
    batch_size: int = 128
    """Runs that are played at a time."""
    seed: int = 0
    """Seed of the choice of fork points. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Directory that receives real_check_precomp and real_check_plots."""
    new: bool = False
    """Start another run even if this command already has one."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.game_check.real_check_page import build_page
from analysis.io.artefacts import cached_part, fork_point_columns
from analysis.io.size_limits import Limit, check_least, fit_sizes
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import choose_device, file_id, open_run
from common.words import counted
from generative.compatibility import check_split, frame_shape, load_recorder
from generative.simulator_file import load_simulator
from interpret.forks.action_effects import (
    effect_products,
    match_frames,
    player_motion,
    real_action_outcomes,
    representative_actions,
    simulated_action_outcomes,
)
from interpret.forks.fork_points import PARTS, ForkPoints, ForkPointSampler, recording_seed
from interpret.forks.world_comparison import PAIRED_STEPS, STRIP_STEPS, Runs, mismatched_baseline, run_arrays
from interpret.forks.worlds import RealWorld, SimulatedWorld, TeacherForcedWorld, World, run_in_batches
from rollouts.segment import Segment
from rollouts.states import longest_episode, replay_env
from rollouts.store import Rollouts

VERSION = 4
SETTINGS = (
    "part",
    "per_layout",
    "num_fork_points",
    "draws",
    "num_hazards",
    "hazard_draws",
    "steps",
    "hold",
    "seed",
)
"""Flags that the numbers depend on."""
KIND_CODES = {"saw": 0, "enemy": 1, "lava": 2}


class Check:
    """The questions, each answered by arrays by name."""

    def __init__(
        self,
        args: Args,
        real: RealWorld,
        simulated: World,
        teacher_forced: World,
        sampler: ForkPointSampler,
        noise_seed: int,
    ):
        """
        Args:
            args: the flags.
            real: the game.
            simulated: the simulator.
            teacher_forced: the simulator's predictions along runs of the game.
            sampler: of fork points.
            noise_seed: of the agent's noise.
        """
        self.args = args
        self.real = real
        self.simulated = simulated
        self.teacher_forced = teacher_forced
        self.sampler = sampler
        self.noise_seed = noise_seed
        self.env = real.env
        self.rollouts = sampler.rollouts

    def effects(self, hold: int) -> dict[str, np.ndarray]:
        """Every effect class held for `hold` steps from every fork point."""
        points = self.sampler.sample(self.args.num_fork_points)
        acts = representative_actions(self.env.effect_classes)
        real = real_action_outcomes(self.env, points, hold)
        simulated = simulated_action_outcomes(
            self.simulated, points, hold, acts, self.noise_seed, self.args.batch_size
        )
        moved = {"real_motion": player_motion(real), "simulated_motion": player_motion(simulated)}
        scores = {"products": effect_products(real, simulated), "ended": real.ended, "acts": acts}
        return fork_point_columns(points) | match_frames(real, simulated)._asdict() | moved | scores

    def closed_loop(self) -> dict[str, np.ndarray]:
        """The agent in both worlds, a mismatched baseline, and frames of the first draw at STRIP_STEPS."""
        points = self.sampler.sample(self.args.num_fork_points)
        found = fork_point_columns(points)
        for name, world in self._worlds().items():
            runs = self._run(world, points, self.args.draws, with_frames, f"{name}, closed loop")
            found |= {f"{name}/{key}": value for key, value in runs.items() if key != "frames"} | {
                f"{name}/frames": runs["frames"][:, :, 0]
            }
        real = Runs(*(found[f"real/{name}"] for name in Runs._fields))
        null = mismatched_baseline(real, points, self.noise_seed)
        found |= {"null/action": null.action, "null/running": null.running}
        return found | {"retraced": self._retraced(points, real.action[:, :, 0], real.running[:, :, 0])}

    def hazards(self) -> dict[str, np.ndarray]:
        """The agent with and without a hazard ahead, in both worlds and teacher-forced."""
        intact, deleted, ahead = self.sampler.sample_hazards(self.args.num_hazards, self.real.policy)
        found = fork_point_columns(intact) | {
            "left": np.array([h.left for h in ahead]),
            "kind": np.array([KIND_CODES[h.kind] for h in ahead]),
        }
        for arm, points in (("intact", intact), ("deleted", deleted)):
            for name, world in (self._worlds() | {"watched": self.teacher_forced}).items():
                runs = self._run(world, points, self.args.hazard_draws, with_frames, f"{name}, hazard {arm}")
                found |= {
                    f"{name}/{arm}/{key}": value
                    for key, value in runs.items()
                    if key not in ("hidden", "logits", "frames")
                }
                found[f"{name}/{arm}/frame"] = runs["frames"][0, :, 0]
                if name != "watched":  # its frames are the game's
                    found[f"{name}/{arm}/frames"] = runs["frames"][:, :, 0]
        return found

    def _worlds(self) -> dict[str, World]:
        return {"real": self.real, "simulated": self.simulated}

    def _run(self, world: World, points: ForkPoints, draws: int, keep, desc: str) -> dict[str, np.ndarray]:
        with progress_bar(total=len(points) * draws, unit="run", desc=desc) as bar:
            return run_in_batches(
                world, points, self.args.steps, self.noise_seed, draws, self.args.batch_size, keep, bar=bar
            )

    def _retraced(self, points: ForkPoints, action: np.ndarray, running: np.ndarray) -> np.ndarray:
        """Share [M] of the recorded actions that a fork with the recording's noise takes again.

        Below 1, states or noise are misaligned. action, running [T, M]: of the real forks' first draw.
        """
        shares = []
        for i, (episode, step) in enumerate(zip(points.episode, points.step)):
            recorded = self.rollouts.episode(episode)["action"][step : step + self.args.steps]
            taken = action[: len(recorded), i]
            shares.append(np.mean((taken == recorded) & running[: len(recorded), i]))
        return np.array(shares)


def with_frames(segment: Segment) -> dict[str, np.ndarray]:
    """What is kept of a batch of runs, with the frames at the steps STRIP_STEPS."""
    return run_arrays(segment) | {
        "frames": segment.obs[[s for s in STRIP_STEPS if s < len(segment.obs)]].numpy()
    }


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    sizes = [name for name in SETTINGS if name not in ("part", "seed")]
    check_least(args, **dict.fromkeys((*sizes, "batch_size"), 1))


def identity(args: Args) -> dict:
    """Version and SETTINGS."""
    return {"version": VERSION} | {name: getattr(args, name) for name in SETTINGS}


def open_worlds(args: Args) -> Check:
    """Both worlds, with sizes lowered to what the store has.

    Raises:
        UsageError: if agent, store and model do not belong together, or memory cannot hold the runs.
        BadCheckpoint: for a damaged file.
    """
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    load_recorder(rollouts, args.agent_file, device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, device=device)
    check_split(meta, args.world_model_file)
    sampler = ForkPointSampler(
        rollouts, simulator.model.config.num_initializing_steps, PARTS[args.part], args.seed, args.per_layout
    )
    args = fit_sizes(args, limits(args, sampler))
    check_memory(
        bytes_kept(args, rollouts),
        "the results of these fork points, draws and steps (--num_fork_points, --draws, --num_hazards, "
        "--hazard_draws, --steps)",
    )
    real = RealWorld(replay_env(rollouts, min(args.batch_size, most_runs(args))), simulator.agent, device)
    return Check(
        args,
        real,
        SimulatedWorld(simulator),
        TeacherForcedWorld(real, simulator),
        sampler,
        recording_seed(rollouts),
    )


def limits(args: Args, sampler: ForkPointSampler) -> dict[str, Limit]:
    """Largest sizes by flag: fork points in the store, and steps of its game."""
    points = Limit(len(sampler), f"{counted(len(sampler), 'fork point')} of layouts for {args.part}")
    longest = longest_episode(sampler.rollouts)
    return dict.fromkeys(("num_fork_points", "num_hazards"), points) | dict.fromkeys(
        ("steps", "hold"), Limit(longest, f"an episode lasts {longest} steps at most")
    )


def most_runs(args: Args) -> int:
    """Largest number of runs of one question."""
    return max(args.num_fork_points * args.draws, args.num_hazards * args.hazard_draws)


def bytes_kept(args: Args, rollouts: Rollouts) -> int:
    """Bytes that one question keeps of its runs in two worlds, at least; see `with_frames`."""
    about = rollouts.manifest
    together = 4 * min(args.steps, PAIRED_STEPS) * (about["hidden_size"] + about["num_actions"])
    return (
        2
        * most_runs(args)
        * (
            14 * args.steps
            + together
            + sum(s < args.steps for s in STRIP_STEPS) * math.prod(frame_shape(rollouts))
        )
    )


def main(args: Args) -> None:
    check_flags(args)
    check = open_worlds(args)
    args = check.args
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": check.rollouts.id,
    }
    precision = choose_precision(args.precision, check.real.device)
    run = open_run(
        args.out_dir / "real_check_precomp",
        "real_check",
        identity(args),
        args.new,
        inputs,
        precision=precision,
    )
    set_precision(run.precision, check.simulated.simulator.model, check.simulated.simulator.agent)
    arrays = {
        f"effects_{hold}": cached_part(run, f"effects_{hold}", lambda: check.effects(hold))
        for hold in args.hold
    }
    arrays["closed_loop"] = cached_part(run, "closed_loop", check.closed_loop)
    if check.env.config.env_name == "coinrun":
        arrays["hazards"] = cached_part(run, "hazards", check.hazards)
    about = {"inputs": inputs, "asked": identity(args), "game": check.env.config.env_name}
    about |= {"effect_classes": list(check.env.effect_classes), "action_names": list(check.env.action_names)}
    summary = build_page(arrays, about, args.out_dir / "real_check_plots" / run.dir.name)
    write_json(run.dir / "summary.json", summary)
    run.finish({"page": str(args.out_dir / "real_check_plots" / run.dir.name / "real_check.html")})
    for line in summary["lines"]:
        logging.info("%s", line)
    logging.info("page: %s", args.out_dir / "real_check_plots" / run.dir.name / "real_check.html")


if __name__ == "__main__":
    run_main(main, ARGS)
