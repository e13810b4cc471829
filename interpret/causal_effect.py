"""Whether something downstream uses a direction: edits along it against edits of the same size that leave it
alone.

One of three marks that a concept gets; the others are that it can be decoded (`probes`) and that it responds
to what it is named after.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample

Outcome = Callable[[torch.Tensor], torch.Tensor]
"""States [n, D] -> whatever may depend on them, [n, M]: `lambda h: policy.heads(h)[0].log_softmax(-1)`, or
many steps later.
"""
MIN_NULLS = 99


@dataclass(frozen=True)
class CausalEffect:
    """Root mean square changes of an outcome."""

    names: tuple[str, ...]
    effect: np.ndarray
    """[K]: of an edit along each direction."""
    null: np.ndarray
    """[nulls, K]: of edits as long as it along random directions drawn from the states' covariance, the
    tested one projected out.
    """

    @property
    def rank(self) -> np.ndarray:
        """[K] in [0, 1]: the share of null edits that do less."""
        return (self.null < self.effect).mean(0)

    @property
    def verdict(self) -> list[str]:
        """ "used": more than 95% of null edits do less; "unused": fewer than 5% do; else "like any other
        direction".
        """
        return [
            "used" if rank > 0.95 else "unused" if rank < 0.05 else "like any other direction"
            for rank in self.rank
        ]


def causal_effect(
    outcome: Outcome,
    directions: Directions,
    x,
    groups,
    strength: float = 1.0,
    nulls: int = MIN_NULLS,
    seed: int = 0,
) -> CausalEffect:
    """Edits each score by `strength` of its standard deviations, up and down, at states x [n, D] with levels
    groups [n].

    Lengths and the projection are those of standardised features. It says what is used at once (or within the
    steps of `outcome`), against equal length only: claims on behaviour need the matched nulls of an
    experiment. Raises UsageError for fewer than 99 nulls.
    """
    if nulls < MIN_NULLS:
        raise UsageError(
            f"{nulls} null directions cannot say what is beyond 95% of them: take at least {MIN_NULLS}"
        )
    sample = checked_sample(x, groups, 1)
    states = torch.from_numpy(np.ascontiguousarray(sample.x)).float()
    spread = directions.scores(states).std(0).double().numpy()
    std = sample.std
    shifts = strength * spread * directions.write.numpy() / std[:, None]  # [D, K], of standardised features
    drawn = np.random.default_rng([seed, 5]).multivariate_normal(
        np.zeros(len(std)), sample.correlation, size=nulls, method="eigh"
    )
    base = outcome(states)

    def effect(shift):
        step = torch.from_numpy(shift * std).float()
        return np.sqrt(
            np.mean(
                [(outcome(states + sign * step) - base).square().sum(-1).mean().item() for sign in (-1, 1)]
            )
        )

    with torch.no_grad():
        tested = np.array([effect(shift) for shift in shifts.T])
        null = np.array([[effect(_orthogonal_null(draw, shift)) for shift in shifts.T] for draw in drawn])
    return CausalEffect(directions.names, tested, null)


def _orthogonal_null(draw: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The draw [D] without its part along the shift [D], as long as the shift."""
    length = np.linalg.norm(shift)
    rest = draw - shift * (draw @ shift) / length**2
    return rest * (length / np.linalg.norm(rest))
