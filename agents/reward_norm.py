"""Scales rewards by the running standard deviation of the discounted return, as Procgen's PPO does."""

import numpy as np
import torch

EPSILON = 1e-8
CLIP = 10.0
INITIAL_COUNT = 1e-4


class RewardNormalizer:
    """One discounted return per environment, one variance over all environments and time.

    gamma must be the learner's own discount. `scale` is the divisor: a normalised value times `scale` is in
    reward units.
    """

    def __init__(self, num: int, gamma: float):
        self.gamma = gamma
        self.returns = np.zeros(num)
        self.mean = 0.0
        self.variance = 1.0
        self.count = INITIAL_COUNT

    @property
    def scale(self) -> float:
        return float(np.sqrt(self.variance + EPSILON))

    def __call__(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Updates with rewards [N] and whether each ended its episode [N]; returns scaled, clipped rewards
        [N] float32.
        """
        self.returns = self.returns * self.gamma + reward
        self._merge(self.returns)
        self.returns[ended] = 0.0
        return np.clip(reward / self.scale, -CLIP, CLIP).astype(np.float32)

    def _merge(self, batch: np.ndarray) -> None:
        """Merges the moments of two samples (Chan et al. 1979)."""
        total = self.count + len(batch)
        delta = batch.mean() - self.mean
        squares = (
            self.variance * self.count + batch.var() * len(batch) + delta**2 * self.count * len(batch) / total
        )
        self.mean, self.variance, self.count = self.mean + delta * len(batch) / total, squares / total, total

    def tensors(self) -> dict[str, torch.Tensor]:
        moments = torch.tensor([self.mean, self.variance, self.count], dtype=torch.float64)
        return {"returns": torch.from_numpy(self.returns), "moments": moments}

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.returns = tensors["returns"].numpy().copy()
        self.mean, self.variance, self.count = tensors["moments"].tolist()
