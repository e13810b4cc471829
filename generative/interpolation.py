"""Interpolation between latents: linear for Gaussian ones, along a great circle on the unit sphere."""

import torch


def interpolate_latents(a: torch.Tensor, b: torch.Tensor, points: int, spherical: bool) -> torch.Tensor:
    """Latents equally spaced along the path from a to b, both included.

    Args:
        a, b: latents [..., Z].
        points: how many latents P.
        spherical: interpolate along the great circle (slerp: Shoemake 1985, "Animating rotation with
            quaternion
            curves").

    Returns:
        [P, ..., Z].

    Raises:
        ValueError: fewer than 2 points, or a and b are antipodal, where the path is not unique.
    """
    if points < 2:
        raise ValueError(f"points is {points}; a path needs 2 or more")
    fraction = torch.linspace(0, 1, points, dtype=a.dtype, device=a.device).reshape(-1, *[1] * a.ndim)
    if not spherical:
        return (1 - fraction) * a + fraction * b
    angle = 2 * torch.atan2(
        (a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True)
    )  # exact for small angles too
    if (angle > torch.pi - 1e-3).any():
        raise ValueError("antipodal points of a sphere have no unique shortest path")
    arc = (torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b) / torch.sin(angle)
    return torch.where(angle < 1e-4, (1 - fraction) * a + fraction * b, arc)
