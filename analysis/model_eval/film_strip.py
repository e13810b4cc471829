"""Frames of three held-out windows for the film strip, chosen by rule: a good, a median and a bad case."""

import numpy as np
import torch

from analysis.model_eval.eval_windows import EvalWindows
from analysis.model_eval.predictions import open_loop
from generative.simulator import Simulator

CASE_QUANTILES = {"good": 0.1, "median": 0.5, "worst decile": 0.9}
"""Quantile of each case's seen-pixel error at step STEP, among windows that last to the end."""
STEP = 10


def choose_cases(scores: dict[str, np.ndarray]) -> dict[str, int]:
    """Window number of each case; empty if no window lasts to the end."""
    lasting = np.flatnonzero(scores["alive"].all(0) & (scores["seen_pixels"][STEP] > 0))
    error = scores["seen_error/open_loop"][STEP, lasting] / scores["seen_pixels"][STEP, lasting]
    order = lasting[np.argsort(error, kind="stable")]
    if not len(order):
        return {}
    return {name: int(order[round(q * (len(order) - 1))]) for name, q in CASE_QUANTILES.items()}


def render_film_strip(
    simulator: Simulator,
    held_out: EvalWindows,
    scores: dict[str, np.ndarray],
    seed: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Recorded and simulated frames of the chosen windows.

    Args:
        simulator: the world model with its agent.
        held_out: the scored windows.
        scores: their scores, by `window_scores.score_windows`.
        seed: of the simulator's noise.
        device: that the simulator is on.

    Returns:
        `window`, `level` and `start` step [cases]; `real` and `simulated` [S, cases, H, W, C] uint8. `window`
        alone, empty, if no window lasts to the end.
    """
    windows = np.array(list(choose_cases(scores).values()), np.int64)
    if not len(windows):
        return {"window": windows}
    segment = held_out.windows.batch(windows)
    k = simulator.model.config.num_initializing_steps
    simulated = open_loop(simulator, segment.to(device), seed).obs.cpu().numpy()
    return {
        "window": windows,
        "real": segment.obs[k - 1 :].numpy(),
        "simulated": simulated,
        "level": held_out.rollouts.episodes["level_seed"][held_out.table[windows, 0]],
        "start": held_out.table[windows, 1] + k - 1,
    }
