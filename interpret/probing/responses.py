"""Whether a score responds to an object: put into a scene, with the same memory of what came before, it must
move the score, and more than any other object of that size and distance does.
"""

from typing import NamedTuple

import numpy as np

from rollouts.scene_bank import WITH, WITHOUT

SIZES = 3
"""Objects are alike in size when they cover as many tiles: 1, 2, or 3 and more."""
FEWEST = 10
"""Scenes of a kind, and of another in the same cells, without which the two are not compared."""
MEASURES = {"ahead": "{}_ahead", "tiles": "tiles_to_{}", "rise": "{}_rise"}
"""What a score can say of an object, by the concept's name: that it is there (the mean move), how far it is,
or how high (the move's slope).
"""


class Scenes(NamedTuple):
    """n pairs of scenes, with an object and without: its kind [n] (an index), and cells in which objects are
    alike: distance [n], size [n]; tiles and rise [n]: where it is. groups [n]: the layout of each.
    """

    kind: np.ndarray
    distance: np.ndarray
    size: np.ndarray
    tiles: np.ndarray
    rise: np.ndarray
    groups: np.ndarray


class Response(NamedTuple):
    """Of K scores to an object, by draw of layouts [1 + R, K]. move: mean (or slope) of the score's change.
    lead: by how much that exceeds the other kind's that comes nearest, in the same cells; NaN where no other
    kind has scenes there. rival [K]: which kind that is, -1 for none.
    """

    move: np.ndarray
    lead: np.ndarray
    rival: np.ndarray


def scenes_of(columns: dict[str, np.ndarray], kinds: list[str]) -> Scenes:
    """What the columns of a scene bank say of its objects. Only scenes that show some of their object count:
    see `shown`.
    """
    left, right, bottom, top = columns["box"].T
    size = np.clip(np.round((right - left) * (top - bottom)).astype(int), 1, SIZES)
    kind = columns["kind"].astype(int)
    place = np.arange(len(size))
    tiles, rise = (
        np.stack([columns[MEASURES[name].format(one)][:, WITH] for one in kinds])[kind, place]
        for name in ("tiles", "rise")
    )
    return Scenes(
        kind,
        columns["distance"].astype(int),
        size,
        tiles,
        rise,
        np.unique(columns["layout"], return_inverse=True)[1],
    )


def moves(scores: np.ndarray) -> np.ndarray:
    """The change [n, K] of scores [n, 2, K] that the object makes."""
    return scores[:, WITH] - scores[:, WITHOUT]


def respond(move: np.ndarray, scenes: Scenes, kind: int, measure: str, draws: np.ndarray) -> Response:
    """The response of scores to one kind of object. move [n, K]; measure: of MEASURES; draws [1 + R, G]: of
    the layouts.
    """
    cell = scenes.size if measure != "ahead" else scenes.distance * (SIZES + 1) + scenes.size
    value = None if measure == "ahead" else getattr(scenes, measure)
    count = cell.max() + 1
    known = (
        np.ones(len(cell), bool) if value is None else np.isfinite(value)
    )  # of an object at the edge of the picture no place is known
    rows = {one: np.flatnonzero((scenes.kind == one) & known) for one in np.unique(scenes.kind)}
    here = {one: np.bincount(cell[its], minlength=count) for one, its in rows.items()}
    statistic = {
        one: _by_cell(move, value, cell, count, its, draws[:, scenes.groups]) for one, its in rows.items()
    }
    own, weight = statistic[kind]
    overall = _pooled(own, weight)
    leads = []
    rivals = [one for one in rows if one != kind and np.minimum(here[kind], here[one]).sum() >= FEWEST]
    for one in rivals:
        other, its_weight = statistic[one]
        shared = np.divide(
            weight * its_weight, weight + its_weight, out=np.zeros_like(weight), where=weight + its_weight > 0
        )
        mine = _pooled(own, shared)
        theirs = _pooled(other, shared)
        leads.append(np.sign(overall[0]) * mine - np.abs(theirs))
    if not rivals:
        return Response(overall, np.full_like(overall, np.nan), np.full(move.shape[1], -1))
    leads = np.stack(leads)
    return Response(overall, leads.min(0), np.array(rivals)[leads[:, 0].argmin(0)])


def _by_cell(move, value, cell, count, rows, weights) -> tuple[np.ndarray, np.ndarray]:
    """Mean or slope of the moves of some rows within each cell, [1 + R, C, K], and how much each cell counts,
    [1 + R, C, 1]: the number of its scenes, or for slopes the spread of their values.
    """
    inside = np.eye(count)[cell[rows]]  # [n, C]
    w = weights[:, rows]

    def total(columns):  # [n, J] -> [1 + R, C, J]
        return (w @ (inside[:, :, None] * columns[:, None]).reshape(len(rows), -1)).reshape(len(w), count, -1)

    n = total(np.ones((len(rows), 1)))
    y = total(move[rows])
    if value is None:
        return np.divide(y, n, out=np.zeros_like(y), where=n > 0), n
    v = value[rows, None].astype(np.float64)
    x = total(v)
    xx = total(v**2)
    xy = total(v * move[rows])
    mean = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    spread = np.maximum(xx - mean * x, 0)
    known = spread > 1e-3 * np.maximum(n, 1)  # scenes that lie all in one place have no slope
    return np.divide(xy - mean * y, spread, out=np.zeros_like(y), where=known), np.where(known, spread, 0.0)


def _pooled(statistic: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Over the cells, [1 + R, K]; NaN where none counts."""
    total = weight.sum(1)
    return np.divide(
        (statistic * weight).sum(1), total, out=np.full(statistic[:, 0].shape, np.nan), where=total > 0
    )
