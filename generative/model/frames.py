"""Frames at 8 bits."""

import torch


def as_float(frames: torch.Tensor) -> torch.Tensor:
    """Frames in [0, 1], from uint8 or float ones of that range."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames


def round_frames(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames clipped to [0, 1] and rounded to 256 levels, with a straight-through gradient."""
    return frames + (torch.round(frames.clamp(0, 1) * 255) / 255 - frames).detach()


def frames_to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames as uint8, at the levels of `round_frames`."""
    return frames.detach().clamp(0, 1).mul_(255).round_().to(torch.uint8)
