"""Cross-causation of scores: mean Jacobians of subsets of samples, their tests, parts and numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.steps import read_numbers, read_part
from analysis.lagged.store_correlations import ALL, cluster_subsets, part_name
from common.progress import progress_bar
from common.runs import Run
from interpret.attribution.mean_jacobians import MIN_GROUPS, MeanJacobian, extreme_samples, mean_jacobian
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.lagged import discoveries

NAME = "xcaus"
VERSION = 1
COMMAND = "python analysis/xcaus_precompute.py"
PATHS = ("total", "agent")
"""With all gradients, and with those of the agent's memory alone, none through actions and frames."""
_ARRAYS = ("mean", "low", "high", "p", "differs")


class Subsets(NamedTuple):
    """Subsets of samples {name: [n] bool} with enough groups, and the names of those without."""

    kept: dict[str, np.ndarray]
    left_out: list[str]


def with_enough_groups(subsets: Mapping[str, np.ndarray], groups: np.ndarray) -> Subsets:
    """Keeps subsets of MIN_GROUPS groups [n] or more, and always all samples."""
    kept = {
        name: member
        for name, member in subsets.items()
        if name == ALL or len(np.unique(groups[member])) >= MIN_GROUPS
    }
    return Subsets(kept, [name for name in subsets if name not in kept])


def cluster_samples(stored: StoredJacobians, clusters_dir: Path | None) -> Subsets:
    """All samples, and the members of each cluster."""
    samples = stored.samples
    subsets = cluster_subsets(samples["episode"], stored.numbers["store"], clusters_dir)
    return with_enough_groups(subsets, samples["group"])


def made_of_jacobians(clusters_dir: Path | None) -> bool:
    """Whether clusters are those of the map of Jacobians, which differ in Jacobians by construction."""
    return clusters_dir is not None and "jacobians" in read_numbers(clusters_dir)


def extreme_subsets(stored: StoredJacobians, steps: Sequence[int], quantile: float) -> Subsets:
    """Samples beyond the low and the high quantile of each score at each step: "<name> high at step <t>"."""
    samples = stored.samples
    first = np.cumsum(samples["length"]) - samples["length"]
    subsets = {}
    for step in steps:
        for end, member in extreme_samples(samples["scores"][first + step], quantile).items():
            subsets |= {f"{name} {end} at step {step}": member[:, k] for k, name in enumerate(stored.names)}
    return with_enough_groups(subsets, samples["group"])


def mean_jacobians(
    jacobians: Mapping[str, np.ndarray],
    groups: np.ndarray,
    subsets: Mapping[str, np.ndarray],
    resamples: int,
    seed: int,
    compare: bool = True,
) -> dict[str, dict[str, MeanJacobian]]:
    """{subset: {path: mean Jacobian}}.

    Args:
        jacobians: {path: [n, L, K, K]}.
        groups: [n].
        subsets: {name: [n] bool}.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        compare: whether subsets are compared with the other samples.
    """
    found = {}
    for name, member in progress_bar(subsets.items(), unit="subset", desc="mean Jacobians"):
        means = {path: mean_jacobian(x, groups, member, resamples, seed) for path, x in jacobians.items()}
        if not compare:
            means = {
                path: mean._replace(differs=np.full_like(mean.differs, np.nan))
                for path, mean in means.items()
            }
        found[name] = means
    return found


def write_means(
    run: Run, found: Mapping[str, Mapping[str, MeanJacobian]], fdr: float
) -> dict[str, dict[str, np.ndarray]]:
    """Writes a part for each subset, with marks at one false discovery rate over subsets, paths and entries.

    Returns:
        {subset: {"<array>/<path>": [L, K, K]}}; `significant`: the mean differs from 0; `distinct`: from that
        of the other samples.
    """
    arrays = {
        name: {
            f"{kind}/{path}": getattr(mean, kind).astype(np.float32)
            for path, mean in means.items()
            for kind in _ARRAYS
        }
        for name, means in found.items()
    }
    for mark, kind in (("significant", "p"), ("distinct", "differs")):
        keys = [(name, path) for name, means in found.items() for path in means]
        if not keys:
            continue
        marks = discoveries(np.stack([getattr(found[name][path], kind) for name, path in keys]), fdr)
        for (name, path), one in zip(keys, marks):
            arrays[name][f"{mark}/{path}"] = one
    for name, part in arrays.items():
        cached_part(run, part_name(name), lambda part=part: part)
    return arrays


def read_means(directory: Path, name: str) -> dict[str, np.ndarray]:
    """Arrays of a subset, as `write_means` returns them."""
    return read_part(directory, part_name(name))


def summarise(
    found: Mapping[str, Mapping[str, MeanJacobian]],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    names: Sequence[str],
) -> dict:
    """{subset: samples, groups, and for each path its tests, discoveries and largest effect}."""
    rows = {}
    for name, means in found.items():
        some = next(iter(means.values()))
        rows[name] = {"samples": some.samples, "groups": some.groups}
        for path, mean in means.items():
            marks = arrays[name][f"significant/{path}"]
            rows[name][path] = {
                "tests": int(np.isfinite(mean.p).sum()),
                "significant": int(marks.sum()),
                "distinct": int(arrays[name][f"distinct/{path}"].sum()),
            }
            if marks.any():
                rows[name][path]["largest"] = largest_effect(mean, marks, names)
    return rows


def largest_effect(mean: MeanJacobian, marks: np.ndarray, names: Sequence[str]) -> dict:
    """The largest significant effect of one score on another, or on itself, with its interval."""
    at = np.unravel_index(np.where(marks, np.abs(mean.mean), -1).argmax(), marks.shape)
    lag, i, j = map(int, at)
    ends = {key: float(getattr(mean, key)[at]) for key in ("mean", "low", "high")}
    return {"earlier": names[i], "later": names[j], "lag": lag, **ends}
