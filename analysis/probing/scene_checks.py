"""Checks constructed scenes in the game, which restores, renders and plays them, and by their concepts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.model_eval.camera import Camera, x_to_columns, y_to_rows
from envs.concepts import columns_of, measure
from envs.procgen import Snapshot
from envs.procgen_body import State, parse, serialize
from envs.scenes import Box
from envs.symbols import Symbols
from rollouts.scene_bank import WITH, WITHOUT

CONTACT_DISTANCE = 1.0
"""Tiles: an object this far from the player cannot touch it within one step."""
EDGE_PIXELS = 1.0
"""Pixels that rendering may change beyond the object's box, by antialiasing."""
FAULTS = ("unread", "render_mismatch", "misplaced", "leaked_pixels", "unseen", "twin ends", "ends too soon")
"""Faults of a pair, in the order in which they are checked; see `check_pairs`."""


class ScenePair(NamedTuple):
    """A scene with an object, and its twin without it."""

    kind: str
    scene: State
    twin: State
    box: Box
    """Of the object."""
    recorded: np.ndarray
    """[H, W, C]: recorded frame of the state that the scene was made from."""


class CheckedPairs(NamedTuple):
    """What the game makes of B pairs."""

    fault: np.ndarray
    """[B]: the first of FAULTS, or "" for a valid pair."""
    states: list[tuple[Snapshot, Snapshot]]
    frames: np.ndarray
    """[B, 2, H, W, C]."""
    survives: np.ndarray
    """[B, 2]: whether the episode continues after a no-op."""
    shown: np.ndarray
    """[B]: whether the object is visible."""
    concepts: dict[str, np.ndarray]
    """[B, 2] by name."""


def check_pairs(made: Sequence[ScenePair], env) -> CheckedPairs:
    """Restores every pair in the game and looks for FAULTS.

    - unread: the bytes do not parse back to the state.
    - render_mismatch: the twin is not rendered as the recorded frame.
    - misplaced: the concepts do not find the object in its place, or find one as near in the twin.
    - leaked_pixels: pixels differ outside the object's box.
    - unseen: no pixel differs although the box is on the screen.
    - twin ends: the twin's episode ends after a no-op.
    - ends too soon: the scene's does, although the object is out of reach.

    Args:
        made: B pairs.
        env: CoinRun with at least 2 * B slots, which are overwritten.
    """
    data = [(serialize(pair.scene), serialize(pair.twin)) for pair in made]
    unread = np.array([[serialize(parse(one)) != one for one in pair] for pair in data]).any(1)
    frames, symbols, survives = _play(data, env)
    concepts = {name: column.reshape(-1, 2) for name, column in measure(symbols).items()}
    camera = Camera(
        *(symbols.scene[name][::2].astype(float) for name in ("x_off", "y_off", "unit", "view_dim"))
    )
    changed = (frames[:, WITH] != frames[:, WITHOUT]).any(-1)  # [B, H, W]
    box = Box(*np.array([pair.box for pair in made], float).T)
    inside, on_screen = _box_pixels(box, camera, changed.shape[-1])
    player = symbols.player[::2]
    far = box.left - player["x"] - player["rx"] >= CONTACT_DISTANCE
    faults = {
        "unread": unread,
        "render_mismatch": (frames[:, WITHOUT] != [pair.recorded for pair in made]).any((1, 2, 3)),
        "misplaced": ~_correctly_placed(made, concepts, player["x"]),
        "leaked_pixels": (changed & ~inside).any((1, 2)),
        "unseen": on_screen & ~changed.any((1, 2)),
        "twin ends": ~survives[:, WITHOUT],
        "ends too soon": far & ~survives[:, WITH],
    }
    fault = np.select(list(faults.values()), list(faults), "")
    return CheckedPairs(
        fault, [tuple(map(Snapshot, pair)) for pair in data], frames, survives, changed.any((1, 2)), concepts
    )


def _play(data: Sequence[tuple[bytes, bytes]], env) -> tuple[np.ndarray, Symbols, np.ndarray]:
    """Frames [B, 2, H, W, C] of the pairs, their symbols, and whether each continues after a no-op [B, 2]."""
    slots = range(2 * len(data))
    env.restore([Snapshot(one) for pair in data for one in pair], slots)
    frames = env.observe()[1][: len(slots)].copy()
    symbols = env.symbols(slots)
    env.act(np.full(env.num, env.noop))
    return frames.reshape(-1, 2, *frames.shape[1:]), symbols, ~env.observe()[2][: len(slots)].reshape(-1, 2)


def _correctly_placed(
    made: Sequence[ScenePair], concepts: dict[str, np.ndarray], x: np.ndarray
) -> np.ndarray:
    """Whether the nearest object of the kind is the one placed, and the twin has none as near: [B].

    An object out of view must not be found at all. x: [B], the player's position.
    """
    correct = np.zeros(len(made), bool)
    for i, pair in enumerate(made):
        ahead, tiles, _ = (concepts[name][i] for name in columns_of(pair.kind))
        distance = pair.box.left + 0.5 - x[i]
        is_found = ahead[WITH] and abs(tiles[WITH] - distance) < 1e-3
        is_nearest = not ahead[WITHOUT] or tiles[WITHOUT] > distance + 0.5
        correct[i] = (is_found and is_nearest) or (not ahead.any() and _out_of_view(pair, distance))
    return correct


def _out_of_view(pair: ScenePair, distance: float) -> bool:
    """Whether the object's centre is outside the right half of the screen, where objects count as ahead."""
    reach = pair.scene.scene["view_dim"] / 2
    y = pair.scene.player["y"]
    centre = (pair.box.bottom + pair.box.top) / 2
    half_height = (pair.box.top - pair.box.bottom) / 2
    return distance > reach or abs(centre - y) > reach - half_height


def _box_pixels(box: Box, camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [B, H, W] within EDGE_PIXELS of each box, and whether half a tile of it is on the screen [B]."""
    left, right = (x_to_columns(camera, x[:, None]) for x in (box.left, box.right))
    top, bottom = (y_to_rows(camera, y[:, None]) for y in (box.top, box.bottom))
    pixel = np.arange(size) + 0.5
    columns = (pixel > left - EDGE_PIXELS) & (pixel < right + EDGE_PIXELS)
    rows = (pixel > top - EDGE_PIXELS) & (pixel < bottom + EDGE_PIXELS)
    half = camera.unit / 2
    wide = (right.clip(0, size) - left.clip(0, size))[:, 0] > half
    high = (bottom.clip(0, size) - top.clip(0, size))[:, 0] > half
    return rows[:, :, None] & columns[:, None], wide & high
