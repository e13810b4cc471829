"""Does the simulator predict real effects of edits? Correlations over directions, corrected for noise.

Effects of K directions are means over the same M fork points, so their errors are correlated between worlds
and attenuate correlations within one. Products of two different fork points have no such error: with x[k, i]
the effect of direction k at point i, the sum of x[k, i] y[k, j] over i != j estimates the product of the true
effects (the split-half correction of Spearman 1904, over all splits at once).
"""

import numpy as np


def noise_free_products(x: np.ndarray, y: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Covariance [R] over directions of the true effects behind x and y [K, M].

    Args:
        x, y: effects of K directions at M fork points, each on its own layout.
        weights: [R, M], how often each point counts.
        rows: [R, K], how often each direction counts.
    """
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    same = weights**2 @ (x * y).T
    product = ((weights @ x.T) * (weights @ y.T) - same) / pairs[:, None]
    centre_x, centre_y = ((rows * (weights @ one.T)).sum(1) / rows.sum(1) for one in (x, y))
    mean_x, mean_y = (_column_means(one, rows) for one in (x, y))
    between = centre_x * centre_y - (weights**2 * mean_x * mean_y).sum(1)
    return (rows * product).sum(1) / rows.sum(1) - between / pairs


def _column_means(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean [R, M] over directions, for each row of weights of directions."""
    return rows @ x / rows.sum(1, keepdims=True)


def observed_products(x: np.ndarray, y: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Covariance [R] over directions of the mean effects, noise included; arguments as above."""
    a, b = (weights @ one.T / weights.sum(1, keepdims=True) for one in (x, y))
    mean_a, mean_b = ((rows * one).sum(1) / rows.sum(1) for one in (a, b))
    return (rows * a * b).sum(1) / rows.sum(1) - mean_a * mean_b


def agreement(real: np.ndarray, simulated: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> dict:
    """How far simulated effects agree with real ones: r raw and corrected, reliabilities, slope, same sign.

    Args:
        real, simulated: [K, M] effects.
        weights: [R, M] and rows: [R, K], see `noise_free_products`.

    Returns:
        [R] each; NaN where a world has no variance beyond noise. `slope`: of simulated on real true effects.
        `same_sign`: the share of directions whose mean effects have the same sign in both worlds.
    """
    raw = [observed_products(*pair, weights, rows) for pair in _pairs(real, simulated)]
    true = [noise_free_products(*pair, weights, rows) for pair in _pairs(real, simulated)]
    a, b = (weights @ one.T for one in (real, simulated))
    return {
        "r": _correlation(*raw),
        "r_corrected": _correlation(*true),
        "slope": _ratio(true[2], true[0]),
        "reliability_real": _ratio(true[0], raw[0]),
        "reliability_simulated": _ratio(true[1], raw[1]),
        "same_sign": (rows * (np.sign(a) == np.sign(b))).sum(1) / rows.sum(1),
    }


def one_step_agreement(
    real: np.ndarray, predictor: np.ndarray, weights: np.ndarray, rows: np.ndarray
) -> dict:
    """r raw and corrected of a noiseless predictor [K] of real effects [K, M]."""
    exact = np.repeat(predictor[:, None], real.shape[1], 1)
    raw = [observed_products(*pair, weights, rows) for pair in _pairs(real, exact)]
    true = noise_free_products(real, real, weights, rows)
    return {"r": _correlation(*raw), "r_corrected": _correlation(true, raw[1], raw[2])}


def _pairs(x: np.ndarray, y: np.ndarray) -> tuple:
    return (x, x), (y, y), (x, y)


def _correlation(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return _ratio(xy, np.sqrt(np.where((xx > 0) & (yy > 0), xx * yy, np.nan)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
