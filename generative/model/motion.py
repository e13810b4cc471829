"""Motion of a scrolling frame, estimated by image registration.

Motion is in pixels, down and right: what was at row y is now at row y + motion[0].
"""

from typing import NamedTuple

import torch

MAX_MOTION = 8.0
"""Largest motion per step in either direction, in pixels; no player of Procgen falls faster."""
_TIE_BREAK = 1e-6
"""Added error per squared pixel of motion: among equally good motions the smallest wins."""
_MIN_CURVATURE = 1e-10
"""Least Hessian determinant of an error surface that has a minimum; the tie-break alone gives 4e-12."""


@torch.no_grad()
def estimate_motion(frames: torch.Tensor) -> torch.Tensor:
    """The motion between successive frames [L, B, H, W, C], uint8 or float in [0, 1]: [L - 1, B, 2].

    The whole shift with the smallest mean squared difference where the frames overlap, refined by a quadratic
    through its neighbours. It has no gradient, and is 0 where nothing determines it (a uniform frame).
    """
    if len(frames) < 2:  # an episode of one step
        return frames.new_zeros(0, frames.shape[1], 2, dtype=torch.float32)
    grey = (frames / 255 if frames.dtype == torch.uint8 else frames).mean(-1)[..., None, :, :] - 0.5
    reach = tuple(int(min(MAX_MOTION + 1, size - 2)) for size in grey.shape[-2:])
    spectra = _spectra(grey, torch.ones_like(grey[0, 0, 0]), reach)
    before, after = (
        _Spectra(spectra.image[part], spectra.square[part], spectra.visible, spectra.size)
        for part in (slice(None, -1), slice(1, None))
    )
    rows, columns = (torch.arange(-r, r + 1, device=frames.device) for r in reach)
    error = _shift_errors(before, after, reach)
    error = error + _TIE_BREAK * (rows[:, None].square() + columns.square())
    inner_columns = 2 * reach[1] - 1  # the quadratic needs neighbours on all sides
    best = error[..., 1:-1, 1:-1].flatten(-2).argmin(-1)
    row = best // inner_columns
    column = best % inner_columns
    shift = torch.stack([row - reach[0] + 1, column - reach[1] + 1], -1)
    return shift + _quadratic_minimum(_neighbourhood(error, row, column))


def best_shift(before: torch.Tensor, after: torch.Tensor, visible: torch.Tensor, reach: int) -> torch.Tensor:
    """The whole shift, down and right, under which two images differ least where both are visible: [..., 2].

    Masked registration by FFT (Padfield 2012, "Masked object registration in the Fourier domain").

    Args:
        before, after: images [..., C, H, W] with broadcasting leading dimensions.
        visible: [H, W], 1 where pixels count and 0 where they do not.
        reach: largest shift considered, in pixels.
    """
    both = (reach, reach)
    spectra = (_spectra(images * visible, visible, both) for images in (before, after))
    best = _shift_errors(*spectra, both).flatten(-2).argmin(-1)
    side = 2 * reach + 1
    return torch.stack([best // side, best % side], -1) - reach


class _Spectra(NamedTuple):
    """Fourier transforms of images [..., C, H, W], of their squares summed over channels [..., H, W], and of
    a mask of visible pixels [H, W], padded to `size` so that shifts do not wrap around.
    """

    image: torch.Tensor
    square: torch.Tensor
    visible: torch.Tensor
    size: tuple[int, int]


def _spectra(images: torch.Tensor, visible: torch.Tensor, reach: tuple[int, int]) -> _Spectra:
    size = tuple(n + r for n, r in zip(images.shape[-2:], reach))
    return _Spectra(*(torch.fft.rfft2(x, s=size) for x in (images, images.square().sum(-3), visible)), size)


def _shift_errors(before: _Spectra, after: _Spectra, reach: tuple[int, int]) -> torch.Tensor:
    """Mean squared difference over the overlap, for every shift up to `reach`: [..., 2 r + 1, 2 r' + 1].

    The sum over the overlap of (a - b)^2 is three correlations, all shifts at once by FFT.
    """
    visible = before.visible
    spectrum = (
        after.square * visible.conj()
        + visible * before.square.conj()
        - 2 * (after.image * before.image.conj()).sum(-3)
    )
    difference, overlap = (
        torch.fft.irfft2(x, s=before.size).roll(reach, (-2, -1))[..., : 2 * reach[0] + 1, : 2 * reach[1] + 1]
        for x in (spectrum, visible * visible.conj())
    )
    return difference / overlap.round()


def _neighbourhood(error: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """The 3 x 3 errors around inner cells [...] of an error surface [..., R, C]: [..., 3, 3]."""
    width = error.shape[-1]
    flat = error.flatten(-2)
    around = [
        flat.gather(-1, ((row + i) * width + column + j)[..., None])[..., 0]
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(around, -1).unflatten(-1, (3, 3))


def _quadratic_minimum(error: torch.Tensor) -> torch.Tensor:
    """The minimum of the quadratic through errors [..., 3, 3], relative to their centre: [..., 2].

    At most half a pixel in either direction; 0 where the quadratic has no minimum.
    """
    slope = torch.stack([error[..., 2, 1] - error[..., 0, 1], error[..., 1, 2] - error[..., 1, 0]], -1) / 2
    centre = 2 * error[..., 1, 1]
    curvature_rows = error[..., 2, 1] + error[..., 0, 1] - centre
    curvature_columns = error[..., 1, 2] + error[..., 1, 0] - centre
    mixed = (error[..., 2, 2] - error[..., 2, 0] - error[..., 0, 2] + error[..., 0, 0]) / 4
    determinant = curvature_rows * curvature_columns - mixed.square()
    step = torch.stack(
        [
            curvature_columns * slope[..., 0] - mixed * slope[..., 1],
            curvature_rows * slope[..., 1] - mixed * slope[..., 0],
        ],
        -1,
    )
    minimum = -step / determinant.clamp(min=_MIN_CURVATURE)[..., None]
    return torch.where((determinant > _MIN_CURVATURE)[..., None], minimum, 0.0).clamp(-0.5, 0.5)
