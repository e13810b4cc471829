"""The objects in each CoinRun frame of a recording, read from the state bytes of its replayed steps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.model_eval.camera import Camera, x_to_columns, y_to_rows
from envs.coinrun import COIN, CRATE, ENEMY, LAVAS, SAW
from envs.procgen_body import State, parse
from rollouts.states import replay_states
from rollouts.store import Rollouts

KINDS = ("saw", "enemy", "lava", "crate", "coin")
"""Kinds of objects. Lava is counted by its surface cells; below the surface it looks the same everywhere."""
HAZARDS = (0, 1, 2)
"""Indices into KINDS."""
STATES_PER_CHUNK = 2000
"""States held in memory at a time; each has 37 KB."""
MERGE_DISTANCE = 0.6
"""Tiles: objects of one kind nearer than this in x and in y look like one, and count as one."""
_ENTITY_KINDS = {SAW: 0, ENEMY: 1, CRATE: 3}
_CELL_KINDS = {LAVAS[1]: 2, COIN: 4}


class Objects(NamedTuple):
    """n objects in frames."""

    frame: np.ndarray
    """[n]: number of the frame."""
    kind: np.ndarray
    """[n]: index into KINDS."""
    x: np.ndarray
    """[n]: centre, in tiles."""
    y: np.ndarray

    def take(self, selected: np.ndarray) -> "Objects":
        """Objects at a mask or at indices."""
        return Objects(*(field[selected] for field in self))

    def of_kinds(self, kinds: Sequence[int]) -> "Objects":
        """Objects of some kinds, by index into KINDS."""
        return self.take(np.isin(self.kind, kinds))


class Scenes(NamedTuple):
    """Camera, player and objects of F frames."""

    camera: Camera
    """[F]."""
    player: np.ndarray
    """[F, 2]: x and y in tiles."""
    objects: Objects
    """Those whose centre is on the screen."""


def read_scene(state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera [4], player [2] and objects [n, 3] (kind, x, y) of one CoinRun state."""
    camera = np.array([state.scene[name] for name in ("x_off", "y_off", "unit", "view_dim")], np.float64)
    player = np.array([state.player["x"], state.player["y"]], np.float64)
    objects = np.concatenate([*_entities(state), *_cells(state)]).astype(np.float64)
    return camera, player, _merge_overlapping(objects[_on_screen(camera, objects)])


def _entities(state: State) -> list[np.ndarray]:
    """Arrays [n, 3] (kind, x, y) of the state's entities, by kind."""
    entities = {
        kind: state.entities[state.entities["type"] == type_] for type_, kind in _ENTITY_KINDS.items()
    }
    return [np.stack([np.full(len(e), kind), e["x"], e["y"]], 1) for kind, e in entities.items() if len(e)]


def _cells(state: State) -> list[np.ndarray]:
    """Arrays [n, 3] (kind, x, y) of the objects in the state's grid, by kind."""
    positions = {kind: np.nonzero(state.grid == id_) for id_, kind in _CELL_KINDS.items()}
    return [
        np.stack([np.full(len(rows), kind), columns + 0.5, rows + 0.5], 1)
        for kind, (rows, columns) in positions.items()
    ]


def _merge_overlapping(objects: np.ndarray) -> np.ndarray:
    """One of each group of overlapping objects of a kind (two crates in one place, enemies that meet)."""
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
    """Scenes from the results of `read_scene`, one for each frame."""
    camera = np.stack([scene[0] for scene in scenes])
    player = np.stack([scene[1] for scene in scenes])
    counts = [len(scene[2]) for scene in scenes]
    kind, x, y = np.concatenate([scene[2] for scene in scenes]).T
    frame = np.repeat(np.arange(len(scenes)), counts)
    return Scenes(Camera(*camera.T), player, Objects(frame, kind.astype(np.int64), x, y))


def concat_scenes(first: Scenes, second: Scenes) -> Scenes:
    """Scenes of the first frames followed by those of the second."""
    shifted = second.objects._replace(frame=second.objects.frame + len(first.player))
    pairs = zip(tuple(first.camera), tuple(second.camera)), zip(first.objects, shifted)
    camera, objects = ([np.concatenate(pair) for pair in fields] for fields in pairs)
    return Scenes(Camera(*camera), np.concatenate([first.player, second.player]), Objects(*objects))


def replay_scenes(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray, env=None) -> Scenes:
    """Scenes of recorded frames, by replaying levels and actions in the real game.

    Args:
        rollouts: a CoinRun store.
        episodes: [F].
        steps: [F], the step of each frame in its episode.
        env: as for `replay_states`.
    """
    episodes, steps = np.asarray(episodes), np.asarray(steps)
    order = np.argsort(episodes, kind="stable")
    scenes = [None] * len(episodes)
    for chunk in np.split(order, range(STATES_PER_CHUNK, len(order), STATES_PER_CHUNK)):
        for i, snapshot in zip(chunk, replay_states(rollouts, episodes[chunk], steps[chunk], env)):
            scenes[i] = read_scene(parse(snapshot.data))
    return stack_scenes(scenes)
