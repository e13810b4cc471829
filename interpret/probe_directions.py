"""Ridge probes as directions that can be read and written, and whether they come back when levels are drawn again."""

from collections.abc import Sequence

import numpy as np

from interpret import ridge
from interpret.directions import Directions
from interpret.fitting import checked, write_columns
from interpret.stability import FEWEST_DRAWS, Stability, matched_cosines, whitened


def probe_directions(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, names: Sequence[str], penalty: np.ndarray, weights: np.ndarray | None = None
) -> Directions:
    """One direction per concept y [n, K] (NaN: not known) of states x [n, D]: its score is what the probe reads, its write column the
    pattern, jointly for all, so that R E = I. penalty [K]: see `ridge.fit`. groups [n]: layouts; weights [G]: how often each of them counts
    (default: once)."""
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
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, names: Sequence[str], penalty: np.ndarray, seed: int, advance=lambda: None
) -> Stability:
    """How well each direction of `probe_directions` is found again when layouts are drawn with repetition. advance: called after each
    draw."""
    reference, sample, rng = probe_directions(x, y, groups, names, penalty), checked(x, groups, 1), np.random.default_rng([seed, 14])
    metric, cosines = whitened(sample.covariance), []
    for _ in range(FEWEST_DRAWS):
        weights = rng.multinomial(sample.num_groups, np.full(sample.num_groups, 1 / sample.num_groups))
        again = probe_directions(x, y, groups, names, penalty, weights)
        cosines.append(matched_cosines(reference.write.numpy(), again.write.numpy(), metric))
        advance()
    return Stability(tuple(names), np.stack(cosines))
