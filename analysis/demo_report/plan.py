"""How much the demo makes: the machine is timed, and sizes are chosen so that the whole ends in the time
asked for.

Every step costs a fixed part and a part that grows with its size, both measured on a reference machine; the
machine at hand is so many times
as fast as that one at learning, at playing and at simulating. The plan is kept beside the results, so that
the same command resumes
with the same sizes.
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
from generative.simulator import NoiseKeys, load_simulator

PLAN = "plan.json"
VERSION = 1
_TIMED_STEPS = 8  # of a rollout, in each of the preset's environments
_TIMED_SAMPLES = 32  # simulated together, over as many steps as a rollout has
_ROUNDS = 3  # of each timing
_MARGIN = 0.8  # of the time asked for is planned: estimates are rough


@dataclass(frozen=True)
class Rates:
    """What a machine does per second: steps of training, of play alone, and of the shipped simulator with
    its agent; scripts that it starts."""

    training: float
    playing: float
    simulating: float
    starting: float


REFERENCE = Rates(training=850.0, playing=5300.0, simulating=580.0, starting=0.3)
"""Of the machine on which COSTS were measured."""


@dataclass(frozen=True)
class Cost:
    """A step of the demo. scripts: how many it starts; fixed, unit: its seconds on the reference machine,
    and those per unit of its size; rate:
    which of Rates these go with."""

    scripts: int
    fixed: float
    unit: float
    rate: str


@dataclass(frozen=True)
class Sizes:
    """How much of everything is made. The defaults are the most."""

    num_timesteps: int = 49_152
    """Training steps of the demo's agent."""
    eval_episodes: int = 200
    """Episodes of the shipped agent on training levels and on unseen ones, each; of the demo's own, which
    are long, a quarter."""
    num_episodes: int = 600
    """Recorded episodes."""
    num_batches: int = 200
    """Training batches of the demo's world model."""
    num_samples: int = 128
    """Simulated episodes."""
    num_windows: int = 96
    """Held-out windows on which world models are scored."""
    probe_episodes: int = 300
    """Recorded episodes whose concepts are probed."""
    num_hazards: int = 48
    """Fork points at which an object is deleted."""
    gradient_states: int = 24
    """Frames of which gradient maps are made."""


Steps = dict[str, tuple[Cost, str]]
"""{title: what a step costs, and the field of Sizes that it grows with}."""

LEAST = Sizes(8_192, 96, 160, 16, 32, 32, 120, 12, 6)
"""Below these nothing can be shown; a machine that is too slow for them takes longer."""


def sizes_of(share: float) -> Sizes:
    """The sizes at a share (0 to 1) of the way from LEAST to the most, by equal factors."""
    most = Sizes()
    pairs = (
        (field.name, getattr(LEAST, field.name), getattr(most, field.name))
        for field in dataclasses.fields(Sizes)
    )
    return Sizes(**{name: round(low * (high / low) ** share) for name, low, high in pairs})


def seconds(cost: Cost, size: int, rates: Rates) -> float:
    """What a step costs on a machine with these rates."""
    return cost.scripts / rates.starting + (cost.fixed + cost.unit * size) * getattr(
        REFERENCE, cost.rate
    ) / getattr(rates, cost.rate)


def estimate(steps: Steps, sizes: Sizes, rates: Rates) -> dict[str, float]:
    """Seconds of every step."""
    return {title: seconds(cost, getattr(sizes, field), rates) for title, (cost, field) in steps.items()}


def choose_sizes(steps: Steps, rates: Rates, minutes: float) -> Sizes:
    """The largest sizes whose estimate stays within the time; LEAST where none does."""
    shares = np.linspace(1, 0, 101)
    fits = (
        sizes
        for sizes in map(sizes_of, shares)
        if sum(estimate(steps, sizes, rates).values()) <= _MARGIN * 60 * minutes
    )
    return next(fits, LEAST)


def measure(env_name: str, simulator_file: Path, agent_file: Path) -> Rates:
    """Times this machine for a few seconds: the demo's own learner on its game, and the shipped simulator."""
    playing, training = _time_training(env_name)
    simulator = load_simulator(simulator_file, agent_file)[0]
    keys = NoiseKeys(0, np.arange(_TIMED_SAMPLES))
    z = simulator.model.random_latent(keys.normal(simulator.model.config.latent_size, simulator.model.bins))
    simulating = _seconds_of(lambda: simulator.simulate(z, _TIMED_STEPS, keys, ends=False))
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import analysis.real_check"], check=True)
    return Rates(
        training, playing, _TIMED_SAMPLES * _TIMED_STEPS / simulating, 1 / (time.perf_counter() - begun)
    )


def _time_training(env_name: str) -> tuple[float, float]:
    """Steps per second of a rollout, and of the whole loop with its updates."""
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
    """Of the fastest of several calls, as another program may disturb one; a first one, untimed, chooses
    its kernels."""
    work()
    taken = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def read_plan(out: Path) -> dict | None:
    """The plan of an earlier run of the demo into `out`, or None. Raises UsageError for one that is damaged
    or of another version."""
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
        raise UsageError(
            f"{path} is damaged, or of another version of the demo: delete it, and the demo plans again"
        )
    return plan


def make_plan(out: Path, steps: Steps, rates: Rates, minutes: float, asked: dict[str, int]) -> dict:
    """Chooses sizes, with what is asked for over them, and keeps them in out/plan.json."""
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


def described(steps: Steps, plan: dict) -> str:
    """The plan as a table: every step, what it makes, and about how long it takes."""
    sizes = Sizes(**plan["sizes"])
    rates = Rates(**plan["rates"])
    taken = estimate(steps, sizes, rates)
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
    lines.append(f"  {'in all':<71}{total:>5.1f} min")
    if total > plan["minutes"]:
        lines.append(
            f"  Less than this cannot show anything: it takes longer here than the {plan['minutes']:g} "
            f"minutes asked for."
        )
    return "\n".join(lines)
