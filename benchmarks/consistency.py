"""Compares log-probabilities recomputed in training with those of acting, over rollouts of a trained agent.

The rollouts contain many episode ends, where recurrent state is reset: the game's own and forced ones.
Shifting `first` by one step shows what a reset at the wrong place would look like.
"""

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path
    """Checkpoint of a trained agent."""
    num_envs: int = 16
    """Environments of the rollout, 256 steps each."""
    cut_share: float = 0.125
    """Share of steps at which an episode is ended by force; 0 keeps the game's own ends only."""
    out_file: Path = Path("benchmarks/results/consistency.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic, load_agent
from agents.ppo import PPOConfig, RolloutBuffer, replay
from agents.trainer import Schedule, Trainer
from common.checkpoints import write_json
from common.policy import categorical_log_prob
from common.runs import UsageError, file_id, manifest
from envs.procgen import FORCE_RESET, ProcgenConfig, ProcgenVecEnv, described_game


class Cut(ProcgenVecEnv):
    """A game that opens another level at random steps, whatever the action."""

    def __init__(self, num: int, config: ProcgenConfig, share: float):
        super().__init__(num, config)
        self.share = share
        self.rng = np.random.default_rng(0)

    def act(self, action: np.ndarray) -> None:
        super().act(np.where(self.rng.random(self.num) < self.share, FORCE_RESET, action))


def rollout(
    agent_file: Path, precision: str, num_envs: int, cut_share: float
) -> tuple[ActorCritic, RolloutBuffer]:
    """The trainer's second rollout, which begins in mid-episode."""
    trained, meta = load_agent(agent_file)
    network = replace(trained.config, precision=precision)
    env = Cut(num_envs, described_game(meta["env"], agent_file), cut_share)
    schedule = Schedule(
        num_timesteps=10**9,
        num_checkpoints=1,
        eval_every=10**9,
        eval_episodes=1,
        eval_first_level=0,
        save_every=10**9,
    )
    ppo = PPOConfig(n_envs=num_envs, mini_batch_per_epoch=1)
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            env, env, network, ppo, schedule, Path(directory), 0, torch.device("cpu"), {}, init_from=trained
        )
        trainer.collect()
        trainer.collect()
        trainer.log.close()
    return trainer.agent, trainer.buffer


@torch.no_grad()
def log_ratio(agent: ActorCritic, buffer: RolloutBuffer, first: torch.Tensor) -> torch.Tensor:
    """|training log-prob - acting log-prob| [T, N] with the given resets."""
    kept, buffer.first = buffer.first, first
    logits, _ = replay(agent, buffer, torch.arange(first.shape[1]))
    buffer.first = kept
    return (categorical_log_prob(logits, buffer.action) - buffer.log_prob).abs()


def figures(args: Args, precision: str) -> dict[str, float]:
    """The comparison at one precision, and its value with resets at the wrong place."""
    agent, buffer = rollout(args.agent_file, precision, args.num_envs, args.cut_share)
    right, shifted = (log_ratio(agent, buffer, first) for first in (buffer.first, buffer.first.roll(1, 0)))
    return {
        "episode_ends": int(buffer.ended.sum()),
        "steps": right.numel(),
        "mean": right.mean().item(),
        "max": right.max().item(),
        "shifted_mean": shifted.mean().item(),
        "shifted_max": shifted.max().item(),
    }


def main(args: Args) -> None:
    if not 0 <= args.cut_share < 1:
        raise UsageError(f"--cut_share is {args.cut_share}: a share of steps lies from 0 to below 1")
    results = {precision: figures(args, precision) for precision in ("fp32", "bf16")}
    for precision, row in results.items():
        logging.info(
            "%s: |log ratio| mean %.2e, max %.2e over %d steps with %d episode ends; resets"
            " shifted by one: mean %.2e, max %.2e",
            precision,
            row["mean"],
            row["max"],
            row["steps"],
            row["episode_ends"],
            row["shifted_mean"],
            row["shifted_max"],
        )
    write_json(args.out_file, results | {"manifest": manifest({"agent_file": file_id(args.agent_file)})})


if __name__ == "__main__":
    run_main(main, ARGS)
