"""Debiased linear centred kernel alignment of representations of the same steps, with intervals by layout.

CKA compares the Gram matrices of two representations (Kornblith et al. 2019); it does not change when one is
rotated. The plain estimate is far above 0 even for unrelated ones where there are more dimensions than steps;
U-centred Gram matrices remove that bias (Song et al. 2012; Székely & Rizzo 2014; Murphy et al. 2024).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

FEWEST_LAYOUTS = 40
"""Layouts that the estimate and its intervals need."""
BLOCKS = 20
"""Groups of layouts that are left out in turn (the jackknife)."""


def u_centred_gram(x: np.ndarray) -> np.ndarray:
    """U-centred linear Gram matrix [n, n] of x [n, D]: rows sum to 0, the diagonal is 0."""
    n = len(x)
    x = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    gram = x @ x.T
    np.fill_diagonal(gram, 0)
    rows = gram.sum(1) / (n - 2)
    gram += gram.sum() / ((n - 1) * (n - 2)) - rows[:, None] - rows
    np.fill_diagonal(gram, 0)
    return gram


def debiased_hsic(states: Sequence[np.ndarray]) -> np.ndarray:
    """Unbiased Hilbert-Schmidt independence criterion [M, M] between M representations [n, D_m] of the same n
    independent steps, with linear kernels.
    """
    n = len(states[0])
    grams = np.stack([u_centred_gram(x).ravel() for x in states])
    return grams @ grams.T / (n * (n - 3))


def cka_of(hsic: np.ndarray) -> np.ndarray:
    """CKA [..., M, M] from HSIC [..., M, M]; NaN where a representation has no variance."""
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    scale = np.sqrt(np.maximum(own[..., :, None] * own[..., None, :], 0))
    return np.divide(hsic, scale, out=np.full(hsic.shape, np.nan), where=scale > 0)


def layout_cka(
    states: Sequence[np.ndarray], layouts: np.ndarray, draws: int = 20, seed: int = 0, advance=lambda: None
) -> np.ndarray:
    """Debiased CKA of one step per layout, because the steps of a layout depend on each other.

    Args:
        states: M representations [n, D_m] of the same n steps.
        layouts: [n], the layout of each step.
        draws: random choices of a step for each layout, over which HSIC is averaged.
        seed: of the choices and of the jackknife's groups.
        advance: called after every draw.

    Returns:
        [1 + BLOCKS, M, M]: CKA of all layouts, then without each of BLOCKS random groups of them.

    Raises:
        ValueError: fewer than FEWEST_LAYOUTS layouts.
    """
    order = np.argsort(layouts, kind="stable")
    rows_of_layout = np.split(order, np.flatnonzero(np.diff(layouts[order])) + 1)
    count = len(rows_of_layout)
    if count < FEWEST_LAYOUTS:
        raise ValueError(f"{count} layouts are too few for debiased CKA, which needs {FEWEST_LAYOUTS}")
    rng = np.random.default_rng([seed, 31])
    block = rng.permutation(count) % BLOCKS
    hsic = np.zeros((1 + BLOCKS, len(states), len(states)))
    for _ in range(draws):
        rows = np.array([rng.choice(members) for members in rows_of_layout])
        chosen = [x[rows] for x in states]
        hsic[0] += debiased_hsic(chosen)
        for b in range(BLOCKS):
            hsic[1 + b] += debiased_hsic([x[block != b] for x in chosen])
        advance()
    return cka_of(hsic)


def jackknife(statistic: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic and its 95% interval, each [...], from [1 + B, ...]: of all layouts, then without each of B
    groups of them.
    """
    left_out = statistic[1:]
    groups = len(left_out)
    spread = ((left_out - left_out.mean(0)) ** 2).sum(0) * (groups - 1) / groups
    half = student.ppf(0.975, groups - 1) * np.sqrt(spread)
    return statistic[0], statistic[0] - half, statistic[0] + half
