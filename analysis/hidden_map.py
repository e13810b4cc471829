"""A first map of the agent's hidden states: principal axes of real ones, with simulated ones placed into the same map."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from common.runs import UsageError
from common.words import counted
from rollouts.growth import RECORD_MORE


@dataclass(frozen=True)
class HiddenMap:
    """real [n, 2] and simulated [m, 2] coordinates; explained: the share of real variance on each of the two axes."""

    real: np.ndarray
    simulated: np.ndarray
    explained: np.ndarray


def hidden_map(real: np.ndarray, simulated: np.ndarray) -> HiddenMap:
    """Standardises by the real states, fits two principal axes to them, projects both. real [n, D], simulated [m, D].

    Raises UsageError for NaN, or for fewer real states than features.
    """
    if np.isnan(real).any() or np.isnan(simulated).any():
        raise UsageError("hidden states hold NaN; check the store with: python -m rollouts.inspect_store <store> --check")
    if len(real) <= real.shape[1]:
        raise UsageError(f"{counted(len(real), 'hidden state')} cannot span {real.shape[1]} dimensions: {RECORD_MORE}")
    scaler = StandardScaler().fit(real)
    pca = PCA(2, svd_solver="full").fit(scaler.transform(real))
    return HiddenMap(pca.transform(scaler.transform(real)), pca.transform(scaler.transform(simulated)), pca.explained_variance_ratio_)
