"""Ridge probes as directions that can be read and written, and whether they come back when levels are drawn
again.
"""

from collections.abc import Sequence

import numpy as np

from common.stats import level_counts
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked, write_columns
from interpret.directions.stability import FEWEST_DRAWS, Stability, matched_cosines, whitened
from interpret.probing import ridge


def probe_directions(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    penalty: np.ndarray,
    weights: np.ndarray | None = None,
) -> Directions:
    """One direction per concept y [n, K] (NaN: not known) of states x [n, D]: its score is what the probe
    reads, its write column the pattern, jointly for all, so that R E = I. penalty [K]: see `ridge.fit`.
    groups [n]: layouts; weights [G]: how often each of them counts (default: once).
    """
    sample = checked(x, groups, len(names))
    per_row = None if weights is None else weights[sample.groups]
    found = ridge.fit(x, y, penalty, per_row)
    if weights is not None:
        sample = sample.rows(np.repeat(np.arange(len(x)), per_row.astype(int)))
    read = found.weights * sample.std
    offset = found.offset + found.weights @ sample.mean
    write = write_columns(read, sample.correlation, "pattern")
    told = {"write_kind": "pattern", "penalties": dict(zip(names, penalty.tolist()))}
    return sample.directions(read, offset, write, -write @ offset, names, "ridge probes", 0, **told)


def probe_stability(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    penalty: np.ndarray,
    seed: int,
    advance=lambda: None,
) -> tuple[Stability, Stability]:
    """How well each direction of `probe_directions` is found again when layouts are drawn with repetition:
    what it reads, and what it writes.

    Read: |correlation| of its scores with those of the new fit, which is the whitened |cosine| of the
    patterns that the two probes have each by itself (Haufe et al. 2014). Written: of the columns of the joint
    pattern, each less what the other concepts share with it, which correlated concepts leave little of.
    advance: called after each draw.
    """
    reference = probe_directions(x, y, groups, names, penalty)
    sample = checked(x, groups, 1)
    metric = whitened(sample.covariance)
    read = []
    written = []
    for weights in level_counts(sample.num_groups, FEWEST_DRAWS, seed=[seed, 14])[1:]:
        again = probe_directions(x, y, groups, names, penalty, weights)
        read.append(_correlations(reference.read.numpy(), again.read.numpy(), sample.covariance))
        written.append(matched_cosines(reference.write.numpy(), again.write.numpy(), metric))
        advance()
    return tuple(Stability(tuple(names), np.stack(cosines)) for cosines in (read, written))


def _correlations(one: np.ndarray, other: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """|correlation| [K] of the scores that rows of `one` and `other` [K, D] give to features of this covariance [D, D]."""
    together, own, others = (
        np.einsum("kd,de,ke->k", a, covariance, b) for a, b in ((one, other), (one, one), (other, other))
    )
    return np.abs(together) / np.sqrt(own * others)
