"""Reads CoinRun states for tests."""

import numpy as np

from analysis.model_eval.frame_objects import read_scene, stack_scenes
from envs.coinrun import COIN
from envs.layouts import first_states
from envs.make import make_env
from envs.procgen import ProcgenConfig, Snapshot
from envs.procgen_body import State, parse, serialize

PIXEL = 13 / 64  # tiles: 13 of them fill the 64 pixels


def coin_cell(state: State) -> tuple[int, int]:
    """Row and column of the coin."""
    row, column = np.argwhere(state.grid == COIN)[0]
    return int(row), int(column)


def drawn_from(moves, alpha=1.0):
    """Frames [n, H, W, C] and scenes of one level with the player put elsewhere by (right, up) pixels,
    and as opaque as `alpha` says.
    """
    env = make_env(len(moves), ProcgenConfig())
    (state,) = first_states(make_env(1, ProcgenConfig()), [10_004])
    states = []
    for right, up in moves:
        moved = parse(serialize(state))
        moved.player["x"], moved.player["y"] = 8.5 + right * PIXEL, 4.5 + up * PIXEL
        moved.player["alpha"] = alpha
        states.append(Snapshot(serialize(moved)))
    env.restore(states)
    frames = env.observe()[1]
    scenes = stack_scenes([read_scene(parse(snapshot.data)) for snapshot in env.snapshot()])
    env.close()
    return frames, scenes
