"""How a world model's errors grow with the steps after its last given frame, each in its own units, without
the flags' weights.
"""

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
    "act_log_probs": "KL in nats, from the recorded choice",
    "reward": "squared error, the game's units",
    "done": "cross-entropy, nats",
}


@torch.no_grad()
def open_loop_errors(simulator: Simulator, segment: Segment, seed: int = 0) -> dict[str, np.ndarray]:
    """Every error of one open-loop rollout of windows [L, B] along recorded actions: [S, B], NaN where there
    is no step.

    Beside the simulated frames' error stand that of posterior frames and that of a copy of the last given
    one.
    """
    k = simulator.model.config.num_initializing_steps
    run = open_loop(simulator, segment, seed)
    posterior = teacher_forced(simulator, segment, seed).posterior
    real = segment.obs[k - 1 :]
    mask = segment.mask[k - 1 :]
    now = torch.log_softmax(run.logits, -1)
    then = torch.log_softmax(segment.logits[k - 1 :], -1)
    done = run.extra["done_prob"].clamp(1e-7, 1 - 1e-7)
    found = {
        "obs": _frame_error(run.obs, real),
        "obs_posterior": _frame_error(posterior, real),
        "obs_copy": _frame_error(real[:1].expand_as(real), real),
        "hx": (run.hidden_after() - segment.hidden_after()[k - 1 :]).square().sum(-1),
        "value": (run.value - segment.value[k - 1 :]).abs(),
        "act_log_probs": (then.exp() * (then - now)).sum(-1),
        "reward": (run.reward - segment.reward[k - 1 :]).square(),
        "done": F.binary_cross_entropy(done, segment.terminated[k - 1 :].to(done.dtype), reduction="none"),
    }
    return {name: torch.where(mask, x, torch.nan).cpu().numpy() for name, x in found.items()}


def summarize_errors(errors: dict[str, np.ndarray]) -> dict:
    """By name and step of errors [S, n]: mean, min, max, the 5th and 95th percentile over windows, and how
    many windows there are.
    """
    every = next(iter(errors.values()))
    out = {"n": (~np.isnan(every)).sum(1).tolist(), "windows": every.shape[1], "units": UNITS}
    for name, x in errors.items():
        low, high = np.nanquantile(x, [0.05, 0.95], axis=1)
        rows = {
            "mean": np.nanmean(x, 1),
            "min": np.nanmin(x, 1),
            "max": np.nanmax(x, 1),
            "low": low,
            "high": high,
        }
        out |= {f"{name}_{row}": values.tolist() for row, values in rows.items()}
    return out


def _frame_error(frames: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [((f.float() - r.float()) / 255).square().mean((1, 2, 3)) for f, r in zip(frames, real)]
    )
