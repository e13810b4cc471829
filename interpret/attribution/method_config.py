"""Parameters of attribution methods. Imports nothing slow, so that command lines are parsed at once."""

from dataclasses import dataclass


@dataclass
class MethodConfig:
    """Pixels lie in [0, 1]."""

    smooth_draws: int = 16
    """Noisy copies of a frame that SmoothGrad averages over."""
    smooth_std: float = 0.1
    """Standard deviation of SmoothGrad's noise, pixels in [0, 1]."""
    ig_steps: int = 64
    """Points on the path of integrated gradients; with 64 the completeness gap of the reference agent's value
    is about 5%.
    """
    patch: int = 8
    """Side of the square that occlusion hides, in pixels."""
    stride: int = 4
    """Pixels between neighbouring squares, and between neighbouring centres of blur."""
    mask_std: float = 4.0
    """Standard deviation of the region that is blurred, in pixels."""
    blur_std: float = 3.0
    """Standard deviation of the blur, in pixels."""
    seed: int = 0
    """Seed of every random choice and of noise; the agent's own noise is the recording's."""
