"""Whether something downstream uses a direction: edits along it against equally long edits orthogonal to it.

One of three verdicts on a concept; the others are that it is decodable (probes) and that it responds to its
object (responses).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample

Outcome = Callable[[torch.Tensor], torch.Tensor]
"""States [n, D] -> [n, M], anything that depends on them: `lambda h: policy.heads(h)[0].log_softmax(-1)`, or
an outcome many steps later.
"""
MIN_NULLS = 99


@dataclass(frozen=True)
class CausalEffect:
    """Root mean squared changes of an outcome."""

    names: tuple[str, ...]
    effect: np.ndarray
    """[K]: of edits along each direction."""
    null: np.ndarray
    """[nulls, K]: of equally long edits along random directions drawn from the states' covariance, with the
    tested direction projected out.
    """

    @property
    def rank(self) -> np.ndarray:
        """Share [K] of null edits with a smaller effect."""
        return (self.null < self.effect).mean(0)

    @property
    def verdict(self) -> list[str]:
        """ "used" if more than 95% of null edits have a smaller effect, "unused" if fewer than 5% have; else
        "like any other direction".
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
    """The effect of edits along each direction on an outcome, with a null of orthogonal edits.

    Lengths and the projection are those of standardised features. The result is about immediate use (or use
    within the steps of `outcome`); claims about behaviour need an experiment with matched nulls.

    Args:
        outcome: what may depend on the state.
        directions: K directions.
        x: [n, D] states.
        groups: [n], their levels.
        strength: size of the edit of a score, in its standard deviations; up and down.
        nulls: random directions per direction.
        seed: of the nulls.

    Raises:
        UsageError: for fewer than MIN_NULLS nulls.
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
    """The draw [D] orthogonalised to the shift [D], at the length of the shift."""
    length = np.linalg.norm(shift)
    rest = draw - shift * (draw @ shift) / length**2
    return rest * (length / np.linalg.norm(rest))
