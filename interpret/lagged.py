"""Lagged correlations of scores within episodes, and the two nulls that they are held against.

A row of scores is a step of an episode. A pair at lag k is a step and the one k steps later in the same episode: pairs never reach over
an end. Every correlation is Pearson's over the pairs of its own lag, whose means and variances are those of these pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, t as students_t

from common.runs import UsageError
from common.words import counted
from rollouts.growth import RECORD_MORE

FEWEST_EPISODES = 20
"""So many must have a step in a set: a null of fewer is too coarse to tell anything."""
_BLOCK = 16  # episodes of like length among which partners are drawn
_ROWS, _TOGETHER = 2048, 25  # steps (and the rest of their episode), and draws, that are in memory at a time
_FLAT = float(np.finfo(np.float32).eps) ** 2  # of a score's mean square: with a smaller variance it does not vary

Surrogate = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Lengths of episodes [E] -> for every row [n] the row whose later score stands in for its own, -1 for none."""


@dataclass(frozen=True)
class Lagged:
    """Correlations of score i (row) at a step with score j (column) some steps later, and what they are under each null."""

    correlation: np.ndarray
    """[L + 1, K, K], by lag; NaN where a score does not vary over the pairs."""
    pairs: np.ndarray
    """[L + 1] int: how many pairs each lag has."""
    episodes: int
    """How many episodes have a pair."""
    mean: dict[str, np.ndarray]
    """{null: [L + 1, K, K]}."""
    std: dict[str, np.ndarray]
    p: np.ndarray
    """[L + 1, K, K]: two-sided, the larger of those against each null, 1 between two nulls; NaN where nothing is tested (see `family`)."""


def lagged(scores, length, lags: int, member=None, nulls: tuple[str, ...] = ("shift", "pairing"), draws: int = 199, seed: int = 0) -> Lagged:
    """Correlations of scores [n, K] of episodes with lengths [E], at lags 0 to `lags`, against `draws` draws from each null.

    member [n] bool: a pair counts where its earlier step is one of these; all do by default. Null correlations of so many episodes are
    close to normal: p is that of Student's t, which allows for the number of draws. A correlation that differs from both nulls is neither a
    matter of what an episode is like as a whole (`shift` keeps that) nor of what all episodes do at that time (`pairing` keeps that).
    Raises UsageError for NaN, too few episodes, and fewer than 20 draws.
    """
    scores, length = np.asarray(scores, np.float64), np.asarray(length)
    member = np.ones(len(scores), bool) if member is None else np.asarray(member)
    _check(scores, length, member, draws)
    keep = np.add.reduceat(member, np.cumsum(length) - length) > 0  # episodes without a member have no pair, and give no partner
    rows = np.repeat(keep, length)
    pairs = _Pairs(scores[rows], length[keep], lags, member[rows])
    (found,), (count,) = pairs.correlate(np.arange(rows.sum())[None])
    mean, std, p, side = {}, {}, [], []
    for null in nulls:
        rng = np.random.default_rng([seed, list(NULLS).index(null)])
        batches = [min(_TOGETHER, draws - done) for done in range(0, draws, _TOGETHER)]
        drawn = np.concatenate([pairs.correlate(np.stack([NULLS[null](length[keep], rng) for _ in range(batch)]))[0] for batch in batches])
        mean[null], std[null] = drawn.mean(0), drawn.std(0, ddof=1)
        p.append(_two_sided(found, mean[null], std[null], draws))
        side.append(np.sign(found - mean[null]))
    p = np.where(np.ptp(side, axis=0) > 0, 1.0, np.max(p, axis=0))
    return Lagged(found, count, int(keep.sum()), mean, std, np.where(family(len(found), scores.shape[1]), p, np.nan))


def family(lags: int, count: int) -> np.ndarray:
    """[lags, K, K] bool: the correlations that are tested. Not those of a score with itself; at lag 0 each pair of scores once."""
    mask = np.repeat(~np.eye(count, dtype=bool)[None], lags, 0)
    mask[0] = np.triu(mask[0], 1)
    return mask


def discoveries(p: np.ndarray, rate: float) -> np.ndarray:
    """Which p of one family, any shape, stand at a false discovery rate (Benjamini & Hochberg 1995); NaN are not in the family."""
    known = np.isfinite(p)
    stand = np.zeros(p.shape, bool)
    stand[known] = false_discovery_control(p[known]) <= rate if known.any() else False
    return stand


