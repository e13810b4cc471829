"""Plays a fixed list of episodes to their ends; the loop of recording and evaluation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.noise import gumbel_noise
from common.policy import Policy, step

NO_JOB = -1


class EpisodeSpec(NamedTuple):
    """One episode to play: a level, and a repeat, which selects the action noise."""

    level: int
    repeat: int = 0


class StepBatch(NamedTuple):
    """One step of the n busy slots, as numpy arrays over them.

    Attributes:
        job: index into the list of episodes.
        t: step within the episode.
        hidden, hidden_after: stored state before and after the observation.
        log_prob: of the action under the behaviour that chose it.
        reward, terminated, truncated, complete: of the transition; complete means that the level was solved.
            An episode's last step is the one with terminated or truncated.
    """

    job: np.ndarray
    t: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    logits: np.ndarray
    log_prob: np.ndarray
    value: np.ndarray
    hidden: np.ndarray
    hidden_after: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    complete: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated


def play(
    env, policy: Policy, jobs: Sequence[EpisodeSpec], seed: int, device: torch.device | str = "cpu"
) -> Iterator[StepBatch]:
    """Plays every episode to its end and yields each step.

    Args:
        env: VecEnv with `open_levels` and `queue_level`; its slots take the episodes in order. If it has
            `arriving_state` (envs/vecenv.py: BeginsInMidEpisode), the policy starts from that state.
        policy: the policy that acts.
        jobs: episodes to play.
        seed: keys the action noise together with level, repeat and step, so that an episode does not depend
            on its slot or on the others.
        device: where the policy runs.
    """
    slots = _Slots(env, jobs)
    reward, obs, _ = env.observe()
    state = policy.initial_state(env.num)
    while slots.busy.any():
        busy = np.flatnonzero(slots.busy)
        t = slots.t[busy]
        level = slots.levels[slots.job[busy]]
        repeat = slots.repeats[slots.job[busy]]
        with torch.inference_mode():
            before = state[busy]
            noise = torch.from_numpy(gumbel_noise(seed, level, repeat, t, env.num_actions)).to(device)
            came_with = np.where(t == 0, 0, reward[busy]).astype(np.float32)
            seen, opens, came = (torch.from_numpy(x).to(device) for x in (obs[busy], t == 0, came_with))
            if (arriving := env.arriving_state() if hasattr(env, "arriving_state") else None) is not None:
                before = torch.where(opens[:, None], torch.from_numpy(arriving[busy]).to(device), before)
                opens = torch.zeros_like(opens)
            taken = step(policy, seen, before, opens, came, noise)
            log_prob = policy.log_prob(taken.logits, taken.action)
            state = state.clone()
            state[busy] = taken.state
        shown = obs[busy]
        action = np.full(env.num, env.noop)
        action[busy] = taken.action.cpu().numpy()
        env.act(action)
        reward, obs, _ = env.observe()
        info = env.info()
        value = (
            np.full(len(busy), np.nan, np.float32)
            if taken.value is None
            else taken.value.float().cpu().numpy()
        )
        played = StepBatch(
            slots.job[busy],
            t,
            shown,
            action[busy],
            taken.logits.float().cpu().numpy(),
            log_prob.float().cpu().numpy(),
            value,
            policy.hidden(_reset(policy, before, opens)).cpu().numpy(),
            policy.hidden(taken.state).cpu().numpy(),
            reward[busy].astype(np.float32),
            info["terminated"][busy],
            info["truncated"][busy],
            info["level_complete"][busy],
        )
        slots.advance(busy, played.ended)
        yield played


def _reset(policy: Policy, state: torch.Tensor, opens: torch.Tensor) -> torch.Tensor:
    """The state before the observation: the initial state for an episode's first one."""
    fresh = policy.initial_state(len(opens))
    return torch.where(opens[:, None], fresh, state)


class _Slots:
    """Assigns episodes to slots. A slot's next level is queued while the present one runs."""

    def __init__(self, env, jobs: Sequence[EpisodeSpec]):
        self.env = env
        self.levels = np.array([job.level for job in jobs], np.int64)
        self.repeats = np.array([job.repeat for job in jobs], np.int64)
        self.job = np.full(env.num, NO_JOB)
        self.waiting = np.full(env.num, NO_JOB)
        self.t = np.zeros(env.num, np.int64)
        self.handed_out = min(env.num, len(jobs))
        opening = np.arange(self.handed_out)
        self.job[opening] = opening
        env.open_levels(opening, self.levels[opening])
        for slot in opening:
            self._queue(slot)

    @property
    def busy(self) -> np.ndarray:
        return self.job != NO_JOB

    def advance(self, busy: np.ndarray, ended: np.ndarray) -> None:
        self.t[busy] += 1
        for slot in busy[ended]:  # once per episode
            self.job[slot], self.waiting[slot], self.t[slot] = self.waiting[slot], NO_JOB, 0
            if self.job[slot] != NO_JOB:
                self._queue(slot)

    def _queue(self, slot: int) -> None:
        if self.handed_out < len(self.levels):
            self.waiting[slot] = self.handed_out
            self.env.queue_level(int(slot), int(self.levels[self.handed_out]))
            self.handed_out += 1
