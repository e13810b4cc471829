"""Latent optimisation: Adam on whitened latents, so that rollouts meet a target in expectation over noise.

Feature visualisation (Olah et al. 2017) of a whole rollout. The objective of N latents is the mean score of
their rollouts in standard deviations of the function, minus `prior_weight` times the prior's penalty, plus
`diversity` times the mean distance of their first frames in units of that at the start. The latent that is
kept of each start is the best by rollouts under noise of their own, not the last, and not the one that the
noise of the training flattered.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from common.checkpoints import load_optimizer, optimizer_tensors, with_prefix, without_prefix
from generative.simulator import Simulator
from interpret.targets.frame_diversity import distance_gradients, first_frames, mean_distance
from interpret.targets.latent_prior import Prior
from interpret.targets.target_rollouts import TargetRollouts, gradient_of, noise_keys

BETAS = (0.9, 0.99)
"""Of Adam. The gradients have heavy tails; a decay of 0.999 would remember an outlier to the end."""
CURVES = ("value", "score", "percentile", "diversity")


@dataclass(frozen=True)
class OptimisationConfig:
    """How latents are optimised. The defaults are those of target_function_exps.py."""

    num_iterations: int = 150
    lr: float = 0.1
    """Learning rate at the start, in standard deviations of the latent; it falls to 0 along half a cosine."""
    num_rollouts: int = 8
    """Rollouts per latent and iteration."""
    prior_weight: float = 0.1
    """Of the penalty, in standard deviations of the function."""
    diversity: float = 0.0
    """Weight of the distance of first frames."""
    grad_clip_norm: float = 5.0
    """Largest norm of a rollout's gradient, in standard deviations of the function per unit of u."""
    latent_noise: float = 0.3
    """Standard deviation of the noise that each rollout of the training adds to u: gradients are those of the
    objective smoothed by it.
    """
    common_noise: bool = False
    """The same noise in every iteration."""
    eval_every: int = 25
    """Iterations between evaluations."""
    eval_rollouts: int = 16
    """Rollouts per latent of an evaluation."""

    def learning_rate(self, iteration: int) -> float:
        return self.lr * (1 + math.cos(math.pi * iteration / self.num_iterations)) / 2

    def is_evaluated(self, iteration: int) -> bool:
        """Whether latents are evaluated after this many iterations: at regular intervals, and at the end."""
        return iteration % self.eval_every == 0 or iteration == self.num_iterations


