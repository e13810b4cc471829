"""Is a made scene what it says? Asked of the game: it restores scene and twin, draws them and plays a step;
and of the concepts, read anew from the bytes.
"""

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
"""Tiles between player and object: from here on it cannot touch the player within a step."""
EDGE_PIXELS = 1.0
"""Pixels by which the middle of a changed one may lie outside the object's box: pictures are drawn with soft
edges.
"""
FAULTS = ("unread", "repainted", "misplaced", "spilt", "unseen", "twin ends", "ends too soon")
"""What a pair can fail by, in the order in which it is asked; see `judge`."""


class ScenePair(NamedTuple):
    """One pair that is to be judged. recorded [H, W, C]: the frame of the moment it was made from."""

    kind: str
    scene: State
    twin: State
    box: Box
    recorded: np.ndarray


class CheckedPairs(NamedTuple):
    """B pairs. fault [B]: one of FAULTS, or "" for a pair as it should be. states [B][2], frames [B, 2, H, W,
    C], survives [B, 2] a step of doing nothing, shown [B]: whether the picture has the object; concepts:
    {name: [B, 2]}.
    """

    fault: np.ndarray
    states: list[tuple[Snapshot, Snapshot]]
    frames: np.ndarray
    survives: np.ndarray
    shown: np.ndarray
    concepts: dict[str, np.ndarray]


def check_pairs(made: Sequence[ScenePair], env) -> CheckedPairs:
    """Restores every pair in `env` (at least 2 * B slots, used up) and compares what it shows and does with
    what it should.

    unread: the bytes do not read back as the state. repainted: the twin is not drawn as the moment was
    recorded. misplaced: the concepts do not find the object where it was put, or find one in the twin that is
    as near. spilt: pixels changed outside the object's box. unseen: none changed though the box is on the
    screen. twin ends: the twin's episode ends within a step of doing nothing. ends too soon: the scene's
    does, though the object is out of reach.
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
        "repainted": (frames[:, WITHOUT] != [pair.recorded for pair in made]).any((1, 2, 3)),
        "misplaced": ~_correctly_placed(made, concepts, player["x"]),
        "spilt": (changed & ~inside).any((1, 2)),
        "unseen": on_screen & ~changed.any((1, 2)),
        "twin ends": ~survives[:, WITHOUT],
        "ends too soon": far & ~survives[:, WITH],
    }
    fault = np.select(list(faults.values()), list(faults), "")
    return CheckedPairs(
        fault, [tuple(map(Snapshot, pair)) for pair in data], frames, survives, changed.any((1, 2)), concepts
    )


def _play(data: Sequence[tuple[bytes, bytes]], env) -> tuple[np.ndarray, Symbols, np.ndarray]:
    """Frames [B, 2, H, W, C] of the pairs, what the game says of them once it has drawn them, and whether
    each goes on after a step of doing nothing [B, 2].
    """
    slots = range(2 * len(data))
    env.restore([Snapshot(one) for pair in data for one in pair], slots)
    frames = env.observe()[1][: len(slots)].copy()
    symbols = env.symbols(slots)
    env.act(np.full(env.num, env.noop))
    return frames.reshape(-1, 2, *frames.shape[1:]), symbols, ~env.observe()[2][: len(slots)].reshape(-1, 2)


def _correctly_placed(
    made: Sequence[ScenePair], concepts: dict[str, np.ndarray], x: np.ndarray
) -> np.ndarray:
    """Whether the nearest of its kind is the object, in its column, in the scene; and in the twin nothing of
    the kind is as near. Out of view, nothing is.
    """
    right = np.zeros(len(made), bool)
    for i, pair in enumerate(made):
        there, tiles, _ = (concepts[name][i] for name in columns_of(pair.kind))
        asked = pair.box.left + 0.5 - x[i]
        here = there[WITH] and abs(tiles[WITH] - asked) < 1e-3
        beyond = not there[WITHOUT] or tiles[WITHOUT] > asked + 0.5
        right[i] = (here and beyond) or (not there.any() and _out_of_view(pair, asked))
    return right


def _out_of_view(pair: ScenePair, asked: float) -> bool:
    """Whether the middle of the object is not on the right half of the picture, where things count as ahead."""
    reach = pair.scene.scene["view_dim"] / 2
    y = pair.scene.player["y"]
    return (
        asked > reach
        or abs((pair.box.bottom + pair.box.top) / 2 - y) > reach - (pair.box.top - pair.box.bottom) / 2
    )


def _box_pixels(box: Box, camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels [B, H, W] within EDGE of each box, and [B] whether a whole tile's half of it is on the
    screen.
    """
    left, right = (x_to_columns(camera, x[:, None]) for x in (box.left, box.right))
    top, bottom = (y_to_rows(camera, y[:, None]) for y in (box.top, box.bottom))
    pixel = np.arange(size) + 0.5
    columns = (pixel > left - EDGE_PIXELS) & (pixel < right + EDGE_PIXELS)
    rows = (pixel > top - EDGE_PIXELS) & (pixel < bottom + EDGE_PIXELS)
    half = camera.unit / 2
    wide = (right.clip(0, size) - left.clip(0, size))[:, 0] > half
    high = (bottom.clip(0, size) - top.clip(0, size))[:, 0] > half
    return rows[:, :, None] & columns[:, None], wide & high
