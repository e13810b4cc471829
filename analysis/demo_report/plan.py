"""Sizes of the demo: the machine is timed, and the largest sizes that end within the time limit are chosen.

Every step costs a fixed time and a time that grows with its size, both measured on a reference machine; this
machine's speed at training, playing and simulating scales them. The plan is saved with the results, so that
the same command resumes with the same sizes.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.ppo import update
from agents.presets import load_preset
from agents.trainer import Schedule, Trainer
from common.checkpoints import write_json
from common.runs import UsageError, choose_device
from envs.make import make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator

PLAN = "plan.json"
VERSION = 5
_TIMED_STEPS = 8  # of a rollout, in each of the preset's environments, and of a simulation
_TIMED_SAMPLES = 32  # simulated in one batch
_ROUNDS = 3  # of each timing
_MARGIN = 0.8  # fraction of the time limit that is planned: estimates are rough


@dataclass(frozen=True)
class Rates:
    """Speed of a machine, per second: steps of training, of play, of the shipped simulator; script starts."""

    training: float
    playing: float
    simulating: float
    starting: float


REFERENCE = Rates(training=850.0, playing=5300.0, simulating=1000.0, starting=0.3)
"""The machine on which costs were measured."""


@dataclass(frozen=True)
class Cost:
    """Cost of a step of the demo.

    Args:
        scripts: number of scripts it starts.
        fixed: seconds on the reference machine that do not depend on the size.
        unit: seconds on the reference machine per unit of the size.
        rate: field of Rates that scales these seconds.
    """

    scripts: int
    fixed: float
    unit: float
    rate: str


@dataclass(frozen=True)
class Sizes:
    """Sizes of all results. The defaults are the largest."""

    num_timesteps: int = 49_152
    """Training steps of the demo's agent."""
    eval_episodes: int = 200
    """Evaluation episodes of the shipped agent on training and on unseen levels, each; the demo's own agent,
    whose episodes are longer, plays a quarter of them.
    """
    num_episodes: int = 600
    """Recorded episodes."""
    num_batches: int = 600
    """Training batches of the demo's world model."""
    num_samples: int = 128
    """Simulated episodes."""
    num_windows: int = 96
    """Held-out windows on which world models are scored."""
    probe_episodes: int = 300
    """Recorded episodes whose concepts are probed."""
    num_hazards: int = 48
    """States in which a hazard is deleted."""
    gradient_states: int = 24
    """Frames with a gradient map."""
    saliency_samples: int = 16
    """Simulated samples with saliency maps."""
    saliency_states: int = 32
    """States whose saliency maps are compared with the deletion of objects in the game."""
    target_iterations: int = 100
    """Iterations that optimise latents."""
    pushed_forks: int = 40
    """States from which the agent plays on with a direction pushed, and without."""
    dt_episodes: int = 64
    """Levels that a Decision Transformer plays for each of three returns, and a clone and the agent once."""


Steps = dict[str, tuple[Cost, str]]
"""{title: cost of a step, and the field of Sizes that it grows with}."""

LEAST = Sizes(6_144, 64, 120, 20, 24, 16, 80, 8, 5, 6, 8, 16, 5, 16)
"""Smallest useful sizes: a machine of 0.42 of the reference's speed needs ten minutes for them, and a slower
one exceeds the time limit. Means are still over enough levels for an interval.
"""
STEPS: Steps = {
    "train an agent": (Cost(1, 6, 1 / 850, "training"), "num_timesteps"),
    "score agents": (Cost(4, 8, 0.08, "playing"), "eval_episodes"),
    "record episodes": (Cost(1, 1, 0.034, "playing"), "num_episodes"),
    "label frames for the world model": (Cost(1, 1, 0.02, "playing"), "num_episodes"),
    "train a world model": (Cost(1, 20, 0.28, "simulating"), "num_batches"),
    "simulate episodes": (Cost(3, 1, 0.08, "simulating"), "num_samples"),
    "map hidden states": (Cost(1, 14, 0, "training"), "num_samples"),
    "gradient maps, with finite differences": (Cost(1, 1, 1.6, "simulating"), "gradient_states"),
    "saliency maps, and their panel": (Cost(2, 1, 0.6, "simulating"), "saliency_samples"),
    "optimise latents": (Cost(1, 11, 0.5, "simulating"), "target_iterations"),
    "score world models, and the report": (Cost(0, 15, 0.2, "simulating"), "num_windows"),
}
"""Steps for every game."""
COINRUN_STEPS: Steps = {
    "read concepts from the game's state": (Cost(1, 1, 0.027, "playing"), "num_episodes"),
    "probe hidden states": (Cost(1, 6, 0.1, "training"), "probe_episodes"),
    "saliency maps against deleted objects": (Cost(1, 3, 1.1, "simulating"), "saliency_states"),
    "delete objects in game and simulator": (Cost(1, 4, 0.5, "simulating"), "num_hazards"),
    "push a direction in game and simulator": (Cost(1, 3, 0.12, "simulating"), "pushed_forks"),
    "play a Decision Transformer": (Cost(1, 2, 0.29, "playing"), "dt_episodes"),
}
"""Further steps for CoinRun, whose states can be read and edited."""


def steps_of(env_name: str) -> Steps:
    """The steps of the demo for a game."""
    return STEPS | (COINRUN_STEPS if env_name == "coinrun" else {})


