"""Training speed: our recurrent PPO against SB3-contrib's RecurrentPPO on the same environments, encoder and schedule.

Both run in this process and take turns, so that whatever else the machine does slows both alike. Then: where our time goes,
how it grows with the number of environments, and how much memory a rollout takes.
"""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    env_name: str = "coinrun"
    """Game."""
    param_name: str = "hard-local-dev-rec"
    """Preset of both learners; the core is an LSTM on both sides, the kind that RecurrentPPO has."""
    rounds: int = 4
    """Timed turns of each learner, one iteration each, after one of each to warm up; 0 times our own alone."""
    n_steps: int = 256
    """Steps per environment and iteration."""
    growth: tuple[int, ...] = (16, 64, 256)
    """Numbers of environments to time our learner with."""
    growth_rounds: int = 1
    """Timed iterations for each of them."""
    threads: int = 0
    """PyTorch threads of both learners; 0 takes what PyTorch takes."""
    num_threads: int = 2
    """Threads of the game simulator."""
    seed: int = 0
    """Seed of both."""
    output: Path = Path("benchmarks/results/training.json")
    """Where the figures go."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of our convolutions: bf16, fp32, or whichever is faster here."""
    log_level: int = logging.INFO
    """Python logging level."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch
from tqdm import trange

from agents.actor_critic import NetworkConfig
from agents.ppo import PPOConfig, RolloutBuffer, update
from agents.presets import load_preset
from agents.trainer import Schedule, Trainer
from benchmarks.sb3_recurrent import recurrent_ppo
from common.checkpoints import write_json
from common.precision import choose_precision
from common.runs import manifest
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space

NEVER = 10**9
PARTS = ("environment", "inference", "learning")


class TimedEnv:
    """An environment that adds up the seconds spent in it."""

    def __init__(self, inner):
        self.inner, self.seconds = inner, 0.0

    def observe(self):
        return self._timed(self.inner.observe)

    def act(self, action):
        return self._timed(self.inner.act, action)

    def _timed(self, call, *given):
        begun = time.perf_counter()
        result = call(*given)
        self.seconds += time.perf_counter() - begun
        return result

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Ours:
    """Our trainer, one iteration at a time."""

    def __init__(self, args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path):
        self.ppo, self.env = ppo, TimedEnv(environments(args, ppo.n_envs))
        schedule = Schedule(NEVER, 1, NEVER, 1, 0, NEVER)
        self.trainer = Trainer(self.env, self.env, network, ppo, schedule, directory, args.seed, torch.device("cpu"), {})

    def iterate(self) -> dict[str, float]:
        """Seconds of one iteration, by part."""
        self.env.seconds, begun = 0.0, time.perf_counter()
        self.trainer.collect()
        collected, trainer = time.perf_counter(), self.trainer
        update(trainer.agent, trainer.optimizer, trainer.buffer, self.ppo, np.random.default_rng(trainer.iteration))
        trainer.iteration += 1
        ended = time.perf_counter()
        return dict(zip(PARTS, (self.env.seconds, collected - begun - self.env.seconds, ended - collected)))


def environments(args: Args, num: int) -> ProcgenVecEnv:
    return ProcgenVecEnv(num, ProcgenConfig(args.env_name), args.seed, args.num_threads)


def paired(args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path) -> dict:
    """Steps per second of both learners over `rounds` turns, also per second of processor time, and the shares of our time."""
    ours, steps = Ours(args, network, ppo, directory), ppo.n_envs * ppo.n_steps
    theirs = recurrent_ppo(environments(args, ppo.n_envs), ppo, network.feature_size, network.hidden_size, args.seed)

    def their_seconds() -> float:
        begun = time.perf_counter()
        theirs.learn(steps, reset_num_timesteps=False)
        return time.perf_counter() - begun

    ours.iterate(), their_seconds()
    parts, seconds, cpu_seconds = [], [], []
    for _ in trange(args.rounds, desc="paired rounds", unit="round"):
        started = time.process_time()
        parts.append(ours.iterate())
        switched = time.process_time()
        seconds.append(their_seconds())
        cpu_seconds.append((switched - started, time.process_time() - switched))
    our_cpu, their_cpu = np.sum(cpu_seconds, axis=0)
    totals = np.array([sum(part.values()) for part in parts])
    return {
        "ours": steps / totals.mean(), "recurrent_ppo": steps / np.mean(seconds), "ratio": np.sum(seconds) / totals.sum(),
        "ratio_by_round": (np.array(seconds) / totals).tolist(),
        "per_cpu_second": {"ours": args.rounds * steps / our_cpu, "recurrent_ppo": args.rounds * steps / their_cpu, "ratio": their_cpu / our_cpu},
        "shares": {name: sum(part[name] for part in parts) / totals.sum() for name in PARTS},
    }  # fmt: skip


def growth(args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path) -> dict[int, dict[str, float]]:
    """Our steps per second by number of environments; minibatches stay an eighth of the rollout.

    Also per second of processor time, over all threads: with one thread that is the speed of an idle core, whatever else runs.
    """
    speeds = {}
    for num in args.growth:
        config = replace(ppo, n_envs=num)
        ours = Ours(args, network, config, directory / str(num))
        ours.iterate()
        busy, steps = time.process_time(), num * config.n_steps * args.growth_rounds
        seconds = sum(sum(ours.iterate().values()) for _ in trange(args.growth_rounds, desc=f"{num} environments", unit="round"))
        speeds[num] = {"per_second": steps / seconds, "per_cpu_second": steps / (time.process_time() - busy)}
        ours.env.close()
    return speeds


def main(args: Args) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    network, ppo = load_preset(args.param_name, len(action_space(args.env_name).names), ProcgenVecEnv.obs_shape)
    network, ppo = replace(network, core="lstm", precision=args.precision), replace(ppo, n_steps=args.n_steps)
    rollout = RolloutBuffer(256, 256, ProcgenVecEnv.obs_shape, network.hidden_size).nbytes
    with tempfile.TemporaryDirectory() as directory:
        pair = paired(args, network, ppo, Path(directory) / "paired") if args.rounds else {}
        speeds = growth(args, network, ppo, Path(directory))
    if pair:
        logging.info("ours %.0f steps/s, RecurrentPPO %.0f steps/s: %.1f times (by round: %s)",
                     pair["ours"], pair["recurrent_ppo"], pair["ratio"], ", ".join(f"{x:.1f}" for x in pair["ratio_by_round"]))  # fmt: skip
        logging.info("per second of processor time, which other programs do not lengthen: ours %.0f, RecurrentPPO %.0f: %.1f times",
                     *(pair["per_cpu_second"][name] for name in ("ours", "recurrent_ppo", "ratio")))  # fmt: skip
        logging.info("our time: %s", ", ".join(f"{name} {share:.0%}" for name, share in pair["shares"].items()))
    for num, speed in speeds.items():
        logging.info("ours, %d environments: %.0f steps/s, %.0f per second of processor time", num, speed["per_second"], speed["per_cpu_second"])
    logging.info("rollout of 256 x 256 steps: %.2f GB", rollout / 1e9)
    config = {name: getattr(ppo, name) for name in ("n_envs", "n_steps", "epoch", "mini_batch_per_epoch")} | {"rounds": args.rounds}
    write_json(args.output, {"config": config, **pair, "growth": speeds, "rollout_bytes_256x256": rollout, "manifest": manifest(precision=choose_precision(args.precision, "cpu").name)})


if __name__ == "__main__":
    run_main(main, ARGS)
