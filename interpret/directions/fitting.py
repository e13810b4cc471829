"""What every fit shares: checked samples, standardisation, splits by level, and the way back to raw units.

Fits work on standardised features z = (x - mean) / std. `Sample.directions` folds the standardisation into
the result, so that directions read and write x itself.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.runs import UsageError
from common.words import counted
from interpret.directions.directions import Directions
from rollouts.growth import RECORD_MORE

HELD_OUT = 0.25
"""Share of the levels held out from a fit."""
WRITES = ("pseudo-inverse", "pattern")
_CHUNK = 65_536
_NEGLIGIBLE = 1e-6  # of a feature's mean: float32 knows no less
_RANK = 1e-8  # of the largest eigenvalue or singular value: below it, a dimension is not there


@dataclass(frozen=True)
class Sample:
    """n states with the level (or episode) of each, their mean and covariance."""

    x: np.ndarray
    """[n, D], as given."""
    groups: np.ndarray
    """[n] int: level numbers, from 0."""
    mean: np.ndarray
    """[D] float64."""
    covariance: np.ndarray
    """[D, D] float64."""

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> np.ndarray:
        """[D, D]: the covariance of standardised features."""
        return self.covariance / np.outer(self.std, self.std)

    @property
    def num_groups(self) -> int:
        return int(self.groups.max()) + 1

    def standardised(self) -> np.ndarray:
        """z [n, D], float32 if x is."""
        return (self.x - self.mean.astype(np.float32)) / self.std.astype(np.float32)

    def rows(self, index: np.ndarray) -> "Sample":
        """The states numbered `index` as a sample with its own mean and covariance."""
        return sample_of(self.x[index], self.groups[index])

    def subsampled(self, most: int, seed: int) -> "Sample":
        """At most `most` states, drawn at random without replacement."""
        if len(self.x) <= most:
            return self
        return self.rows(np.sort(np.random.default_rng(seed).choice(len(self.x), most, replace=False)))

    def directions(
        self, read, offset, write, origin, names, method: str, seed: int, top: int | None = None, **settings
    ) -> Directions:
        """Directions in x from directions in z.

        Args:
            read: [K, D], as offset [K], write [D, K] and origin [D] of standardised features.
            names: of the K directions.
            method: for the provenance, as seed and settings; `caveats` among the settings are logged as
                warnings.
            top: see `Directions.top`.
        """
        read, offset, write, origin = (np.asarray(part, np.float64) for part in (read, offset, write, origin))
        raw = read / self.std
        parts = (raw, offset - raw @ self.mean, self.std[:, None] * write, self.mean + self.std * origin)
        facts = {"method": method, "n": len(self.x), "groups": self.num_groups, "seed": seed, **settings}
        for caveat in settings.get("caveats", ()):
            logging.warning("%s: %s", method, caveat)
        return Directions(*(torch.from_numpy(part) for part in parts), tuple(names), facts, top)


def sample_of(x, groups) -> Sample:
    """States [n, D] with their levels [n]; mean and covariance summed in float64, nothing checked."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    shift = x[:_CHUNK].mean(0, dtype=np.float64)
    total = np.zeros(x.shape[1])
    square = np.zeros((x.shape[1], x.shape[1]))
    for at in range(0, len(x), _CHUNK):
        part = x[at : at + _CHUNK] - shift
        total += part.sum(0)
        square += part.T @ part
    mean = total / len(x)
    return Sample(x, codes, shift + mean, square / len(x) - np.outer(mean, mean))


def checked_sample(x, groups, count: int, at_once: int | None = None) -> Sample:
    """The states as a Sample from which `count` directions can be fit.

    Args:
        x: [n, D] array or tensor.
        groups: [n], level, layout or episode of each state.
        count: K.
        at_once: scores that are active at a time (a dictionary), which may have more units than features or
            levels.

    Raises:
        UsageError: for another shape, NaN or infinity, constant features, no more levels than directions (or
            than active scores), or too narrow a space.
    """
    x, groups = (
        x.detach().float().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x),
        np.asarray(groups),
    )
    if x.ndim != 2 or groups.shape != x.shape[:1] or not len(x):
        raise UsageError(
            "directions are fit on states [n, D] with a level for each [n], "
            f"not on {x.shape} with {groups.shape}: flatten time and batch first"
        )
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise UsageError(
            f"{len(bad)} of {counted(len(x), 'state')} hold NaN or infinity, the first in row {bad[0]}: "
            "leave these rows out"
        )
    if count < 1 or (count > x.shape[1] and at_once is None):
        raise UsageError(
            f"{counted(count, 'direction')} asked for in a space of {counted(x.shape[1], 'feature')}: "
            f"ask for 1 to {x.shape[1]}"
        )
    sample = sample_of(x, groups)
    fewest = at_once or count
    if sample.num_groups <= fewest:
        way_out = (
            f"ask for at most {sample.num_groups - 1}, or {RECORD_MORE}"
            if sample.num_groups > 1
            else RECORD_MORE
        )
        raise UsageError(
            f"{fewest} directions need more than {fewest} levels or episodes, "
            f"and there are {sample.num_groups}: {way_out}"
        )
    constant = np.flatnonzero(sample.std <= _NEGLIGIBLE * np.abs(sample.mean) + 1e-12)
    if len(constant):
        shown = ", ".join(map(str, constant[:8])) + (", ..." if len(constant) > 8 else "")
        raise UsageError(
            f"{len(constant)} of {counted(x.shape[1], 'feature')} never change ({shown}): "
            "fit on the others and widen the result with Directions.within"
        )
    return sample


