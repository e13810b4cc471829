"""How far the picture moves in a step, measured between frames, and pictures and maps moved by it.

A scrolling picture is mostly the old one, moved: what predicts the motion need not draw it again (Finn et al.
2016). Motion is in pixels, down and right: what was at row y is now at row y + motion[0].
"""

from collections.abc import Callable

import torch

REACH = 8.0
"""The most pixels that a picture moves in one step in either direction; a player of Procgen falls no faster."""
_TIE = 1e-6  # squared error per squared pixel of motion: of motions that explain a frame equally well, the smallest
_FLAT = 1e-10  # least product of the bends of an error that says where it is lowest: those of _TIE alone are 4e-12


@torch.no_grad()
def estimate_motion(frames: torch.Tensor) -> torch.Tensor:
    """The motion between successive frames [L, B, H, W, C], uint8 or float in [0, 1]: [L - 1, B, 2], without
    a gradient.

    The shift under which the two differ least where they overlap (all whole shifts at once, by FFT), refined
    by the quadratic through its neighbours. Where nothing says how far it was, in a picture of one colour, it
    is 0.
    """
    grey = (frames / 255 if frames.dtype == torch.uint8 else frames).mean(-1) - 0.5
    (height, width), (down, right) = (
        grey.shape[-2:],
        (int(min(REACH + 1, size - 2)) for size in grey.shape[-2:]),
    )
    padded = height + down, width + right
    plain, squared, covered = (
        torch.fft.rfft2(x, s=padded) for x in (grey, grey.square(), torch.ones_like(grey[:1, :1]))
    )
    before = slice(None, -1)
    after = slice(1, None)
    both = (
        squared[after] * covered.conj()
        + covered * squared[before].conj()
        - 2 * plain[after] * plain[before].conj()
    )
    error, overlap = (
        torch.fft.irfft2(x, s=padded).roll((down, right), (-2, -1))[..., : 2 * down + 1, : 2 * right + 1]
        for x in (both, covered * covered.conj())
    )
    rows, columns = (torch.arange(-reach, reach + 1, device=frames.device) for reach in (down, right))
    error = error / overlap.round() + _TIE * (rows[:, None].square() + columns.square())
    best = error[..., 1:-1, 1:-1].flatten(-2).argmin(-1)
    row = best // (2 * right - 1)
    column = best % (2 * right - 1)
    around = [
        error.flatten(-2).gather(-1, ((row + i) * (2 * right + 1) + column + j)[..., None])[..., 0]
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack([row - down + 1, column - right + 1], -1) + _lowest(
        torch.stack(around, -1).unflatten(-1, (3, 3))
    )


def _lowest(error: torch.Tensor) -> torch.Tensor:
    """Where the quadratic through errors [..., 3, 3] about a least one is lowest, from the middle, at most
    half a pixel away: [..., 2].

    0 where it has no lowest point.
    """
    slope = torch.stack([error[..., 2, 1] - error[..., 0, 1], error[..., 1, 2] - error[..., 1, 0]], -1) / 2
    middle = 2 * error[..., 1, 1]
    bend_rows = error[..., 2, 1] + error[..., 0, 1] - middle
    bend_columns = error[..., 1, 2] + error[..., 1, 0] - middle
    twist = (error[..., 2, 2] - error[..., 2, 0] - error[..., 0, 2] + error[..., 0, 0]) / 4
    area = bend_rows * bend_columns - twist.square()
    to = torch.stack(
        [
            bend_columns * slope[..., 0] - twist * slope[..., 1],
            bend_rows * slope[..., 1] - twist * slope[..., 0],
        ],
        -1,
    )
    return torch.where((area > _FLAT)[..., None], -to / area.clamp(min=_FLAT)[..., None], 0.0).clamp(
        -0.5, 0.5
    )


def warp_frame(picture: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """The canvas for the next picture: [N, H, W, C] about [0, 1] moved by [N, 2] -> [N, H, W, C + 1] about 0.

    By cubic convolution (Keys 1981). The last channel says how much of each pixel the old picture covers, 1
    or nothing but at its edge; where it covers nothing, the canvas is 0.
    """
    rows, columns = (
        shift_matrix(size, by, keys_cubic) for size, by in zip(picture.shape[1:3], motion.unbind(-1))
    )
    covered = rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None]
    return torch.cat([_moved(picture - 0.5, rows, columns), covered[..., None]], -1)


def warp_features(cells: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """A map [N, C, H, W] moved by [N, 2], in cells, with nothing beyond its edges; values stay within their
    range.
    """
    rows, columns = (
        shift_matrix(size, by, raised_cosine) for size, by in zip(cells.shape[2:], motion.unbind(-1))
    )
    return _moved(cells.permute(0, 2, 3, 1), rows, columns).permute(0, 3, 1, 2)


def in_view(motion: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which pixels of a picture show what has been in view all along: motion [T, B, 2] -> [T, B, H, W] bool,
    after each of the moves.
    """
    ways = torch.cat([torch.zeros_like(motion[:1]), motion]).cumsum(0)
    found = []
    for i in range(1, len(ways)):
        since = ways[i] - ways[: i + 1]  # what is at p was at p - since
        low = since.amax(0)[..., None]
        high = since.amin(0)[..., None]
        lines = [torch.arange(n, device=motion.device) for n in size]
        row, column = (
            (line >= low[:, axis] - 0.5) & (line <= n - 0.5 + high[:, axis])
            for axis, (line, n) in enumerate(zip(lines, size))
        )
        found.append(row[:, :, None] & column[:, None])
    return torch.stack(found)


def _moved(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[N, H, W, C] under [N, H, H] and [N, W, W]."""
    by_row = (rows @ x.flatten(2)).unflatten(-1, x.shape[2:]).transpose(1, 2)
    return (columns @ by_row.flatten(2)).unflatten(-1, (x.shape[1], x.shape[3])).transpose(1, 2)


def shift_matrix(size: int, by: torch.Tensor, kernel: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """What moves a line of `size` values by [N]: [N, size, size], interpolating by a kernel of the distance."""
    at = torch.arange(size, device=by.device, dtype=by.dtype)
    return kernel((at[:, None] - at - by[:, None, None]).abs())


def keys_cubic(x: torch.Tensor) -> torch.Tensor:
    """The cubic convolution kernel with a = -1/2 at distances x >= 0."""
    near = (1.5 * x - 2.5) * x.square() + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def raised_cosine(x: torch.Tensor) -> torch.Tensor:
    """A smooth kernel that is nowhere negative, at distances x >= 0."""
    return torch.where(x < 1, 0.5 + 0.5 * torch.cos(torch.pi * x), 0.0)