def interpolate_sizes(share: float) -> Sizes:
    """Sizes between LEAST (share 0) and the largest (share 1), interpolated geometrically."""
    most = Sizes()
    pairs = (
        (field.name, getattr(LEAST, field.name), getattr(most, field.name))
        for field in dataclasses.fields(Sizes)
    )
    return Sizes(**{name: round(low * (high / low) ** share) for name, low, high in pairs})


def is_small(sizes: Sizes) -> bool:
    """Whether sizes are nearer to the least than to the largest ones, by the states in which hazards are
    deleted.
    """
    return sizes.num_hazards < (LEAST.num_hazards * Sizes().num_hazards) ** 0.5


def seconds(cost: Cost, size: int, rates: Rates) -> float:
    """Seconds of a step on a machine with these rates."""
    slowdown = getattr(REFERENCE, cost.rate) / getattr(rates, cost.rate)
    return cost.scripts / rates.starting + (cost.fixed + cost.unit * size) * slowdown


def estimate_seconds(steps: Steps, sizes: Sizes, rates: Rates) -> dict[str, float]:
    """Seconds of every step."""
    return {title: seconds(cost, getattr(sizes, field), rates) for title, (cost, field) in steps.items()}


def choose_sizes(steps: Steps, rates: Rates, minutes: float) -> Sizes:
    """The largest sizes whose estimate stays within the time limit; LEAST if none does."""
    shares = np.linspace(1, 0, 101)
    fits = (
        sizes
        for sizes in map(interpolate_sizes, shares)
        if sum(estimate_seconds(steps, sizes, rates).values()) <= _MARGIN * 60 * minutes
    )
    return next(fits, LEAST)


def measure_rates(env_name: str, simulator_file: Path, agent_file: Path) -> Rates:
    """Times training on the game, the shipped simulator and the start of a script, in a few seconds."""
    playing, training = _time_training(env_name)
    simulator = load_simulator(simulator_file, agent_file)[0]
    keys = NoiseKeys(0, np.arange(_TIMED_SAMPLES))
    z = simulator.model.random_latent(keys.normal(simulator.model.config.latent_size, simulator.model.bins))
    simulating = _seconds_of(lambda: simulator.simulate(z, _TIMED_STEPS, keys, ends=False))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import analysis.real_check"], check=True)
    starting = 1 / (time.perf_counter() - start)
    return Rates(training, playing, _TIMED_SAMPLES * _TIMED_STEPS / simulating, starting)


def _time_training(env_name: str) -> tuple[float, float]:
    """Steps per second of play, and of training with its updates."""
    network, ppo = load_preset("demo", len(action_space(env_name).names), ProcgenVecEnv.obs_shape)
    ppo = dataclasses.replace(ppo, n_steps=_TIMED_STEPS)
    env = make_env(ppo.n_envs, ProcgenConfig(env_name))
    steps = ppo.n_envs * _TIMED_STEPS
    never = 10**9
    with tempfile.TemporaryDirectory() as directory:
        schedule = Schedule(never, 1, never, 1, 0, never)
        trainer = Trainer(env, env, network, ppo, schedule, Path(directory), 0, choose_device("auto"), {})
        collecting = _seconds_of(trainer.collect)
        updating = _seconds_of(
            lambda: update(trainer.agent, trainer.optimizer, trainer.buffer, ppo, np.random.default_rng(0))
        )
        trainer.log.close()
    env.close()
    return steps / collecting, steps / (collecting + updating)


def _seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, after an untimed one that warms up."""
    work()
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def read_plan(out: Path) -> dict | None:
    """The plan of an earlier run into `out`, or None. Raises UsageError if it is damaged or outdated."""
    path = out / PLAN
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_text())
        Sizes(**plan["sizes"])
        Rates(**plan["rates"])
        current = plan["version"] == VERSION
    except (ValueError, KeyError, TypeError):
        current = False
    if not current:
        raise UsageError(f"{path} is damaged, or of another version of the demo: delete it to plan again")
    return plan


def make_plan(out: Path, steps: Steps, rates: Rates, minutes: float, asked: dict[str, int]) -> dict:
    """Chooses sizes and saves them in out/plan.json.

    Args:
        out: directory of the demo.
        steps: of the demo.
        rates: of this machine.
        minutes: time limit.
        asked: {field of Sizes: size given as a flag}, which replaces the planned size.
    """
    sizes = dataclasses.replace(choose_sizes(steps, rates, minutes), **asked)
    plan = {
        "version": VERSION,
        "minutes": minutes,
        "asked": asked,
        "rates": vars(rates),
        "sizes": vars(sizes),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PLAN, plan)
    return plan


def plan_table(steps: Steps, plan: dict) -> str:
    """The plan as a table: every step with its size and estimated time."""
    sizes = Sizes(**plan["sizes"])
    rates = Rates(**plan["rates"])
    taken = estimate_seconds(steps, sizes, rates)
    speed = ", ".join(
        f"{getattr(rates, name):,.0f} steps/s {name}" for name in ("training", "playing", "simulating")
    )
    lines = [f"This machine: {speed}. Planned:"]
    for title, (_, field) in steps.items():
        lines.append(
            f"  {title:<44}{getattr(sizes, field):>8,} "
            f"{field.removeprefix('num_').replace('_', ' '):<18}{taken[title] / 60:>5.1f} min"
        )
    total = sum(taken.values()) / 60
    lines.append(f"  {'total':<71}{total:>5.1f} min")
    if total > plan["minutes"]:
        lines.append(
            f"  These are the smallest useful sizes: the demo takes longer than the {plan['minutes']:g} "
            "minutes of --minutes."
        )
    return "\n".join(lines)
