"""Whether a score responds to an object: paired scenes with and without it, the same memory before both.

A score responds to a kind of object if the object changes it more than any other kind of the same size at the
same distance does.
"""

from typing import NamedTuple

import numpy as np

from rollouts.scene_bank import WITH, WITHOUT

MAX_SIZE = 3
"""Objects are compared within a size in tiles: 1, 2, or 3 and more."""
MIN_SCENES = 10
"""Two kinds of objects are compared if they share at least this many scenes of the same size and distance."""
MEASURES = {"ahead": "{}_ahead", "tiles": "tiles_to_{}", "rise": "{}_rise"}
"""Concepts of an object by measure: presence (mean change), distance and height (slope of the change)."""


class ScenePairs(NamedTuple):
    """n pairs of scenes, with an object and without it; all fields are [n]."""

    kind: np.ndarray
    """Index of the object's kind."""
    distance: np.ndarray
    """Bin of the distance to the object."""
    size: np.ndarray
    """Bin of its size."""
    tiles: np.ndarray
    """Horizontal distance in tiles."""
    rise: np.ndarray
    """Vertical distance in tiles."""
    groups: np.ndarray
    """Number of the layout."""


class Response(NamedTuple):
    """Response of K scores to one kind of object, by bootstrap resample of layouts."""

    move: np.ndarray
    """[1 + R, K]: mean change of the score, or the slope of that change on distance or height."""
    lead: np.ndarray
    """[1 + R, K]: `move` less that of the closest other kind, over the same sizes and distances; NaN if none
    shares any.
    """
    rival: np.ndarray
    """[K]: index of that kind, -1 for none."""


def scene_pairs(columns: dict[str, np.ndarray], kinds: list[str]) -> ScenePairs:
    """The objects of a scene bank from its columns (of those scenes that show some of their object)."""
    left, right, bottom, top = columns["box"].T
    size = np.clip(np.round((right - left) * (top - bottom)).astype(int), 1, MAX_SIZE)
    kind = columns["kind"].astype(int)
    rows = np.arange(len(size))
    tiles, rise = (
        np.stack([columns[MEASURES[name].format(one)][:, WITH] for one in kinds])[kind, rows]
        for name in ("tiles", "rise")
    )
    layout = np.unique(columns["layout"], return_inverse=True)[1]
    return ScenePairs(kind, columns["distance"].astype(int), size, tiles, rise, layout)


def score_changes(scores: np.ndarray) -> np.ndarray:
    """Change [n, K] that the object makes to scores [n, 2, K]."""
    return scores[:, WITH] - scores[:, WITHOUT]


def response_to(
    kind: int, change: np.ndarray, scenes: ScenePairs, measure: str, resamples: np.ndarray
) -> Response:
    """The response of scores to one kind of object, compared with that to the other kinds.

    Args:
        kind: index of the object's kind.
        change: [n, K], see `score_changes`.
        scenes: of the n pairs.
        measure: a key of MEASURES.
        resamples: [1 + R, G], how often each layout counts.
    """
    cell = scenes.size if measure != "ahead" else scenes.distance * (MAX_SIZE + 1) + scenes.size
    value = None if measure == "ahead" else getattr(scenes, measure)
    num_cells = cell.max() + 1
    # an object at the edge of the frame has no known position
    known = np.ones(len(cell), bool) if value is None else np.isfinite(value)
    rows = {one: np.flatnonzero((scenes.kind == one) & known) for one in np.unique(scenes.kind)}
    count = {one: np.bincount(cell[its_rows], minlength=num_cells) for one, its_rows in rows.items()}
    weights = resamples[:, scenes.groups]
    by_cell = {
        one: _by_cell(change, value, cell, num_cells, its_rows, weights) for one, its_rows in rows.items()
    }
    overall = _pooled(*by_cell[kind])
    rivals = [one for one in rows if one != kind and np.minimum(count[kind], count[one]).sum() >= MIN_SCENES]
    if not rivals:
        return Response(overall, np.full_like(overall, np.nan), np.full(change.shape[1], -1))
    leads = np.stack([_lead(by_cell[kind], by_cell[one], np.sign(overall[0])) for one in rivals])
    return Response(overall, leads.min(0), np.array(rivals)[leads[:, 0].argmin(0)])


def _lead(
    own: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], sign: np.ndarray
) -> np.ndarray:
    """Own response less another kind's [1 + R, K], both pooled over cells with shared weights."""
    (statistic, weight), (others_statistic, others_weight) = own, other
    total = weight + others_weight
    shared = np.divide(weight * others_weight, total, out=np.zeros_like(weight), where=total > 0)
    return sign * _pooled(statistic, shared) - np.abs(_pooled(others_statistic, shared))


def _by_cell(
    change: np.ndarray,
    value: np.ndarray | None,
    cell: np.ndarray,
    num_cells: int,
    rows: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean change (or slope of the change on `value`) of some rows within each cell, and the cells' weights.

    Returns:
        [1 + R, cells, K], and [1 + R, cells, 1]: the number of scenes, or for slopes the spread of `value`.
    """
    member = np.eye(num_cells)[cell[rows]]  # [n, cells]
    w = weights[:, rows]

    def total(columns):  # [n, J] -> [1 + R, cells, J]
        products = (member[:, :, None] * columns[:, None]).reshape(len(rows), -1)
        return (w @ products).reshape(len(w), num_cells, -1)

    n = total(np.ones((len(rows), 1)))
    y = total(change[rows])
    if value is None:
        return np.divide(y, n, out=np.zeros_like(y), where=n > 0), n
    v = value[rows, None].astype(np.float64)
    x = total(v)
    xx = total(v**2)
    xy = total(v * change[rows])
    mean = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    spread = np.maximum(xx - mean * x, 0)
    known = spread > 1e-3 * np.maximum(n, 1)  # scenes at a single distance have no slope
    return np.divide(xy - mean * y, spread, out=np.zeros_like(y), where=known), np.where(known, spread, 0.0)


def _pooled(statistic: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over cells [1 + R, K]; NaN if all weights are zero."""
    total = weight.sum(1)
    undefined = np.full(statistic[:, 0].shape, np.nan)
    return np.divide((statistic * weight).sum(1), total, out=undefined, where=total > 0)
