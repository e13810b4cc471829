"""The real effect of an object: it is deleted from a state of the real game, and the agent sees the new frame
with the same hidden state, or plays on from there with the same noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.policy import Policy, class_log_probs
from envs.objects import KINDS, SceneObject, empty_cells, objects_in_view, without_object
from envs.procgen import Snapshot
from envs.procgen_body import State, parse
from interpret.forks.fork_points import ForkPoints
from interpret.forks.worlds import fork


class Deletion(NamedTuple):
    """One object that the picture shows, and the state without it.

    box: (top, left, bottom, right) of the pixels that its deletion changes, bottom and right exclusive.
    area: their number. empty: a box of the same size that shows nothing but empty cells, as far from the
    player as possible is equal; None where there is no such place.
    """

    object: SceneObject
    snapshot: Snapshot
    frame: np.ndarray
    box: tuple[int, int, int, int]
    area: int
    distance: float
    empty: tuple[int, int, int, int] | None


class Scene(NamedTuple):
    """The deletions of a state, and the player's place in its frame (row, column) in pixels."""

    deletions: list[Deletion]
    player: tuple[float, float]


def scene_of(snapshot: Snapshot, env, rng: np.random.Generator) -> Scene:
    """Deletes every object in view, one at a time. Objects whose deletion changes no pixel are left out.

    Args:
        snapshot: a state of CoinRun.
        env: CoinRun; its slots are overwritten.
        rng: chooses among equally good empty places.
    """
    state = parse(snapshot.data)
    objects = objects_in_view(state)
    snapshots = [snapshot, *(without_object(state, one) for one in objects)]
    intact, *deleted = rendered(env, snapshots)
    changed = [(frame != intact).any(-1) for frame in deleted]
    row, column = pixel_of(state, float(state.player["x"]), float(state.player["y"]))
    free = _empty_pixels(state, intact.shape[:2])
    for mask in changed:
        free &= ~mask
    found = []
    for one, after, frame, mask in zip(objects, snapshots[1:], deleted, changed):
        if mask.any():
            box = _bounds(mask)
            empty = _empty_box(free, box, (row, column), rng)
            away = np.hypot(one.x - state.player["x"], one.y - state.player["y"])
            found.append(Deletion(one, after, frame, box, int(mask.sum()), float(away), empty))
    return Scene(found, (row, column))


def rendered(env, snapshots: Sequence[Snapshot]) -> np.ndarray:
    """Frames [n, H, W, C] of states, as the game draws them."""
    frames = []
    for at in range(0, len(snapshots), env.num):
        part = snapshots[at : at + env.num]
        env.restore(part, range(len(part)))
        frames.append(env.observe()[1][: len(part)].copy())
    return np.concatenate(frames)


def pixel_of(state: State, x: float, y: float) -> tuple[float, float]:
    """Row and column at which the frame shows a place in tiles."""
    s = state.scene
    return float((s["view_dim"] - y) * s["unit"] + s["y_off"]), float(x * s["unit"] - s["x_off"])