class LatentOptimiser:
    """Optimises N latents for one target; its state can be stored between iterations.

    Args:
        rollouts: of the target.
        prior: over latents.
        start: latents [N, Z].
        config: how.
        scale: standard deviation of the function over plausible latents.
    """

    def __init__(
        self,
        rollouts: TargetRollouts,
        prior: Prior,
        start: torch.Tensor,
        config: OptimisationConfig,
        scale: float,
    ):
        self.rollouts = rollouts
        self.prior = prior
        self.config = config
        self.scale = scale
        self.u = prior.project(prior.whiten(start)).detach().clone().requires_grad_()
        self.adam = torch.optim.Adam([self.u], config.lr, BETAS)
        self.iteration = 0
        self.best = self.u.detach().clone()
        self.best_objective = torch.full((len(start),), -torch.inf, device=start.device)
        self.curves: dict[str, list[torch.Tensor]] = {name: [] for name in CURVES}

    @property
    def latents(self) -> torch.Tensor:
        """The best latents [N, Z] so far."""
        return self.prior.latent(self.best)

    @property
    def start_distance(self) -> float:
        """Mean pairwise distance of first frames at the start; 1 where no two differ."""
        distance = float(self.curves["diversity"][0][0])
        return distance if distance > 1e-3 else 1.0

    @property
    def done(self) -> bool:
        return self.iteration == self.config.num_iterations

    def step(self) -> None:
        """One iteration, with an evaluation where one is due: before the first, and as the config says."""
        if not self.curves["score"]:
            self._evaluate()
        self.u.grad = -self._ascent()
        if not self.u.grad.isfinite().all():
            raise FloatingPointError(
                f"a gradient of {self.rollouts.target.name} is not finite at iteration {self.iteration}; "
                "lower --lr"
            )
        self.adam.param_groups[0]["lr"] = self.config.learning_rate(self.iteration)
        self.adam.step()
        with torch.no_grad():
            self.u.copy_(self.prior.project(self.u))
        self.iteration += 1
        if self.config.is_evaluated(self.iteration):
            self._evaluate()

    def _ascent(self) -> torch.Tensor:
        """Gradient [N, Z] of the objective with respect to u."""
        c = self.config
        u = self.u.detach().requires_grad_()
        with torch.enable_grad():
            penalty = self.prior.penalty(u)
        whole = -c.prior_weight * gradient_of(penalty, u)
        if c.diversity:
            spread = distance_gradients(self._simulator, self.prior.latent(self.u.detach()), self._batch_size)
            # the weight is per latent, and the sum over latents is climbed
            whole += c.diversity * len(u) / self.start_distance * self._to_u(spread, self.u.detach())
        first = 0 if c.common_noise else self.iteration * c.num_rollouts
        draws = first + np.arange(c.num_rollouts)

        def latents(which: np.ndarray, draw: np.ndarray) -> torch.Tensor:
            return self.prior.latent(self._smoothed(which, draw))

        for which, draw, gradient in self.rollouts.gradients(latents, len(u), draws):
            rows = self._to_u(gradient / self.scale, self._smoothed(which, draw))
            rows = _clipped(rows, c.grad_clip_norm) / c.num_rollouts
            whole.index_add_(0, torch.from_numpy(which).to(whole.device), rows)
        return whole

    def _smoothed(self, which: np.ndarray, draw: np.ndarray) -> torch.Tensor:
        """Whitened coordinates [B, Z] of rollouts of the training."""
        u = self.u.detach()[which]
        if not self.config.latent_noise:
            return u
        keys = noise_keys(self.rollouts.seed, "smoothing", which, draw)
        return u + self.config.latent_noise * keys.normal(u.shape[1], u)

    def _to_u(self, gradient: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Gradients [B, Z] with respect to u [B, Z] from those with respect to its latents."""
        with torch.enable_grad():
            leaf = u.clone().requires_grad_()
            z = self.prior.latent(leaf)
        return torch.autograd.grad(z, leaf, gradient)[0]

    @property
    def _simulator(self) -> Simulator:
        return self.rollouts.simulator

    @property
    def _batch_size(self) -> int:
        return self.rollouts.batch_size

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Extends the curves, and keeps the latents whose objective is better than the best so far."""
        c = self.config
        z = self.prior.latent(self.u)
        streams = np.arange(len(z))
        values = self.rollouts.scored(z, streams, c.eval_rollouts, "select").value
        score = self.rollouts.target.score(values).mean(1)
        penalty = self.prior.penalty(self.u)
        objective = score / self.scale - c.prior_weight * penalty
        better = objective > self.best_objective
        self.best = torch.where(better[:, None], self.u, self.best)
        self.best_objective = torch.where(better, objective, self.best_objective)
        distance = mean_distance(first_frames(self._simulator, z, self._batch_size))
        spread = score.new_full((len(z),), float(distance))
        rows = values.mean(1), score, self.prior.percentile(self.u), spread
        for name, row in zip(CURVES, rows):
            self.curves[name].append(row)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that `load` continues from."""
        own = {"u": self.u, "best": self.best, "best_objective": self.best_objective}
        curves = {name: torch.stack(values) for name, values in self.curves.items()}
        adam = optimizer_tensors(self.adam)
        return own | with_prefix("curves", curves) | with_prefix("adam", adam)

    def load(self, tensors: dict[str, torch.Tensor], iteration: int) -> None:
        """Continues from the tensors of an optimiser with the same arguments."""
        device = self.u.device
        with torch.no_grad():
            self.u.copy_(tensors["u"])
        self.best, self.best_objective = (tensors[name].to(device) for name in ("best", "best_objective"))
        curves = without_prefix("curves", tensors)
        self.curves = {name: list(curves[name].to(device)) for name in CURVES}
        load_optimizer(self.adam, without_prefix("adam", tensors))
        self.iteration = iteration


def _clipped(rows: torch.Tensor, norm: float) -> torch.Tensor:
    """Rows [B, Z] scaled down to at most this norm."""
    return rows * (norm / rows.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)


def simulated_steps(config: OptimisationConfig, steps: int) -> int:
    """Simulated steps of the optimisation of one latent; a backward pass counts as two forward passes."""
    evaluations = 1 + sum(config.is_evaluated(i) for i in range(1, config.num_iterations + 1))
    trained = 3 * config.num_iterations * config.num_rollouts * steps
    frames = 4 * config.num_iterations if config.diversity else 0
    return trained + frames + evaluations * (config.eval_rollouts * steps + 1)
