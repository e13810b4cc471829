"""One frame, two pasts: how far the policy moves where the frame is the same, bit for bit, and the velocity is another."""

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.memory import MEASURES, change
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from interpret.pasts import other_past, seen_from
from rollouts.growth import RECORD_MORE
from rollouts.states import replay_states
from rollouts.store import Rollouts

PASTS = ("velocity", "other", "initial")
"""What comes before the frame: a past with another velocity; the state of another episode at that time; nothing."""


def chosen_moments(rollouts: Rollouts, count: int, past: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Episodes and steps [M]: a random step of each of up to `count` episodes of distinct levels, `past` steps or more after their begin.

    Raises UsageError where fewer than two are long enough.
    """
    rng = np.random.default_rng([seed, 1])
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    episodes = rng.permutation(first[rollouts.episodes["length"][first] > past])[:count]
    if len(episodes) < 2:
        raise UsageError(f"{rollouts.path} has {counted(len(episodes), 'episode')} of more than {counted(past, 'step')}: give a smaller --past, or {RECORD_MORE}")
    return episodes, rng.integers(past, rollouts.episodes["length"][episodes])


def drawn_velocities(concepts: dict[str, np.ndarray], rows: np.ndarray, seed: int) -> np.ndarray:
    """Velocities [M, 2] for steps `rows` [M] of the store: evenly from the range that 99% of the players in the air, or on the ground,
    have; on the ground none upwards."""
    drawn, rng = np.zeros((len(rows), 2), np.float32), np.random.default_rng([seed, 2])
    for support in (True, False):
        alike, here = concepts["support"] == support, concepts["support"][rows] == support
        for i, name in enumerate(("vx", "vy")[: 1 if support else 2]):
            low, high = np.quantile(concepts[name][alike], [0.005, 0.995]) if here.any() else (0, 0)
            drawn[here, i] = rng.uniform(low, high, here.sum())
    return drawn


def interchange(
    agent: ActorCritic, rollouts: Rollouts, concepts: dict[str, np.ndarray], env, count: int, past: int, seed: int
) -> dict[str, np.ndarray]:
    """The change by each of PASTS at moments of which another past was found: MEASURES [M, 3]; own and other velocity [M, 2] at the frame;
    same [M] (of the others only the controls count), support, level, episode and step [M]."""
    episodes, at = chosen_moments(rollouts, count, past, seed)
    rows = rollouts.first_step[episodes] + at
    velocity, others = drawn_velocities(concepts, rows - past, seed), _longer(rollouts, episodes, at, seed)
    parts = []
    with progress_bar(total=len(episodes), unit="moment", desc="two pasts") as bar:
        for i in range(0, len(episodes), env.num):
            some = slice(i, i + env.num)
            parts.append(_batch(agent, rollouts, env, episodes[some], at[some], others[some], past, velocity[some]))
            bar.update(len(episodes[some]))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    own = np.stack([concepts["vx"][rows], concepts["vy"][rows]], 1)
    about = {"level": rollouts.episodes["level_seed"][episodes], "episode": episodes, "step": at, "support": concepts["support"][rows]}
    return found | about | {"own_velocity": own}


def _longer(rollouts: Rollouts, episodes: np.ndarray, at: np.ndarray, seed: int) -> np.ndarray:
    """For each moment another episode that has such a step: [M]. Where there is none, the longest but this one."""
    rng, length = np.random.default_rng([seed, 3]), rollouts.episodes["length"]
    order = np.argsort(length, kind="stable")
    found = []
    for episode, t in zip(episodes, at):
        begin = min(np.searchsorted(length[order], t, side="right"), len(order) - 2)
        candidates = order[begin:][order[begin:] != episode]
        found.append(rng.choice(candidates))
    return np.array(found)


def _batch(agent: ActorCritic, rollouts: Rollouts, env, episodes, at, others, past: int, velocity: np.ndarray) -> dict[str, np.ndarray]:
    device = agent.initial_state(1).device
    snapshots, stored = replay_states(rollouts, episodes, at - past, env), [rollouts.episode(i) for i in episodes]
    window = {name: np.stack([steps[name][t - past : t + 1] for steps, t in zip(stored, at)], 1) for name in ("obs", "hidden", "action")}
    hidden = torch.from_numpy(window["hidden"][0]).to(device)
    there = other_past(env, snapshots, window["action"][:-1].astype(np.int64), velocity)
    met = [rollouts.episode(i)["hidden"] for i in others]
    met = torch.from_numpy(np.stack([states[min(t, len(states) - 1)] for states, t in zip(met, at)])).to(device)
    frame = window["obs"][-1:]
    states = [seen_from(agent, hidden, there.frames), seen_from(agent, met, frame), seen_from(agent, agent.initial_state(len(at)), frame)]
    moved = change(agent, seen_from(agent, hidden, window["obs"]), torch.stack(states), env.effect_classes)
    same = there.same & (there.frames[-1] == frame[0]).all((1, 2, 3))
    return {"same": same, "velocity": there.velocity} | {name: x.T.astype(np.float32) for name, x in zip(MEASURES, moved)}
