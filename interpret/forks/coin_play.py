"""Plays levels with the coin in one place: does the agent get it, reach the end wall without it, or die?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.noise import gumbel_noise
from common.policy import Policy, step
from interpret.forks.coin_levels import CoinLevel

OUTCOMES = ("coin", "wall", "death", "time-out")
"""How a run ends: with the coin; at the end wall without it; with the player's death before the wall; or
neither within the steps given.
"""
COIN, WALL, DEATH, TIME_OUT = range(4)
_FREE = -1


class Played(NamedTuple):
    """Runs of n levels, arrays [n]."""

    outcome: np.ndarray
    """Index into OUTCOMES."""
    length: np.ndarray
    """Steps until the outcome was known."""
    wall_at: np.ndarray
    """Step at which the player was first in the last column; -1 if never."""
    passed: np.ndarray
    """[n, C] bool: whether the player touched each of the watched cells."""
    path: np.ndarray
    """[T, n, 2] float32: the player's place (x, y) in tiles after each step; NaN after the end."""


class Limits(NamedTuple):
    """Steps that a run takes at most, and that it goes on for after the player has reached the wall."""

    steps: int
    wait: int


def play_coin_levels(
    env,
    policy: Policy,
    levels: Sequence[CoinLevel],
    variant: str,
    limits: Limits,
    seed: int,
    watched: Sequence[str] = (),
    bar=None,
) -> Played:
    """Plays one variant of every level. Runs of a level share their action noise, whatever the variant.

    Args:
        env: CoinRun; its slots are overwritten, and refilled as runs end.
        policy: acts.
        levels: n levels.
        variant: of VARIANTS.
        limits: when runs stop.
        seed: of the noise.
        watched: variants whose coin's cell is watched: does the player touch it, with or without a coin?
        bar: a progress bar, updated by runs.
    """
    count = len(levels)
    played = Played(
        np.full(count, TIME_OUT),
        np.zeros(count, np.int64),
        np.full(count, -1),
        np.zeros((count, len(watched)), bool),
        np.full((limits.steps, count, 2), np.nan, np.float32),
    )
    seeds = np.array([one.level for one in levels])
    last = np.array([one.last_column for one in levels])
    cells = np.array([[one.cells[name] for name in watched] for one in levels]).reshape(count, -1, 2)
    run = np.full(env.num, _FREE)
    waiting = list(range(count))[::-1]
    t = np.zeros(env.num, np.int64)
    state = policy.initial_state(env.num).clone()
    while waiting or (run != _FREE).any():
        for slot in np.flatnonzero(run == _FREE)[: len(waiting)]:
            run[slot], t[slot] = waiting.pop(), 0
            env.restore([levels[run[slot]].snapshots[variant]], [slot])
        busy = np.flatnonzero(run != _FREE)
        noise = torch.from_numpy(gumbel_noise(seed, seeds[run[busy]], 0, t[busy], env.num_actions))
        with torch.inference_mode():
            obs, opens = torch.from_numpy(env.observe()[1][busy]), torch.from_numpy(t[busy] == 0)
            taken = step(policy, obs, state[busy], opens, torch.zeros(len(busy)), noise.to(state.device))
        state[busy] = taken.state
        action = np.full(env.num, env.noop)
        action[busy] = taken.action.cpu().numpy()
        env.act(action)
        info = env.info()
        ended = (info["terminated"] | info["truncated"])[busy]
        player = env.symbols(busy[~ended]).player if (~ended).any() else None
        _note_places(played, run[busy[~ended]], t[busy[~ended]], player, last, cells)
        t[busy] += 1
        stop = _stopped(played, run[busy], t[busy], ended, info["level_complete"][busy], limits)
        run[busy[stop]] = _FREE
        if bar is not None:
            bar.update(int(stop.sum()))
    return played


def _note_places(played: Played, run, t, player, last: np.ndarray, cells: np.ndarray) -> None:
    """Notes places, arrivals at the wall and touched cells of runs that go on."""
    if player is None:
        return
    played.path[t, run] = np.stack([player["x"], player["y"]], 1)
    arrived = (player["x"] >= last[run]) & (played.wall_at[run] < 0)
    played.wall_at[run[arrived]] = t[arrived] + 1
    played.passed[run] |= touches(player, cells[run])


def touches(player: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Whether each of n players overlaps each of its cells [n, C, 2] (row, column): [n, C] bool."""
    away_x = np.abs(player["x"][:, None] - cells[..., 1] - 0.5) - player["rx"][:, None]
    away_y = np.abs(player["y"][:, None] - cells[..., 0] - 0.5) - player["ry"][:, None]
    return (away_x < 0.5) & (away_y < 0.5)


def _stopped(played: Played, run, t, ended, complete, limits: Limits) -> np.ndarray:
    """Which runs stop now; notes their outcome."""
    at_wall = played.wall_at[run] >= 0
    waited = at_wall & (t - played.wall_at[run] >= limits.wait)
    stop = ended | waited | (t >= limits.steps)
    outcome = np.select([ended & complete, at_wall, ended], [COIN, WALL, DEATH], TIME_OUT)
    played.outcome[run[stop]] = outcome[stop]
    played.length[run[stop]] = t[stop]
    return stop
