"""Peak signal-to-noise ratio of pooled squared errors, for each row of bootstrap weights."""

import numpy as np

from common.stats import ratio


def pooled_psnr(weights: np.ndarray, squared_error: np.ndarray, count: np.ndarray) -> np.ndarray:
    """PSNR in dB, [R, ...], of squared errors of pixels in [0, 1], pooled over windows before the logarithm.

    Args:
        weights: [R, n] bootstrap weights of n windows.
        squared_error: [..., n], summed over the pixels that `count` counts.
        count: [..., n].
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(ratio(weights, squared_error, count, axis=-1))


def psnr_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in dB; NaN where both are infinite, since two exact predictions cannot be compared."""
    with np.errstate(invalid="ignore"):
        return a - b