def _empty_pixels(state: State, size: tuple[int, int]) -> np.ndarray:
    """Pixels [H, W] bool that lie in empty cells of the world."""
    s = state.scene
    y = np.floor(s["view_dim"] - (np.arange(size[0]) + 0.5 - s["y_off"]) / s["unit"]).astype(int)
    x = np.floor((np.arange(size[1]) + 0.5 + s["x_off"]) / s["unit"]).astype(int)
    cells = empty_cells(state)
    inside = ((y >= 0) & (y < len(cells)))[:, None] & ((x >= 0) & (x < cells.shape[1]))
    return inside & cells[y.clip(0, len(cells) - 1)[:, None], x.clip(0, cells.shape[1] - 1)]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box of the true pixels of a mask [H, W]."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _empty_box(
    free: np.ndarray, box: tuple[int, int, int, int], player: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A box of the same size within the free pixels [H, W], whose distance from the player is closest to that
    of `box`; None if none fits.
    """
    height, width = box[2] - box[0], box[3] - box[1]
    windows = np.lib.stride_tricks.sliding_window_view(free, (height, width)).all((2, 3))
    places = rng.permutation(np.argwhere(windows))
    if not len(places):
        return None
    middle = np.array([height, width]) / 2 - player
    away = np.hypot(*(places + middle).T)
    top, left = places[np.abs(away - np.hypot(*(np.array(box[:2]) + middle))).argmin()].tolist()
    return top, left, top + height, left + width


class ObjectTable(NamedTuple):
    """m objects of n states, one row each; see `Deletion`. kind indexes envs.objects.KINDS; an empty box of
    -1 stands for none. Boxes are int16 [m, 4], cells [m, 2] row and column in the world.
    """

    state: np.ndarray
    kind: np.ndarray
    cell: np.ndarray
    box: np.ndarray
    empty_box: np.ndarray
    area: np.ndarray
    distance: np.ndarray


def object_table(scenes: Sequence[Scene]) -> ObjectTable:
    """The objects of all scenes, scene after scene."""
    rows = [(i, one) for i, scene in enumerate(scenes) for one in scene.deletions]
    none = (-1, -1, -1, -1)
    return ObjectTable(
        np.array([i for i, _ in rows]),
        np.array([KINDS.index(one.object.kind) for _, one in rows], np.uint8),
        np.array([one.object.cell for _, one in rows], np.int16),
        np.array([one.box for _, one in rows], np.int16),
        np.array([one.empty or none for _, one in rows], np.int16),
        np.array([one.area for _, one in rows], np.int32),
        np.array([one.distance for _, one in rows], np.float32),
    )


@torch.no_grad()
def frame_effects(
    policy: Policy,
    hidden: torch.Tensor,
    action: np.ndarray,
    frames: np.ndarray,
    deleted: np.ndarray,
    state: np.ndarray,
    effect_classes: Sequence[int],
) -> dict[str, np.ndarray]:
    """Effects of m objects on an agent that sees the frame with the same hidden state.

    Args:
        policy: the agent.
        hidden: [n, D], before the frame of each state.
        action: [n], taken after each frame.
        frames: [n, H, W, C] uint8.
        deleted: [m, H, W, C] uint8, the frame without each object.
        state: [m], whose object it is.
        effect_classes: [A]; actions of one class are one action.

    Returns:
        [m] each: `value` and `action`, the value and the log-probability of the taken action with the object
        minus without it; `kl`, KL(policy with the object || without it).
    """
    log_probs, value = _class_log_probs(policy, hidden, frames, effect_classes)
    log_probs_after, value_after = _class_log_probs(policy, hidden[state], deleted, effect_classes)
    _, index = np.unique(effect_classes, return_inverse=True)
    taken = torch.from_numpy(index[action[state]])[:, None]
    change = log_probs[state] - log_probs_after
    return {
        "value": (value[state] - value_after).numpy(),
        "action": change.gather(1, taken)[:, 0].numpy(),
        "kl": (log_probs[state].exp() * change).sum(1).numpy(),
    }


def _class_log_probs(policy: Policy, hidden, frames, effect_classes) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the effect classes [N, J] and values [N] after a frame."""
    first = torch.zeros(len(frames), dtype=torch.bool)
    state = policy.advance(torch.from_numpy(frames), hidden, first, torch.zeros(len(frames)))
    logits, value = policy.heads(state)
    return class_log_probs(logits, effect_classes), value


def continued_returns(
    env,
    policy: Policy,
    points: ForkPoints,
    steps: int,
    draws: int,
    seed: int,
    gamma: float,
    reward_scale: float,
    bar=None,
) -> np.ndarray:
    """Bootstrapped returns [M, D] when the agent plays on from M fork points: discounted rewards of `steps`
    steps, then the agent's value. Runs of one point's level, repeat and step share their noise.

    Args:
        env: the real game; as many runs go on at a time as it has slots.
        policy: acts.
        points: M fork points.
        steps: after which the value counts.
        draws: D, noise draws per point.
        seed: of the noise.
        gamma: discount per step.
        reward_scale: rewards per unit of the agent's value.
        bar: a progress bar, updated by runs.
    """
    point, draw = (x.ravel() for x in np.indices((len(points), draws)))
    returns = np.zeros(len(point))
    for at in range(0, len(point), env.num):
        rows = slice(at, min(at + env.num, len(point)))
        batch = points.take(point[rows])
        for now in fork(env, policy, batch, steps + 1, batch.keys(seed, draw[rows])):
            gained = now.reward if now.t < steps else reward_scale * now.value.numpy()
            returns[at + now.slot] += gamma**now.t * gained
        if bar is not None:
            bar.update(rows.stop - at)
    return returns.reshape(len(points), draws)