def shift(length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each episode's later scores are turned round within it, by a number of steps of its own, never by none."""
    first, step = _places(length)
    by = 1 + rng.integers(np.maximum(length - 1, 1))
    return first + (step + np.repeat(by, length)) % np.repeat(length, length)


def pairing(length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each episode's later scores are those of another one of about its length, at the same step; none where that one is over."""
    order = np.lexsort((rng.random(len(length)), length))
    partner = np.empty(len(length), np.int64)
    for block in np.array_split(order, max(len(order) // _BLOCK, 1)):
        block = rng.permutation(block)
        partner[block] = np.roll(block, 1)
    step, begin = _places(length)[1], (np.cumsum(length) - length)[partner]
    return np.where(step < np.repeat(length[partner], length), np.repeat(begin, length) + step, -1)


NULLS: dict[str, Surrogate] = {"shift": shift, "pairing": pairing}


class _Pairs:
    """Pairs of steps at every lag, for correlating earlier scores with whatever stands in for the later ones."""

    def __init__(self, scores: np.ndarray, length: np.ndarray, lags: int, member: np.ndarray):
        z = scores - scores.mean(0)
        self.known = np.concatenate([z, np.ones((len(z), 1)), z**2], 1)  # [n, K + 1 + K]
        self.floor = _FLAT * np.square(scores).mean(0)
        self.left = np.repeat(length, length) - _places(length)[1]  # steps from this one to the end, itself included
        self.member, self.lags, self.count = member, lags, scores.shape[1]
        ends = np.cumsum(length)
        cuts = ends[np.searchsorted(ends, np.arange(_ROWS, ends[-1] + _ROWS, _ROWS).clip(max=ends[-1]))]
        self.blocks = [slice(begin, end) for begin, end in zip([0, *cuts], cuts) if end > begin]

    def correlate(self, stand_in: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Correlations [D, L + 1, K, K] and numbers of pairs [D, L + 1]. stand_in [D, n]: in each of D draws a row for every row, -1 for none."""
        K, draws = self.count, len(stand_in)
        xy, yy = np.zeros((self.lags + 1, K + 1, draws * K)), np.zeros((self.lags + 1, draws * K))
        x_there = np.zeros((self.lags + 1, 2 * K + 1, draws))
        for rows in self.blocks:
            chosen = stand_in[:, rows].T
            there = (chosen >= 0).astype(np.float64)  # [m, D]
            later = (self.known[chosen, :K] * there[..., None]).reshape(len(chosen), -1)
            squared = later**2
            for lag in range(self.lags + 1):
                early = (self.member[rows] & (self.left[rows] > lag))[: max(len(chosen) - lag, 0)]
                x = self.known[rows][: len(early)] * early[:, None]
                xy[lag] += x[:, : K + 1].T @ later[lag:]
                yy[lag] += x[:, K] @ squared[lag:]
                x_there[lag] += x.T @ there[lag:]
        return self._from_sums(xy.reshape(-1, K + 1, draws, K), yy.reshape(-1, draws, K), x_there)

    def _from_sums(self, xy: np.ndarray, yy: np.ndarray, x_there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        K = self.count
        pairs = x_there[:, K].T  # [D, L + 1]
        n = pairs[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_x, mean_y = np.moveaxis(x_there[:, :K], 2, 0) / n, np.moveaxis(xy[:, K], 1, 0) / n
            var_x, var_y = np.moveaxis(x_there[:, K + 1 :], 2, 0) / n - mean_x**2, np.moveaxis(yy, 1, 0) / n - mean_y**2
            scale_x, scale_y = (np.sqrt(np.where(var > self.floor, var, np.nan)) for var in (var_x, var_y))
            covariance = np.moveaxis(xy[:, :K], 2, 0) / n[..., None] - mean_x[..., None] * mean_y[..., None, :]
            return covariance / scale_x[..., None] / scale_y[..., None, :], pairs.astype(np.int64)


def _two_sided(found: np.ndarray, mean: np.ndarray, std: np.ndarray, draws: int) -> np.ndarray:
    """p of a further draw being as far from the mean as `found`; NaN where the null does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * students_t.sf(np.abs(found - mean) / np.where(std > 0, std, np.nan) / np.sqrt(1 + 1 / draws), draws - 1)


def _places(length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row [n]: its episode's first row, and its step within the episode."""
    first = np.repeat(np.cumsum(length) - length, length)
    return first, np.arange(len(first)) - first


def check_episodes(episodes: int) -> None:
    """Raises UsageError for fewer episodes than a null takes."""
    if episodes < FEWEST_EPISODES:
        way_out = f"which need {FEWEST_EPISODES}: ask for fewer clusters, or {RECORD_MORE}"
        raise UsageError(f"too few for lagged correlations: {counted(episodes, 'episode')}, {way_out}")


def _check(scores: np.ndarray, length: np.ndarray, member: np.ndarray, draws: int) -> None:
    if scores.ndim != 2 or length.sum() != len(scores) or member.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} and members {member.shape} do not fit episodes of {length.sum()} steps in all")
    if not np.isfinite(scores).all():
        raise UsageError("scores hold NaN or infinity; check the store with: python -m rollouts.inspect_store PATH --check")
    episodes = int((np.add.reduceat(member, np.cumsum(length) - length) > 0).sum())
    check_episodes(episodes)
    if draws < 20:
        raise UsageError(f"{counted(draws, 'draw')} cannot tell how a null varies: take at least 20")
