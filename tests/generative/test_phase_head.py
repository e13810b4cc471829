"""The phase of a frame: its bins, the motion that it corrects, and that it can be read from stripes."""

import pytest
import torch

from generative.model.config import WorldModelConfig
from generative.model.phase_head import BINS, PhaseHead, align_motion, likeliest_phase, phase_loss

TILE = 64 / 13


def circular(difference: torch.Tensor) -> torch.Tensor:
    """Distances of phases around the circle."""
    return (difference - torch.round(difference)).abs()


def planted(phase: torch.Tensor, share: float = 1.0) -> torch.Tensor:
    """Logits [..., BINS] of a Gaussian around phases [...], with a lower one a third of a tile away."""
    centres = (torch.arange(BINS) + 0.5) / BINS
    bumps = [
        (-0.5 * (BINS * circular(phase[..., None] + shift - centres)).square()).exp() for shift in (0, 1 / 3)
    ]
    return (share * bumps[0] + (1 - share) * bumps[1] + 1e-30).log()


def test_the_likeliest_phase_is_found_between_bins_and_around_the_edge():
    phase = torch.cat([torch.rand(500, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 2)])
    for share in (1.0, 0.6):  # the second bump does not pull it
        found = likeliest_phase(planted(phase, share))
        assert found.min() >= 0
        assert found.max() < 1
        assert circular(found - phase).max() < 0.02 / BINS
    assert circular(likeliest_phase(planted(phase, 0.4)) - phase).min() > 0.3


def test_the_loss_is_zero_at_the_blurred_truth_alone():
    phase = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    assert phase_loss(planted(phase), phase).abs().max() < 1e-4
    torch.testing.assert_close(phase_loss(planted(phase), phase + 1), phase_loss(planted(phase), phase))
    assert phase_loss(planted(phase + 1 / BINS), phase).min() > 0.3
    assert phase_loss(torch.zeros(50, 2, BINS), phase).min() > 2


def test_a_motion_is_corrected_to_the_planted_one():
    rng = torch.Generator().manual_seed(0)
    position = 100 * torch.rand(300, 2, generator=rng)
    motion = 16 * torch.rand(300, 2, generator=rng) - 8
    error = 0.98 * TILE * (torch.rand(300, 2, generator=rng) - 0.5)
    before, after = ((p / TILE) % 1 for p in (position, position - motion))
    found = align_motion(motion + error, before, after, TILE)
    torch.testing.assert_close(found, motion, atol=1e-4, rtol=0)
    backwards = align_motion(motion + error, after, before, TILE)
    assert (backwards - motion).abs().median() > 0.5
    assert (align_motion(motion, before, after + 0.5, TILE) - motion).abs().max() <= TILE / 2 + 1e-4


def stripes(phase: torch.Tensor, size: int = 24) -> torch.Tensor:
    """Frames [N, size, size, 1] of tiles with dark edges, their corner at phase [N, 2]; drawn by nearest
    neighbour.
    """
    at = (torch.arange(size) + 0.5) / TILE + phase[..., None]  # [N, 2, size]
    edge = (at % 1 < 0.25).float()
    return torch.maximum(edge[:, 0, :, None], edge[:, 1, None, :])[..., None]


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_phase_is_learned_from_stripes_and_not_from_other_frames_phases(shuffled):
    torch.manual_seed(0)
    head = PhaseHead(WorldModelConfig(3, (24, 24, 1), units=64, sprite_pixels=8))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(250):
        phase = torch.rand(64, 2)
        seen = stripes(phase)
        loss = phase_loss(head(seen), phase.roll(1, 0) if shuffled else phase).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    phase = torch.rand(500, 2)
    with torch.no_grad():
        error = circular(head.phase(stripes(phase)) - phase)
    assert (error.median() > 0.15) if shuffled else (error.quantile(0.9) < 0.06), error.quantile(0.9)
