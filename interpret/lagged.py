"""Lagged correlations of scores within episodes, tested against two null models.

A row of scores is a step of an episode. A pair at lag k is a step and the step k later in the same episode.
Every correlation is Pearson's over the pairs of its lag, with the means and variances of those pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as students_t

from common.runs import UsageError
from common.words import counted
from rollouts.growth import RECORD_MORE

MIN_EPISODES = 20
"""Fewer episodes make the nulls too coarse for any test."""
_BLOCK = 16  # episodes of like length among which partners are drawn
_ROWS = 2048  # steps (and the rest of their episode), and draws, that are in memory at a time
_DRAWS_AT_ONCE = 25
_FLAT = (
    float(np.finfo(np.float32).eps) ** 2
)  # of a score's mean square: with a smaller variance it does not vary

Surrogate = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(lengths of episodes [E], generator) -> for every row [n] the row whose later score replaces its own, -1
for none.
"""


@dataclass(frozen=True)
class LaggedCorrelations:
    """Correlations of score i (row) with score j (column) some steps later, and those under each null."""

    correlation: np.ndarray
    """[L + 1, K, K], by lag; NaN if a score does not vary over the pairs."""
    pairs: np.ndarray
    """[L + 1] int: number of pairs."""
    episodes: int
    """Number of episodes with a pair."""
    mean: dict[str, np.ndarray]
    """{null: [L + 1, K, K]}, as `std`."""
    std: dict[str, np.ndarray]
    p: np.ndarray
    """[L + 1, K, K]: two-sided, the larger of the p-values against each null; 1 between two nulls; NaN if not
    tested (`hypothesis_mask`).
    """


def lagged_correlations(
    scores,
    length,
    lags: int,
    member=None,
    nulls: tuple[str, ...] = ("shift", "pairing"),
    draws: int = 199,
    seed: int = 0,
) -> LaggedCorrelations:
    """Correlations at lags 0 to `lags`, tested against surrogates.

    Null correlations over many episodes are nearly normal: p is from Student's t, which accounts for the
    number of draws. `shift` preserves what is constant within an episode, `pairing` what all episodes do at a
    given time; a correlation that differs from both is due to neither.

    Args:
        scores: [n, K], episode after episode.
        length: [E], lengths of the episodes.
        lags: L.
        member: [n] bool, the earlier steps of the pairs that count; all by default.
        nulls: names of NULLS.
        draws: surrogates per null.
        seed: of the surrogates.

    Raises:
        UsageError: for NaN, too few episodes, or fewer than 20 draws.
    """
    scores, length = np.asarray(scores, np.float64), np.asarray(length)
    member = np.ones(len(scores), bool) if member is None else np.asarray(member)
    _check(scores, length, member, draws)
    keep = (
        np.add.reduceat(member, np.cumsum(length) - length) > 0
    )  # episodes without a member have no pair, and give no partner
    rows = np.repeat(keep, length)
    pairs = _Pairs(scores[rows], length[keep], lags, member[rows])
    (correlation,), (count,) = pairs.correlate(np.arange(rows.sum())[None])
    mean = {}
    std = {}
    p = []
    side = []
    for null in nulls:
        rng = np.random.default_rng([seed, list(NULLS).index(null)])
        batches = [min(_DRAWS_AT_ONCE, draws - done) for done in range(0, draws, _DRAWS_AT_ONCE)]
        drawn = np.concatenate(
            [
                pairs.correlate(np.stack([NULLS[null](length[keep], rng) for _ in range(batch)]))[0]
                for batch in batches
            ]
        )
        mean[null], std[null] = drawn.mean(0), drawn.std(0, ddof=1)
        p.append(_two_sided(correlation, mean[null], std[null], draws))
        side.append(np.sign(correlation - mean[null]))
    p = np.where(np.ptp(side, axis=0) > 0, 1.0, np.max(p, axis=0))
    return LaggedCorrelations(
        correlation,
        count,
        int(keep.sum()),
        mean,
        std,
        np.where(hypothesis_mask(len(correlation), scores.shape[1]), p, np.nan),
    )


def hypothesis_mask(lags: int, count: int) -> np.ndarray:
    """Tested correlations [lags, K, K] bool: none of a score with itself, and at lag 0 each pair of scores
    once.
    """
    mask = np.repeat(~np.eye(count, dtype=bool)[None], lags, 0)
    mask[0] = np.triu(mask[0], 1)
    return mask


def discoveries(p: np.ndarray, rate: float) -> np.ndarray:
    """Which p-values (any shape) are discoveries at a false discovery rate (Benjamini & Hochberg 1995).

    NaN are not part of the family.
    """
    known = np.isfinite(p)
    significant = np.zeros(p.shape, bool)
    significant[known] = false_discovery_control(p[known]) <= rate if known.any() else False
    return significant


