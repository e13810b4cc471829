"""Baselines of latent optimisation: for each start, the best of many latents that were drawn and simulated
once, at the price of the optimisation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from interpret.targets.latent_prior import Prior
from interpret.targets.target_rollouts import TargetRollouts

Draw = Callable[[np.ndarray], torch.Tensor]
"""Candidate numbers [B] -> latents [B, Z]."""


class Candidates(NamedTuple):
    """M latents with their mean score, penalty and value under the noise of the selection: [M] each."""

    score: torch.Tensor
    penalty: torch.Tensor
    value: torch.Tensor

    def objective(self, scale: float, prior_weight: float) -> torch.Tensor:
        """What candidates are chosen by: the objective of the optimisation [M]."""
        return self.score / scale - prior_weight * self.penalty


def score_candidates(
    rollouts: TargetRollouts,
    prior: Prior,
    draw: Draw,
    numbers: np.ndarray,
    draws: int,
    advance: Callable[[int], object] = lambda done: None,
) -> Candidates:
    """Simulates candidates by number [M].

    Args:
        rollouts: of the target.
        prior: over latents.
        draw: makes latents; called for as many at a time as are simulated together.
        numbers: of the candidates.
        draws: rollouts per candidate.
        advance: called with the number of candidates that were just finished.
    """
    size = at_once(rollouts, draws)
    parts = []
    for begin in range(0, len(numbers), size):
        some = numbers[begin : begin + size]
        z = draw(some)
        values = rollouts.scored(z, some, draws, "select").value
        score = rollouts.target.score(values).mean(1)
        parts.append((score, prior.penalty(prior.whiten(z)), values.mean(1)))
        advance(len(some))
    return Candidates(*(torch.cat(part) for part in zip(*parts)))


def at_once(rollouts: TargetRollouts, draws: int) -> int:
    """Candidates that are simulated together."""
    return max(rollouts.batch_size // draws, 1)


def best_of_each(objective: torch.Tensor, starts: int) -> np.ndarray:
    """Numbers [N] of the best candidate of each start; candidate i belongs to start i mod N."""
    numbers = torch.arange(len(objective), device=objective.device)
    own = [numbers[start::starts] for start in range(starts)]
    return np.array([int(mine[objective[mine].argmax()]) for mine in own])
