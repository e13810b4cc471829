"""Paths between two latents: straight where latents are Gaussian, along a great circle where they lie on the
unit sphere.
"""

import torch


def interpolate_latents(a: torch.Tensor, b: torch.Tensor, points: int, spherical: bool) -> torch.Tensor:
    """`points` latents [P, ..., Z] from a to b [..., Z], both included, equally spaced along the path.

    spherical: along the great circle (Shoemake 1985, "Animating rotation with quaternion curves"). Raises
    ValueError for fewer than 2 points, and for opposite ones, between which there are many.
    """
    if points < 2:
        raise ValueError(f"a path needs 2 points or more, not {points}")
    share = torch.linspace(0, 1, points, dtype=a.dtype, device=a.device).reshape(-1, *[1] * a.ndim)
    if not spherical:
        return (1 - share) * a + share * b
    angle = 2 * torch.atan2(
        (a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True)
    )  # exact for small angles too
    if (angle > torch.pi - 1e-3).any():
        raise ValueError("two opposite points of a sphere have no shortest path between them")
    circle = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return torch.where(angle < 1e-4, (1 - share) * a + share * b, circle)