def shift_surrogate(length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Circularly shifts each episode's later scores by a random number of steps, never zero."""
    first, step = _places(length)
    by = 1 + rng.integers(np.maximum(length - 1, 1))
    return first + (step + np.repeat(by, length)) % np.repeat(length, length)


def pairing_surrogate(length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces each episode's later scores by those of another episode of similar length at the same step;
    none if that one has ended.
    """
    order = np.lexsort((rng.random(len(length)), length))
    partner = np.empty(len(length), np.int64)
    for block in np.array_split(order, max(len(order) // _BLOCK, 1)):
        block = rng.permutation(block)
        partner[block] = np.roll(block, 1)
    step = _places(length)[1]
    begin = (np.cumsum(length) - length)[partner]
    return np.where(step < np.repeat(length[partner], length), np.repeat(begin, length) + step, -1)


NULLS: dict[str, Surrogate] = {"shift": shift_surrogate, "pairing": pairing_surrogate}


class _Pairs:
    """Pairs of steps at every lag; correlates earlier scores with surrogates of the later ones."""

    def __init__(self, scores: np.ndarray, length: np.ndarray, lags: int, member: np.ndarray):
        z = scores - scores.mean(0)
        self.known = np.concatenate([z, np.ones((len(z), 1)), z**2], 1)  # [n, K + 1 + K]
        self.floor = _FLAT * np.square(scores).mean(0)
        self.left = (
            np.repeat(length, length) - _places(length)[1]
        )  # steps from this one to the end, itself included
        self.member = member
        self.lags = lags
        self.count = scores.shape[1]
        ends = np.cumsum(length)
        cuts = ends[np.searchsorted(ends, np.arange(_ROWS, ends[-1] + _ROWS, _ROWS).clip(max=ends[-1]))]
        self.blocks = [slice(begin, end) for begin, end in zip([0, *cuts], cuts) if end > begin]

    def correlate(self, surrogate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Correlations [D, L + 1, K, K] and numbers of pairs [D, L + 1].

        surrogate [D, n]: in each of D draws the row that replaces every row, -1 for none.
        """
        K = self.count
        draws = len(surrogate)
        xy = np.zeros((self.lags + 1, K + 1, draws * K))
        yy = np.zeros((self.lags + 1, draws * K))
        x_present = np.zeros((self.lags + 1, 2 * K + 1, draws))
        for rows in self.blocks:
            chosen = surrogate[:, rows].T
            present = (chosen >= 0).astype(np.float64)  # [m, D]
            later = (self.known[chosen, :K] * present[..., None]).reshape(len(chosen), -1)
            squared = later**2
            for lag in range(self.lags + 1):
                early = (self.member[rows] & (self.left[rows] > lag))[: max(len(chosen) - lag, 0)]
                x = self.known[rows][: len(early)] * early[:, None]
                xy[lag] += x[:, : K + 1].T @ later[lag:]
                yy[lag] += x[:, K] @ squared[lag:]
                x_present[lag] += x.T @ present[lag:]
        return self._from_sums(xy.reshape(-1, K + 1, draws, K), yy.reshape(-1, draws, K), x_present)

    def _from_sums(
        self, xy: np.ndarray, yy: np.ndarray, x_present: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        K = self.count
        pairs = x_present[:, K].T  # [D, L + 1]
        n = pairs[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_x = np.moveaxis(x_present[:, :K], 2, 0) / n
            mean_y = np.moveaxis(xy[:, K], 1, 0) / n
            var_x = np.moveaxis(x_present[:, K + 1 :], 2, 0) / n - mean_x**2
            var_y = np.moveaxis(yy, 1, 0) / n - mean_y**2
            scale_x, scale_y = (np.sqrt(np.where(var > self.floor, var, np.nan)) for var in (var_x, var_y))
            covariance = (
                np.moveaxis(xy[:, :K], 2, 0) / n[..., None] - mean_x[..., None] * mean_y[..., None, :]
            )
            return covariance / scale_x[..., None] / scale_y[..., None, :], pairs.astype(np.int64)


def _two_sided(correlation: np.ndarray, mean: np.ndarray, std: np.ndarray, draws: int) -> np.ndarray:
    """p-value of a further draw being as far from the mean as `correlation`; NaN for a constant null."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * students_t.sf(
            np.abs(correlation - mean) / np.where(std > 0, std, np.nan) / np.sqrt(1 + 1 / draws), draws - 1
        )


def _places(length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row [n]: its episode's first row, and its step within the episode."""
    first = np.repeat(np.cumsum(length) - length, length)
    return first, np.arange(len(first)) - first


def check_episodes(episodes: int) -> None:
    """Raises UsageError for fewer episodes than a null needs."""
    if episodes < MIN_EPISODES:
        way_out = f"which need {MIN_EPISODES}: ask for fewer clusters, or {RECORD_MORE}"
        raise UsageError(f"too few for lagged correlations: {counted(episodes, 'episode')}, {way_out}")


def _check(scores: np.ndarray, length: np.ndarray, member: np.ndarray, draws: int) -> None:
    if scores.ndim != 2 or length.sum() != len(scores) or member.shape != scores.shape[:1]:
        raise ValueError(
            f"scores {scores.shape} and members {member.shape} do not fit episodes of {length.sum()} steps "
            "in all"
        )
    if not np.isfinite(scores).all():
        raise UsageError(
            "scores hold NaN or infinity; check the store with: python -m rollouts.inspect_store PATH --check"
        )
    episodes = int((np.add.reduceat(member, np.cumsum(length) - length) > 0).sum())
    check_episodes(episodes)
    if draws < 20:
        raise UsageError(f"{counted(draws, 'draw')} cannot tell how a null varies: take at least 20")
