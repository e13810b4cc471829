"""Three held-out windows for the film strip, chosen by rule: a good, a median and a worst-decile case."""

import numpy as np
import torch

from analysis.model_eval.eval_windows import EvalWindows
from analysis.model_eval.predictions import open_loop
from generative.simulator import Simulator

CASE_QUANTILES = {"good": 0.1, "median": 0.5, "worst decile": 0.9}
"""The quantile of the seen-pixel error at step STEP at which each case stands, among windows that last to the
end.
"""
STEP = 10


def choose_cases(scores: dict[str, np.ndarray]) -> dict[str, int]:
    """Window number of each case; none where no window lasts."""
    lasting = np.flatnonzero(scores["alive"].all(0) & (scores["seen_pixels"][STEP] > 0))
    error = scores["seen_error/open_loop"][STEP, lasting] / scores["seen_pixels"][STEP, lasting]
    order = lasting[np.argsort(error, kind="stable")]
    return (
        {name: int(order[round(rank * (len(order) - 1))]) for name, rank in CASE_QUANTILES.items()}
        if len(order)
        else {}
    )


def render_film_strip(
    simulator: Simulator, part: EvalWindows, scores: dict[str, np.ndarray], seed: int, device: torch.device
) -> dict[str, np.ndarray]:
    """window [cases], error [cases], real and simulated [S, cases, H, W, C] of the chosen windows; nothing
    where none lasts.
    """
    windows = np.array(list(choose_cases(scores).values()), np.int64)
    if not len(windows):
        return {"window": windows}
    segment = part.windows.batch(windows)
    k = simulator.model.config.num_initializing_steps
    simulated = open_loop(simulator, segment.to(device), seed).obs.cpu().numpy()
    where = {
        "level": part.rollouts.episodes["level_seed"][part.table[windows, 0]],
        "start": part.table[windows, 1] + k - 1,
    }
    return {"window": windows, "real": segment.obs[k - 1 :].numpy(), "simulated": simulated, **where}
