"""One frame, two histories: the real game is played so that it ends in a stored frame, bit for bit, with another
velocity.

Some steps before a fork point the player is given another velocity and the recorded actions are taken. It ends
elsewhere; from as far to the other side it ends where it was. Velocity is not on the screen, so the last
frames are the same, and only memory tells the two apart.
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
"""Tiles: the player is in the same place when it is no farther away than CLOSE, and in a wall when it reaches
in by more than DEEP.
"""


class CounterfactualHistory(NamedTuple):
    """frames [P + 1, B, H, W, C] uint8, the one on show at the end last; velocity [B, 2] (rightwards,
    upwards) at the end, tiles per step; same [B]: whether the player walked into no wall to begin with and
    ended where it had been, with the same frame.
    """

    frames: np.ndarray
    velocity: np.ndarray
    same: np.ndarray


def play_counterfactual_history(
    env, snapshots: Sequence[Snapshot], actions: np.ndarray, velocity: np.ndarray
) -> CounterfactualHistory:
    """Begins each of B fork points with another velocity [B, 2] and takes the recorded actions [P, B], from a
    place that leads to the same end.

    env: a VecEnv of CoinRun with restore and symbols, with at least B slots, which are used up.
    """
    states = [parse(snapshot.data) for snapshot in snapshots]
    frames, ends = _run(env, states, actions)
    faster = [copy(state, vx=vx, vy=vy) for state, (vx, vy) in zip(states, velocity)]
    shift = ends[:, :2] - _run(env, faster, actions)[1][:, :2]
    moved = [_moved(state, *by) for state, by in zip(faster, shift)]
    begun = [state if there is None else there for state, there in zip(states, moved)]
    other, others_ends = _run(env, begun, actions)
    same = np.array([there is not None for there in moved]) & (other[-1] == frames[-1]).all((1, 2, 3))
    return CounterfactualHistory(
        other,
        others_ends[:, 2:],
        same & (np.abs(others_ends[:, :2] - ends[:, :2]) < POSITION_TOLERANCE).all(1),
    )


def state_after_history(agent: ActorCritic, hidden: torch.Tensor, frames: np.ndarray) -> torch.Tensor:
    """The agent's states [B, S] after frames [P, B, H, W, C], shown one after the other from states `hidden`
    [B, S] on.
    """
    with torch.inference_mode():
        seen = torch.from_numpy(frames).to(hidden.device)
        return agent.unroll(
            seen, hidden, torch.zeros(seen.shape[:2], dtype=torch.bool, device=hidden.device)
        )[-1]


def _run(env, states: Sequence[State], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames [P + 1, B, H, W, C] along the actions [P, B], and the player's x, y, vx, vy [B, 4] at the
    end.
    """
    slots = range(len(states))
    env.restore([Snapshot(serialize(state)) for state in states], slots)
    frames = [env.observe()[1][: len(states)].copy()]
    for action in actions:
        env.act(np.concatenate([action, np.full(env.num - len(action), env.noop)]))
        frames.append(env.observe()[1][: len(states)].copy())
    player = env.symbols(slots).player
    return np.stack(frames), np.stack([player[name] for name in ("x", "y", "vx", "vy")], 1)


def _moved(state: State, right: float, up: float) -> State | None:
    """The state with the player that far away; None where that is beyond the world or in a wall."""
    x = state.player["x"] + right
    y = state.player["y"] + up
    low_x, high_x = (int(np.floor(x + side * (state.player["rx"] - WALL_TOLERANCE))) for side in (-1, 1))
    low_y, high_y = (int(np.floor(y + side * (state.player["ry"] - WALL_TOLERANCE))) for side in (-1, 1))
    height, width = state.grid.shape
    inside = low_x >= 0 and high_x < width and low_y >= 0 and high_y < height
    if not inside or np.isin(state.grid[low_y : high_y + 1, low_x : high_x + 1], WALLS).any():
        return None
    return copy(state, x=x, y=y)
