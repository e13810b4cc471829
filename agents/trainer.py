"""The training loop: roll out, update, log, evaluate, checkpoint; can be stopped and resumed anywhere."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from agents.evaluate import evaluate, fixed_jobs
from agents.ppo import PPOConfig, RolloutBuffer, update
from agents.reward_norm import RewardNormalizer
from agents.shared_rollout import gather_rollout, normalize_rewards, slots_of
from agents.training_log import COLUMNS, EpisodeStatistics, summary
from common.checkpoints import (
    load_module,
    load_optimizer,
    load_training_state,
    optimizer_tensors,
    resuming,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.csv_log import CsvLog
from common.descriptions import look_up
from common.distributed import DistContext
from common.integrity import check_finite
from common.noise import gumbel_noise
from common.policy import step
from common.progress import not_shown, progress_bar
from common.runs import UsageError
from common.stopping import SaveClock, saving_on_stop
from envs.vecenv import Snapshot

_KIND = "training state"
UPDATE_WORK = 5.0
"""Time of a training pass over a frame relative to acting on it, for the progress bar of the first iteration.
"""
EVALUATION_NOISE = 1_000_003  # added to the run's seed, so that evaluation shares no noise with training


@dataclass(frozen=True)
class Schedule:
    """Length of training, and intervals of evaluations, checkpoints and saves, in environment steps."""

    num_timesteps: int
    num_checkpoints: int
    eval_every: int
    eval_episodes: int
    eval_first_level: int
    save_every: int

    def __post_init__(self):
        for name in ("num_timesteps", "num_checkpoints", "eval_every", "eval_episodes", "save_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more")


class Trainer:
    """Trains one agent.

    All randomness is keyed by `seed` and the step, so that a resumed run has the same bits. The state that a
    run resumes from is that of the last complete iteration; it is kept in memory, so that a stop within an
    iteration can write it at once.

    Args:
        env: training environments with `snapshot` and `restore` (envs/vecenv.py: Snapshots).
        eval_env: environments for unseen levels.
        network: architecture.
        ppo: hyper-parameters.
        schedule: length and intervals.
        directory: where log and checkpoints go.
        seed: of all randomness.
        device: where the network runs.
        meta: description that checkpoints carry.
        tracker: optional object with `log(row, step)`.
        init_from: agent whose weights to start from.
        ranks: this process's place in a distributed run; `env` then holds its own slots (OwnSlots), and the
            first process evaluates and writes.
    """

    def __init__(
        self,
        env,
        eval_env,
        network: NetworkConfig,
        ppo: PPOConfig,
        schedule: Schedule,
        directory: Path,
        seed: int,
        device: torch.device,
        meta: dict,
        tracker=None,
        init_from: ActorCritic | None = None,
        ranks: DistContext = DistContext(),
    ):
        torch.manual_seed(seed)
        self.env = env
        self.ranks = ranks
        self.num = env.num * ranks.size
        self.eval_env = eval_env
        self.ppo = ppo
        self.schedule = schedule
        self.directory = directory
        self.seed = seed
        self.device = device
        self.meta = meta
        self.agent = ActorCritic(network).to(device)
        if init_from is not None:
            self.agent.load_state_dict(init_from.state_dict())
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=ppo.learning_rate, eps=1e-5)
        self.normalizer = RewardNormalizer(self.num, ppo.gamma)
        self.statistics = EpisodeStatistics(self.num)
        self._own = RolloutBuffer(ppo.n_steps, env.num, env.obs_shape, self.agent.core.state_size)
        self.buffer = self._own  # of all processes, once they have played
        self.state = self.agent.initial_state(env.num)
        self.timesteps = 0
        self.iteration = 0
        if self._state_path.exists():
            self._load()
        self.log = CsvLog(directory / "log.csv", COLUMNS, self.timesteps, tracker) if ranks.first else None

    @property
    def _state_path(self) -> Path:
        return self.directory / "train_state.safetensors"

    @property
    def per_iteration(self) -> int:
        return self.num * self.ppo.n_steps

    def train(self) -> dict:
        """Trains to the end of the schedule and returns the last row of the log (in the process that writes).

        A KeyboardInterrupt saves the last complete iteration.
        """
        started = time.monotonic() - (self.log.wall_time if self.log else 0.0)
        bar = progress_bar(
            total=self.schedule.num_timesteps,
            initial=self.timesteps,
            unit="step",
            unit_scale=True,
            desc="train",
            smoothing=0.05,
            disable=not self.ranks.first,
        )
        self._resumable = self._training_state()
        self._save_clock = SaveClock()
        acting_share = 1 / (1 + UPDATE_WORK * self.ppo.epoch)
        with saving_on_stop(self._save_resumable), bar:
            if self.timesteps == 0:
                self._checkpoint_agent()
            while self.timesteps < self.schedule.num_timesteps:
                begun = time.monotonic()
                before = self.timesteps
                self._set_learning_rate()
                acting = acting_share * self.per_iteration  # of an iteration's steps on the bar
                mean_value = self.collect(lambda share: bar.update(acting * share))
                acted = time.monotonic()
                rng = np.random.default_rng([self.seed, self.iteration])
                learning = self.per_iteration - acting
                parts = update(
                    self.agent,
                    self.optimizer,
                    self.buffer,
                    self.ppo,
                    rng,
                    lambda share: bar.update(learning * share),
                    self.ranks,
                )
                acting_share = (acted - begun) / (time.monotonic() - begun)
                self.timesteps += self.per_iteration
                self.iteration += 1
                row = self._row(parts, mean_value) | self._evaluate_if_due(before)
                row |= {
                    "wall_time": time.monotonic() - started,
                    "steps_per_second": self.per_iteration / (time.monotonic() - begun),
                }
                if self.log:
                    self.log.write(row)
                self._save_if_due(before)
                bar.update(self.timesteps - bar.n)
                bar.set_postfix_str(mean_return(row), refresh=False)
        if self.log:
            self.log.close()
        return self.log.last if self.log else {}

    @torch.inference_mode()
    def collect(self, progress: Callable[[float], None] = not_shown) -> float:
        """Fills the buffer with one rollout of all processes and returns the mean value estimate."""
        buffer = self._own
        env = self.env
        buffer.state.copy_(self.state)
        slots = slots_of(env.num, self.ranks)
        reward, obs, first = env.observe()
        for t in range(self.ppo.n_steps):
            noise = gumbel_noise(self.seed, slots, 0, self.iteration * self.ppo.n_steps + t, env.num_actions)
            buffer.obs[t], buffer.first[t] = torch.from_numpy(obs), torch.from_numpy(first)
            taken = step(
                self.agent, *self._inputs(obs, first, reward), torch.from_numpy(noise).to(self.device)
            )
            self.state = taken.state
            buffer.action[t], buffer.value[t] = taken.action, taken.value
            buffer.log_prob[t] = self.agent.log_prob(taken.logits, taken.action)
            env.act(taken.action.cpu().numpy())
            reward, obs, first = env.observe()
            buffer.ended[t] = torch.from_numpy(first)
            buffer.final_value[t] = self._final_value(reward)
            buffer.reward[t] = torch.from_numpy(reward)
            progress(1 / self.ppo.n_steps)
        # not stored: the next rollout processes this frame again
        after = self.agent.advance(*self._inputs(obs, first, reward))
        buffer.next_value.copy_(self.agent.heads(after)[1])
        self.buffer = gather_rollout(buffer, self.ranks)
        normalize_rewards(self.buffer, self.statistics, self.normalizer if self.ppo.normalize_rew else None)
        return self.buffer.value.mean().item()

    def _final_value(self, reward: np.ndarray) -> torch.Tensor:
        """Values [N] of frames at which the last transition truncated episodes; 0 elsewhere, and if the
        environment shows none.
        """
        info = self.env.info()
        if "final_obs" not in info or not info["truncated"].any():
            return torch.zeros(self.env.num)
        after = self.agent.advance(*self._inputs(info["final_obs"], np.zeros(self.env.num, bool), reward))
        return torch.where(torch.from_numpy(info["truncated"]), self.agent.heads(after)[1].cpu(), 0.0)

    def _inputs(self, obs, first, reward):
        as_tensor = (torch.from_numpy(x).to(self.device) for x in (obs, first, reward))
        obs, first, reward = as_tensor
        return obs, self.state, first, reward

    def _set_learning_rate(self) -> None:
        left = 1 - self.timesteps / self.schedule.num_timesteps if self.ppo.anneal else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.ppo.learning_rate * left

    def _row(self, parts: dict[str, float], mean_value: float) -> dict:
        losses = {
            "mean_policy_loss": parts["policy_loss"],
            "mean_value_loss": parts["value_loss"],
            "mean_entropy_loss": parts["entropy"],
        }
        kept = {name: parts[name] for name in ("approx_kl", "clip_fraction", "explained_variance")}
        return (
            {
                "timesteps": self.timesteps,
                "num_episodes": self.statistics.episodes,
                "mean_episode_value": mean_value,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "reward_scale": self.normalizer.scale,
            }
            | summary(self.statistics.rewards, self.statistics.lengths)
            | losses
            | kept
        )

    def _passed(self, before: int, every: int) -> bool:
        """Whether a multiple of `every` (or the end) was reached in the iteration from `before` to now."""
        return before // every < self.timesteps // every or self.timesteps >= self.schedule.num_timesteps

    def _evaluate_if_due(self, before: int) -> dict:
        if not (self._passed(before, self.schedule.eval_every) and self.ranks.first):
            return {}
        jobs = fixed_jobs(
            self.schedule.eval_first_level, self.schedule.eval_episodes, self.schedule.eval_episodes
        )
        episodes = evaluate(self.agent, self.eval_env, jobs, self.seed + EVALUATION_NOISE, self.device)
        return {"num_episodes_val": len(jobs)} | summary(episodes.total_reward, episodes.length, "val_")

    def _save_if_due(self, before: int) -> None:
        if self._passed(before, max(self.schedule.num_timesteps // self.schedule.num_checkpoints, 1)):
            self._checkpoint_agent()
        self._resumable = self._training_state()
        if self._save_clock.due or self._passed(before, self.schedule.save_every):
            self._save_resumable()
            self._save_clock.reset()

    def _checkpoint_agent(self) -> None:
        if not self.ranks.first:
            return
        meta = self.meta | {
            "timesteps": self.timesteps,
            "reward_scale": self.normalizer.scale,
            "gamma": self.ppo.gamma,
        }
        save_agent(self.directory / f"model_{self.timesteps}.safetensors", self.agent, meta)

    def _training_state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """Copies of everything that a run resumes from, as named tensors and a description."""
        snapshots = self.env.snapshot()
        tensors = with_prefix("agent", self.agent.state_dict()) | with_prefix(
            "optimizer", optimizer_tensors(self.optimizer)
        )
        tensors |= with_prefix("normalizer", self.normalizer.tensors())
        tensors["state"] = self.ranks.gather(self.state)
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        tensors |= with_prefix(
            "env",
            {str(i): torch.frombuffer(bytearray(s.data), dtype=torch.uint8) for i, s in enumerate(snapshots)},
        )
        return tensors, {
            "kind": _KIND,
            "timesteps": self.timesteps,
            "iteration": self.iteration,
            "statistics": self.statistics.state(),
            "checksums": [s.checksum for s in snapshots],
        }

    def _save_resumable(self) -> str | None:
        if not self.ranks.first:
            return None
        tensors, meta = self._resumable
        save_checkpoint(self._state_path, tensors, meta)
        return (
            f"the state at {meta['timesteps']:,} of {self.schedule.num_timesteps:,} steps is saved in"
            f" {self.directory}"
        )

    def _load(self) -> None:
        tensors, meta = load_training_state(self._state_path, _KIND)
        with resuming(self._state_path):
            load_module(self.agent, without_prefix("agent", tensors), str(self._state_path))
            load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
            check_finite(tensors, str(self._state_path))
            self.normalizer.load_tensors(without_prefix("normalizer", tensors))
            self.statistics.load_state(meta["statistics"])
            self.state = self.state.copy_(tensors["state"][self.ranks.block(self.num)])
            states = without_prefix("env", tensors)
            self.env.restore(
                [
                    Snapshot(states[str(i)].numpy().tobytes(), checksum)
                    for i, checksum in enumerate(meta["checksums"])
                ]
            )
            self.timesteps, self.iteration = (
                look_up(meta, name, int, self._state_path) for name in ("timesteps", "iteration")
            )


def mean_return(row: dict) -> str:
    """Text of the progress bar for a row of the log; empty before the first episode has ended."""
    found = float(row.get("mean_episode_rewards", "nan"))
    return "" if math.isnan(found) else f"return {found:.2f}"
