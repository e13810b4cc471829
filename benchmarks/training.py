"""Training speed of agents/ppo.py and SB3-contrib's RecurrentPPO on the same environments, encoder and
schedule.

Both run alternately in this process, so that other load slows both equally. Also measured: shares of time,
scaling with the number of environments, and memory of a rollout.
"""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName


@dataclass
class Args:
    env_name: str = "coinrun"
    """Game."""
    param_name: str = "hard-local-dev-rec"
    """Preset of both learners, with an LSTM core, which RecurrentPPO has."""
    rounds: int = 4
    """Timed iterations of each learner, alternating, after one warm-up; 0 times only the project's own."""
    n_steps: int = 256
    """Steps per environment and iteration."""
    growth: tuple[int, ...] = (16, 64, 256)
    """Numbers of environments at which the project's learner is timed."""
    growth_rounds: int = 1
    """Timed iterations for each of them."""
    torch_threads: int = 0
    """PyTorch threads of both learners; 0 keeps PyTorch's default."""
    num_threads: int = 2
    """Threads of the game simulator."""
    seed: int = 0
    """Seed of both learners."""
    out_file: Path = Path("benchmarks/results/training.json")
    """JSON file for the results."""
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


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
    """Wraps an environment and sums the seconds spent in it."""

    def __init__(self, inner):
        self.inner = inner
        self.seconds = 0.0

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
    """The project's trainer, one iteration at a time."""

    def __init__(self, args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path):
        self.ppo = ppo
        self.env = TimedEnv(environments(args, ppo.n_envs))
        schedule = Schedule(NEVER, 1, NEVER, 1, 0, NEVER)
        self.trainer = Trainer(
            self.env, self.env, network, ppo, schedule, directory, args.seed, torch.device("cpu"), {}
        )

    def iterate(self) -> dict[str, float]:
        """Seconds of one iteration, by part."""
        self.env.seconds = 0.0
        begun = time.perf_counter()
        self.trainer.collect()
        collected = time.perf_counter()
        trainer = self.trainer
        update(
            trainer.agent,
            trainer.optimizer,
            trainer.buffer,
            self.ppo,
            np.random.default_rng(trainer.iteration),
        )
        trainer.iteration += 1
        ended = time.perf_counter()
        return dict(zip(PARTS, (self.env.seconds, collected - begun - self.env.seconds, ended - collected)))


def environments(args: Args, num: int) -> ProcgenVecEnv:
    return ProcgenVecEnv(num, ProcgenConfig(args.env_name), args.seed, args.num_threads)


def paired(args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path) -> dict:
    """Steps per second of both learners over `rounds` rounds, also per CPU second, and shares of the
    project's time.
    """
    ours = Ours(args, network, ppo, directory)
    steps = ppo.n_envs * ppo.n_steps
    theirs = recurrent_ppo(
        environments(args, ppo.n_envs), ppo, network.feature_size, network.hidden_size, args.seed
    )

    def their_seconds() -> float:
        begun = time.perf_counter()
        theirs.learn(steps, reset_num_timesteps=False)
        return time.perf_counter() - begun

    ours.iterate(), their_seconds()
    parts = []
    seconds = []
    cpu_seconds = []
    for _ in trange(args.rounds, desc="paired rounds", unit="round"):
        started = time.process_time()
        parts.append(ours.iterate())
        switched = time.process_time()
        seconds.append(their_seconds())
        cpu_seconds.append((switched - started, time.process_time() - switched))
    our_cpu, their_cpu = np.sum(cpu_seconds, axis=0)
    totals = np.array([sum(part.values()) for part in parts])
    return {
        "ours": steps / totals.mean(),
        "recurrent_ppo": steps / np.mean(seconds),
        "ratio": np.sum(seconds) / totals.sum(),
        "ratio_by_round": (np.array(seconds) / totals).tolist(),
        "per_cpu_second": {
            "ours": args.rounds * steps / our_cpu,
            "recurrent_ppo": args.rounds * steps / their_cpu,
            "ratio": their_cpu / our_cpu,
        },
        "shares": {name: sum(part[name] for part in parts) / totals.sum() for name in PARTS},
    }


def growth(
    args: Args, network: NetworkConfig, ppo: PPOConfig, directory: Path
) -> dict[int, dict[str, float]]:
    """Steps per second of the project's learner by number of environments; minibatches stay an eighth of the
    rollout.

    Also per CPU second over all threads: with one thread, the speed of an idle core whatever else runs.
    """
    speeds = {}
    for num in args.growth:
        config = replace(ppo, n_envs=num)
        ours = Ours(args, network, config, directory / str(num))
        ours.iterate()
        busy = time.process_time()
        steps = num * config.n_steps * args.growth_rounds
        seconds = sum(
            sum(ours.iterate().values())
            for _ in trange(args.growth_rounds, desc=f"{num} environments", unit="round")
        )
        speeds[num] = {"per_second": steps / seconds, "per_cpu_second": steps / (time.process_time() - busy)}
        ours.env.close()
    return speeds


def main(args: Args) -> None:
    if args.torch_threads:
        torch.set_num_threads(args.torch_threads)
    network, ppo = load_preset(
        args.param_name, len(action_space(args.env_name).names), ProcgenVecEnv.obs_shape
    )
    network, ppo = replace(network, core="lstm", precision=args.precision), replace(ppo, n_steps=args.n_steps)
    rollout = RolloutBuffer(256, 256, ProcgenVecEnv.obs_shape, network.hidden_size).nbytes
    with tempfile.TemporaryDirectory() as directory:
        pair = paired(args, network, ppo, Path(directory) / "paired") if args.rounds else {}
        speeds = growth(args, network, ppo, Path(directory))
    if pair:
        logging.info(
            "ours %.0f steps/s, RecurrentPPO %.0f steps/s: %.1f times (by round: %s)",
            pair["ours"],
            pair["recurrent_ppo"],
            pair["ratio"],
            ", ".join(f"{x:.1f}" for x in pair["ratio_by_round"]),
        )
        logging.info(
            "per second of processor time, which other programs do not lengthen: ours %.0f,"
            " RecurrentPPO %.0f: %.1f times",
            *(pair["per_cpu_second"][name] for name in ("ours", "recurrent_ppo", "ratio")),
        )
        logging.info(
            "our time: %s", ", ".join(f"{name} {share:.0%}" for name, share in pair["shares"].items())
        )
    for num, speed in speeds.items():
        logging.info(
            "ours, %d environments: %.0f steps/s, %.0f per second of processor time",
            num,
            speed["per_second"],
            speed["per_cpu_second"],
        )
    logging.info("rollout of 256 x 256 steps: %.2f GB", rollout / 1e9)
    config = {name: getattr(ppo, name) for name in ("n_envs", "n_steps", "epoch", "mini_batch_per_epoch")} | {
        "rounds": args.rounds
    }
    write_json(
        args.out_file,
        {
            "config": config,
            **pair,
            "growth": speeds,
            "rollout_bytes_256x256": rollout,
            "manifest": manifest(precision=choose_precision(args.precision, "cpu").name),
        },
    )


if __name__ == "__main__":
    run_main(main, ARGS)
