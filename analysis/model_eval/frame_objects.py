"""What stands in each CoinRun frame of a recording and where, read from the state bytes of its replayed
steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.model_eval.camera import Camera, x_to_columns, y_to_rows
from envs.coinrun import COIN, CRATE, ENEMY, LAVAS, SAW
from envs.procgen_body import State, parse
from rollouts.states import replay_states
from rollouts.store import Rollouts

KINDS = ("saw", "enemy", "lava", "crate", "coin")
"""What is looked for. Lava counts by the cells of its surface; the rest of a pit of lava looks the same
everywhere.
"""
HAZARDS = (0, 1, 2)
STATES_PER_CHUNK = 2000
MERGE_DISTANCE = 0.6
"""Tiles: things of one kind that are nearer than this in both directions are one thing to the eye, and count
as one.
"""
_ENTITY_KINDS = {SAW: 0, ENEMY: 1, CRATE: 3}
_CELL_KINDS = {LAVAS[1]: 2, COIN: 4}


class Objects(NamedTuple):
    """Things at places, arrays [n]. frame: which frame each belongs to; kind: index into KINDS; x, y: its
    middle, in tiles.
    """

    frame: np.ndarray
    kind: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def take(self, which: np.ndarray) -> "Objects":
        """Those at a mask or at indices."""
        return Objects(*(field[which] for field in self))

    def of_kinds(self, kinds: Sequence[int]) -> "Objects":
        return self.take(np.isin(self.kind, kinds))


class Scenes(NamedTuple):
    """The scenes of F frames. camera: of [F]; player [F, 2]: x and y in tiles; objects: those whose middle is
    on the screen.
    """

    camera: Camera
    player: np.ndarray
    objects: Objects


def read_scene(state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera [4], player [2] and objects [n, 3] (kind, x, y) of one CoinRun state."""
    camera = np.array([state.scene[name] for name in ("x_off", "y_off", "unit", "view_dim")], np.float64)
    things = [
        np.stack([np.full(len(e), kind), e["x"], e["y"]], 1)
        for type_, kind in _ENTITY_KINDS.items()
        if len(e := state.entities[state.entities["type"] == type_])
    ]
    for id_, kind in _CELL_KINDS.items():
        rows, columns = np.nonzero(state.grid == id_)
        things.append(np.stack([np.full(len(rows), kind), columns + 0.5, rows + 0.5], 1))
    objects = np.concatenate(things).astype(np.float64)
    return (
        camera,
        np.array([state.player["x"], state.player["y"]], np.float64),
        _merge_overlapping(objects[_on_screen(camera, objects)]),
    )


def _merge_overlapping(objects: np.ndarray) -> np.ndarray:
    """One of each group of things of a kind that stand on top of each other (crates twice in a place, enemies
    that meet).
    """
    near = (np.abs(objects[:, None] - objects[None]) < [1, MERGE_DISTANCE, MERGE_DISTANCE]).all(-1)
    kept = np.zeros(len(objects), bool)
    for i in range(len(objects)):
        kept[i] = not near[i, :i][kept[:i]].any()
    return objects[kept]


def _on_screen(camera: np.ndarray, objects: np.ndarray) -> np.ndarray:
    view = Camera(*camera)
    pixels = np.stack([x_to_columns(view, objects[:, 1]), y_to_rows(view, objects[:, 2])])
    return ((pixels >= 0) & (pixels < camera[2] * camera[3])).all(0)


def stack_scenes(scenes: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Scenes:
    """Many of `read_scene` as one."""
    camera = np.stack([scene[0] for scene in scenes])
    player = np.stack([scene[1] for scene in scenes])
    counts = [len(scene[2]) for scene in scenes]
    kind, x, y = np.concatenate([scene[2] for scene in scenes]).T
    return Scenes(
        Camera(*camera.T),
        player,
        Objects(np.repeat(np.arange(len(scenes)), counts), kind.astype(np.int64), x, y),
    )


def concat_scenes(first: Scenes, second: Scenes) -> Scenes:
    """The frames of both, the second's after the first's."""
    moved = second.objects._replace(frame=second.objects.frame + len(first.player))
    pairs = zip(tuple(first.camera), tuple(second.camera)), zip(first.objects, moved)
    camera, objects = ([np.concatenate(pair) for pair in fields] for fields in pairs)
    return Scenes(Camera(*camera), np.concatenate([first.player, second.player]), Objects(*objects))


def replay_scenes(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray, env=None) -> Scenes:
    """The scenes of the frames obs[steps[i]] of episodes[i], in order, by replaying levels and actions in the
    real game.

    env: as for replay_states. Only so many states (37 KB each) are held at a time as AT_ONCE says.
    """
    episodes, steps = np.asarray(episodes), np.asarray(steps)
    order = np.argsort(episodes, kind="stable")
    scenes = [None] * len(episodes)
    for chunk in np.split(order, range(STATES_PER_CHUNK, len(order), STATES_PER_CHUNK)):
        for i, snapshot in zip(chunk, replay_states(rollouts, episodes[chunk], steps[chunk], env)):
            scenes[i] = read_scene(parse(snapshot.data))
    return stack_scenes(scenes)