def held_out_rows(groups: np.ndarray, seed: int) -> np.ndarray:
    """[n] bool: states of a random quarter of the levels. Raises UsageError for fewer than four levels."""
    levels = np.unique(groups)
    if len(levels) < 4:
        raise UsageError(
            f"a fit that is checked on other levels needs at least 4 of them, and there are {len(levels)}: "
            f"{RECORD_MORE}"
        )
    chosen = np.random.default_rng([seed, 1]).permutation(levels)[: max(1, round(HELD_OUT * len(levels)))]
    return np.isin(groups, chosen)


def leading_eigenvectors(correlation: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The leading eigenvectors [count, D] and eigenvalues [count] of a covariance, largest first."""
    values, vectors = np.linalg.eigh(correlation)
    return vectors.T[::-1][:count], np.maximum(values[::-1][:count], 0)


def check_rank(values: np.ndarray, what: str) -> None:
    """Raises UsageError if some eigenvalues or singular values (largest first) are zero up to rounding."""
    rank = int((values > _RANK * values[0]).sum())
    if rank < len(values):
        raise UsageError(
            f"{what} span only {rank} of {len(values)} dimensions: ask for at most {rank}, "
            "or leave out what depends on the rest"
        )


def orientation_signs(write: np.ndarray) -> np.ndarray:
    """Signs [K] that make the largest entry of each column of write [D, K] positive."""
    return np.where(np.take_along_axis(write, np.abs(write).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)


def write_columns(read: np.ndarray, covariance: np.ndarray, kind: str) -> np.ndarray:
    """Write columns [D, K] for read rows [K, D], such that read @ write = I.

    Args:
        read: [K, D].
        covariance: [D, D], of the features.
        kind: "pseudo-inverse", the smallest edits; or "pattern", Cov(x) R' Cov(s)^-1, edits along which x
            covaries with the scores, hence on the data manifold. For noisy scores of true sources, patterns
            are the columns that the sources wrote (Haufe et al. 2014, "On the interpretation of weight
            vectors of linear models in multivariate neuroimaging").

    Raises:
        UsageError: for an unknown kind, or linearly dependent rows.
    """
    if kind not in WRITES:
        raise UsageError(f"unknown kind of write columns {kind!r}; choose one of: {', '.join(WRITES)}")
    lengths = np.linalg.norm(read, axis=1, keepdims=True)
    if not lengths.all():
        raise UsageError(
            "a direction reads nothing: its weights are all zero, so nothing can be written along it; "
            "leave it out"
        )
    check_rank(np.linalg.svd(read / lengths, compute_uv=False), "the directions")
    if kind == "pseudo-inverse":
        return np.linalg.pinv(read)
    spread = covariance @ read.T
    return np.linalg.solve((read @ spread).T, spread.T).T


def columns_of(targets: Mapping[str, Sequence], n: int) -> dict[str, np.ndarray]:
    """Named concepts as arrays [n].

    Raises:
        UsageError: for none, another length, NaN, or a concept that never varies.
    """
    if not targets:
        raise UsageError("no concept was given: name at least one")
    columns = {name: np.asarray(values) for name, values in targets.items()}
    for name, values in columns.items():
        if values.shape != (n,):
            raise UsageError(
                f"concept {name!r} has shape {values.shape}, for {counted(n, 'state')}: "
                "give one value for each"
            )
        if not np.isfinite(values.astype(np.float64)).all():
            raise UsageError(f"concept {name!r} holds NaN or infinity: leave these states out")
        if (values == values[0]).all():
            raise UsageError(
                f"concept {name!r} is {values[0]} in all {n} states: take states in which it differs"
            )
    return columns
