"""One frame, two histories: changes of policy and value if a frame is reached with another velocity."""

from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.memory.truncated_history import MEASURES, policy_change
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from interpret.forks.counterfactual_history import play_counterfactual_history, state_after_history
from rollouts.growth import RECORD_MORE
from rollouts.states import replay_states
from rollouts.store import Rollouts

HISTORIES = ("velocity", "other", "initial")
"""Histories before the frame: with another velocity; another episode's state at that time; none."""
VELOCITY_QUANTILES = (0.005, 0.995)


class ForkBatch(NamedTuple):
    """B fork points."""

    episode: np.ndarray
    """[B]: number in the store."""
    step: np.ndarray
    """[B]: step of the frame."""
    other: np.ndarray
    """[B]: episode whose state is the control."""
    velocity: np.ndarray
    """[B, 2]: velocity at which the other history begins, in tiles per step."""

    def take(self, rows: slice) -> "ForkBatch":
        return ForkBatch(*(field[rows] for field in self))


def choose_steps(
    rollouts: Rollouts, count: int, history_steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Episodes and steps [M]: a random step of each of up to `count` episodes of distinct levels.

    Args:
        rollouts: the store.
        count: fork points, at most.
        history_steps: steps that each has before it, at least.
        seed: of the choice.

    Raises:
        UsageError: if fewer than two episodes are long enough.
    """
    rng = np.random.default_rng([seed, 1])
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    episodes = rng.permutation(first[rollouts.episodes["length"][first] > history_steps])[:count]
    if len(episodes) < 2:
        long = f"{counted(len(episodes), 'episode')} of more than {counted(history_steps, 'step')}"
        raise UsageError(f"{rollouts.path} has {long}: give a smaller --history_steps, or {RECORD_MORE}")
    return episodes, rng.integers(history_steps, rollouts.episodes["length"][episodes])


def draw_velocities(concepts: dict[str, np.ndarray], rows: np.ndarray, seed: int) -> np.ndarray:
    """Velocities [M, 2] for some steps of the store, uniform over the range of 99% of its steps.

    The range is that of steps in the air, or on the ground, where the vertical velocity is 0.

    Args:
        concepts: columns of the whole store.
        rows: [M], rows of the steps.
        seed: of the draw.
    """
    velocity = np.zeros((len(rows), 2), np.float32)
    rng = np.random.default_rng([seed, 2])
    for on_ground in (True, False):
        in_store = concepts["support"] == on_ground
        selected = concepts["support"][rows] == on_ground
        for i, name in enumerate(("vx",) if on_ground else ("vx", "vy")):
            low, high = (
                np.quantile(concepts[name][in_store], VELOCITY_QUANTILES) if selected.any() else (0, 0)
            )
            velocity[selected, i] = rng.uniform(low, high, selected.sum())
    return velocity


def counterfactual_changes(
    agent: ActorCritic,
    rollouts: Rollouts,
    concepts: dict[str, np.ndarray],
    env,
    count: int,
    history_steps: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Changes of policy and value by HISTORIES at M fork points.

    Args:
        agent: the agent that recorded the store.
        rollouts: a CoinRun store.
        concepts: its concept columns.
        env: CoinRun; its slots are overwritten.
        count: fork points, at most.
        history_steps: steps before the fork point at which the histories diverge.
        seed: of fork points, velocities and other episodes.

    Returns:
        MEASURES [M, 3]; `own_velocity` and `velocity` [M, 2] at the frame; `same` [M], whether the other
        velocity led to the same frame (where not, only the controls count); `support`, `level`, `episode` and
        `step` [M].
    """
    episodes, steps = choose_steps(rollouts, count, history_steps, seed)
    rows = rollouts.first_step[episodes] + steps
    velocity = draw_velocities(concepts, rows - history_steps, seed)
    forks = ForkBatch(episodes, steps, _draw_longer_episodes(rollouts, episodes, steps, seed), velocity)
    parts = []
    with progress_bar(total=len(episodes), unit="fork point", desc="two histories") as bar:
        for begin in range(0, len(episodes), env.num):
            batch = forks.take(slice(begin, begin + env.num))
            parts.append(_batch_changes(agent, rollouts, env, batch, history_steps))
            bar.update(len(batch.episode))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} | {
        "level": rollouts.episodes["level_seed"][episodes],
        "episode": episodes,
        "step": steps,
        "support": concepts["support"][rows],
        "own_velocity": np.stack([concepts["vx"][rows], concepts["vy"][rows]], 1),
    }


def _draw_longer_episodes(
    rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray, seed: int
) -> np.ndarray:
    """For each fork point [M] another episode that has such a step; if none has, the longest other one."""
    rng = np.random.default_rng([seed, 3])
    length = rollouts.episodes["length"]
    order = np.argsort(length, kind="stable")
    others = []
    for episode, step in zip(episodes, steps):
        begin = min(np.searchsorted(length[order], step, side="right"), len(order) - 2)
        candidates = order[begin:][order[begin:] != episode]
        others.append(rng.choice(candidates))
    return np.array(others)


def _batch_changes(
    agent: ActorCritic, rollouts: Rollouts, env, forks: ForkBatch, history_steps: int
) -> dict[str, np.ndarray]:
    """MEASURES [B, 3], `same` [B] and `velocity` [B, 2] of one batch of fork points."""
    device = agent.initial_state(1).device
    snapshots = replay_states(rollouts, forks.episode, forks.step - history_steps, env)
    history = _recorded_history(rollouts, forks, history_steps)
    hidden = torch.from_numpy(history["hidden"][0]).to(device)
    counterfactual = play_counterfactual_history(
        env, snapshots, history["action"][:-1].astype(np.int64), forks.velocity
    )
    frame = history["obs"][-1:]
    by_history = {
        "velocity": state_after_history(agent, hidden, counterfactual.frames),
        "other": state_after_history(agent, _states_at(rollouts, forks).to(device), frame),
        "initial": state_after_history(agent, agent.initial_state(len(forks.step)), frame),
    }
    own = state_after_history(agent, hidden, history["obs"])
    states = torch.stack([by_history[name] for name in HISTORIES])
    changes = policy_change(agent, own, states, env.effect_classes)
    same = counterfactual.same & (counterfactual.frames[-1] == frame[0]).all((1, 2, 3))
    return {"same": same, "velocity": counterfactual.velocity} | {
        name: x.T.astype(np.float32) for name, x in zip(MEASURES, changes)
    }


def _recorded_history(rollouts: Rollouts, forks: ForkBatch, history_steps: int) -> dict[str, np.ndarray]:
    """obs, hidden and action [history_steps + 1, B, ...] up to the fork points."""
    episodes = [rollouts.episode(i) for i in forks.episode]
    return {
        name: np.stack(
            [episode[name][step - history_steps : step + 1] for episode, step in zip(episodes, forks.step)], 1
        )
        for name in ("obs", "hidden", "action")
    }


def _states_at(rollouts: Rollouts, forks: ForkBatch) -> torch.Tensor:
    """[B, S]: states of the other episodes at the time of the fork points, or at their end."""
    hidden = [rollouts.episode(i)["hidden"] for i in forks.other]
    return torch.from_numpy(
        np.stack([states[min(step, len(states) - 1)] for states, step in zip(hidden, forks.step)])
    )
