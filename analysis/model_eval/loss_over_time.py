"""A world model's open-loop errors by step after the last given frame, unweighted, each in its own units."""

import numpy as np
import torch
from torch.nn import functional as F

from analysis.model_eval.predictions import open_loop, teacher_forced
from generative.simulator import Simulator
from rollouts.segment import Segment

UNITS = {
    "obs": "squared error per pixel, in [0, 1]",
    "obs_posterior": "squared error per pixel, in [0, 1]",
    "obs_copy": "squared error per pixel, in [0, 1]",
    "hx": "squared error, summed over units",
    "value": "absolute error, the agent's units",
    "act_log_probs": "KL from the recorded policy, nats",
    "reward": "squared error, the game's units",
    "done": "cross-entropy, nats",
}


@torch.no_grad()
def open_loop_errors(simulator: Simulator, segment: Segment, seed: int = 0) -> dict[str, np.ndarray]:
    """Errors [S, B] of one open-loop rollout of windows [L, B] along the recorded actions.

    NaN where there is no step. `obs_posterior` and `obs_copy` are the errors of posterior frames and of a
    copy of the last given frame, for comparison.
    """
    k = simulator.model.config.num_initializing_steps
    rollout = open_loop(simulator, segment, seed)
    posterior = teacher_forced(simulator, segment, seed).posterior
    real = segment.obs[k - 1 :]
    mask = segment.mask[k - 1 :]
    log_probs = torch.log_softmax(rollout.logits, -1)
    real_log_probs = torch.log_softmax(segment.logits[k - 1 :], -1)
    done = rollout.extra["done_prob"].clamp(1e-7, 1 - 1e-7)
    errors = {
        "obs": _frame_error(rollout.obs, real),
        "obs_posterior": _frame_error(posterior, real),
        "obs_copy": _frame_error(real[:1].expand_as(real), real),
        "hx": (rollout.hidden_after() - segment.hidden_after()[k - 1 :]).square().sum(-1),
        "value": (rollout.value - segment.value[k - 1 :]).abs(),
        "act_log_probs": (real_log_probs.exp() * (real_log_probs - log_probs)).sum(-1),
        "reward": (rollout.reward - segment.reward[k - 1 :]).square(),
        "done": F.binary_cross_entropy(done, segment.terminated[k - 1 :].to(done.dtype), reduction="none"),
    }
    return {name: torch.where(mask, x, torch.nan).cpu().numpy() for name, x in errors.items()}


def summarize_errors(errors: dict[str, np.ndarray]) -> dict:
    """Mean, min, max, 5th and 95th percentile over windows of errors [S, n], by name and step, as JSON."""
    first = next(iter(errors.values()))
    summary = {"n": (~np.isnan(first)).sum(1).tolist(), "windows": first.shape[1], "units": UNITS}
    for name, x in errors.items():
        low, high = np.nanquantile(x, [0.05, 0.95], axis=1)
        rows = {
            "mean": np.nanmean(x, 1),
            "min": np.nanmin(x, 1),
            "max": np.nanmax(x, 1),
            "low": low,
            "high": high,
        }
        summary |= {f"{name}_{row}": values.tolist() for row, values in rows.items()}
    return summary


def _frame_error(frames: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [((f.float() - r.float()) / 255).square().mean((1, 2, 3)) for f, r in zip(frames, real)]
    )
