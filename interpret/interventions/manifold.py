"""Is an edited agent still on the manifold of its own states? Distances of an arm's states from real ones and
from those of the control arm.
"""

import numpy as np

PERCENTILE = 99
MOST_BEYOND = 0.05
"""An arm with a larger share of states beyond the 99th percentile of real ones is descriptive only."""
_RECONVERGED = 0.1
_NEIGHBOURS = 2000


class RealStates:
    """Real states [n, D] as a reference: half of them measure, the others set the percentiles.

    Distances are in whitened coordinates (principal axes with more than 0.1% of the largest variance).
    """

    def __init__(self, states: np.ndarray, seed: int = 0):
        order = np.random.default_rng(seed).permutation(len(states))
        first, second = np.array_split(states[order].astype(np.float64), 2)
        self.mean = first.mean(0)
        variance, axes = np.linalg.eigh(np.cov(first.T))
        kept = variance > 1e-3 * variance.max()
        self.whitening = axes[:, kept] / np.sqrt(variance[kept])
        self.points = self._white(first)[:_NEIGHBOURS]
        self.limits = {name: np.percentile(x, PERCENTILE) for name, x in self.distances(second).items()}

    def distances(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """Mahalanobis distance and distance to the nearest real state, [n] each, of states [n, D]."""
        white = self._white(states)
        parts = np.array_split(white, 1 + len(white) // 512)
        nearest = np.concatenate([_nearest(part, self.points) for part in parts])
        return {"mahalanobis": np.linalg.norm(white, axis=1), "nearest": nearest}

    def _white(self, states: np.ndarray) -> np.ndarray:
        return (states - self.mean) @ self.whitening

    def drift(self, arm: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Distance [...] of states [..., D] from those of the control arm; about 1 for unrelated ones."""
        change = (arm - control) @ self.whitening
        return np.sqrt((change**2).mean(-1) / 2)


def _nearest(white: np.ndarray, points: np.ndarray) -> np.ndarray:
    square = (white**2).sum(1)[:, None] - 2 * white @ points.T + (points**2).sum(1)
    return np.sqrt(np.maximum(square.min(1), 0))


def manifold_checks(real: RealStates, arm: np.ndarray, control: np.ndarray, running: np.ndarray) -> dict:
    """Checks of one arm, as JSON.

    Args:
        real: the reference.
        arm: states [T, N, D] after the observations.
        control: the same of the control arm.
        running: [T, N] bool, where both still run.

    Returns:
        Means by step [T], None where nothing runs: `out_of_range`, the share of units beyond +-1, which a
        GRU started at zero never leaves; `mahalanobis` and `nearest`, the share of states beyond the 99th
        percentile of real ones; `drift`. Then `share_beyond`, over all steps; `reconverged`, the steps until
        the drift stays below 0.1, or None; and `descriptive_only`, whether more than 5% of states are beyond.
    """
    there = arm[running]
    distances = real.distances(there)
    columns = {"out_of_range": (np.abs(there) > 1).mean(1), "drift": real.drift(there, control[running])}
    columns |= {name: x > real.limits[name] for name, x in distances.items()}
    step = np.nonzero(running)[0]
    count = np.bincount(step, minlength=len(arm))
    by_step = {name: np.bincount(step, x, len(arm)) / np.maximum(count, 1) for name, x in columns.items()}
    away = np.flatnonzero(by_step["drift"] >= _RECONVERGED)
    back = int(away[-1]) + 1 if len(away) else 0
    shares = {name: float(columns[name].mean()) for name in distances}
    checks = {name: [float(v) if n else None for v, n in zip(x, count)] for name, x in by_step.items()}
    return checks | {
        "share_beyond": shares,
        "reconverged": back if back < len(arm) else None,
        "descriptive_only": max(shares.values()) > MOST_BEYOND,
    }
