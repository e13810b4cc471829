"""Counterfactual histories: real play that ends in a recorded frame, bit for bit, with another velocity.

Some steps before a fork point the player is given another velocity, and the recorded actions are taken. It
ends elsewhere; started as far to the other side, it ends at the recorded place. CoinRun does not display
velocity, so the last frames are identical and only memory distinguishes the two histories.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from envs.coinrun import WALLS
from envs.procgen import Snapshot
from envs.procgen_body import State, parse, serialize
from envs.scenes import copy

POSITION_TOLERANCE = 1e-3
WALL_TOLERANCE = 0.1
"""Tiles. The player is in the same place if it is within POSITION_TOLERANCE, and inside a wall if it overlaps
one by more than WALL_TOLERANCE.
"""


class CounterfactualHistory(NamedTuple):
    """Played histories of P steps before B fork points."""

    frames: np.ndarray
    """[P + 1, B, H, W, C] uint8, the frame at the fork point last."""
    velocity: np.ndarray
    """[B, 2]: rightwards and upwards at the end, in tiles per step."""
    same: np.ndarray
    """[B] bool: whether it starts outside walls and ends in the recorded place with the recorded frame."""


def play_counterfactual_history(
    env, snapshots: Sequence[Snapshot], actions: np.ndarray, velocity: np.ndarray
) -> CounterfactualHistory:
    """Starts each of B histories with another velocity, and takes the recorded actions from a place that
    leads to the same end.

    Args:
        env: a VecEnv of CoinRun with `restore` and `symbols` and at least B slots, which are overwritten.
        snapshots: [B], states at which the histories begin.
        actions: [P, B].
        velocity: [B, 2], rightwards and upwards, in tiles per step.
    """
    states = [parse(snapshot.data) for snapshot in snapshots]
    frames, ends = _run(env, states, actions)
    faster = [copy(state, vx=vx, vy=vy) for state, (vx, vy) in zip(states, velocity)]
    shift = ends[:, :2] - _run(env, faster, actions)[1][:, :2]
    moved = [_moved(state, *by) for state, by in zip(faster, shift)]
    starts = [state if shifted is None else shifted for state, shifted in zip(states, moved)]
    other, other_ends = _run(env, starts, actions)
    same = np.array([shifted is not None for shifted in moved]) & (other[-1] == frames[-1]).all((1, 2, 3))
    return CounterfactualHistory(
        other,
        other_ends[:, 2:],
        same & (np.abs(other_ends[:, :2] - ends[:, :2]) < POSITION_TOLERANCE).all(1),
    )


def state_after_history(agent: ActorCritic, hidden: torch.Tensor, frames: np.ndarray) -> torch.Tensor:
    """The agent's states [B, S] after frames [P, B, H, W, C], from states `hidden` [B, S] before them."""
    with torch.inference_mode():
        seen = torch.from_numpy(frames).to(hidden.device)
        return agent.unroll(
            seen, hidden, torch.zeros(seen.shape[:2], dtype=torch.bool, device=hidden.device)
        )[-1]


def _run(env, states: Sequence[State], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [P + 1, B, H, W, C] along the actions, and the player's final x, y, vx, vy [B, 4]."""
    slots = range(len(states))
    env.restore([Snapshot(serialize(state)) for state in states], slots)
    frames = [env.observe()[1][: len(states)].copy()]
    for action in actions:
        env.act(np.concatenate([action, np.full(env.num - len(action), env.noop)]))
        frames.append(env.observe()[1][: len(states)].copy())
    player = env.symbols(slots).player
    return np.stack(frames), np.stack([player[name] for name in ("x", "y", "vx", "vy")], 1)


def _moved(state: State, right: float, up: float) -> State | None:
    """The state with the player displaced; None if that is outside the level or inside a wall."""
    x = state.player["x"] + right
    y = state.player["y"] + up
    low_x, high_x = (int(np.floor(x + side * (state.player["rx"] - WALL_TOLERANCE))) for side in (-1, 1))
    low_y, high_y = (int(np.floor(y + side * (state.player["ry"] - WALL_TOLERANCE))) for side in (-1, 1))
    height, width = state.grid.shape
    inside = low_x >= 0 and high_x < width and low_y >= 0 and high_y < height
    if not inside or np.isin(state.grid[low_y : high_y + 1, low_x : high_x + 1], WALLS).any():
        return None
    return copy(state, x=x, y=y)
