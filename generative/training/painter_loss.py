"""The loss of the painter stage: tiles and player are drawn from recorded frames, also as seen from later
places.
"""

import torch
from torch.nn import functional as F

from generative.model.phase_head import phase_loss
from generative.model.world_model import WorldModel
from generative.training.errors import masked_mean, ragged_mean, squared_error
from generative.training.teacher_forcing import Noise, frame_of, true_view
from rollouts.segment import Segment

CODE_NOISE = 0.05
"""Standard deviation of the noise on codes while the painter learns, so that near codes look alike."""
INNER_WALL, OUTSIDE = 2, 9
"""Labelled kinds of tiles (rollouts/labels.py)."""
RARE_KINDS = (3, 5, 6, 7, 8)
RARE_WEIGHT = 10.0
"""Labelled kinds of tiles that count more: lava surface, coin, crate, saw and enemy."""


def painter_terms(model: WorldModel, segment: Segment, noise: Noise) -> dict[str, torch.Tensor]:
    """Draws frames from the codes of earlier ones: of F frames of each window, frames i and i + 1 are drawn
    from a canvas of frames 0 .. i. Only pixels that one of those showed count.
    """
    view = true_view(model, segment)
    steps = (noise.times.sort(0).values * segment.mask.sum(0)).long()
    window = torch.arange(steps.shape[1], device=steps.device)
    frames, position = segment.obs[steps, window], view.position[steps, window]
    encoded = model.encode_frames(frames, position)
    encoded = encoded._replace(codes=encoded.codes + CODE_NOISE * noise.codes)
    canvas = model.blank_canvas(len(window))
    codes, drawn = [], []
    for i in range(len(steps) - 1):
        canvas = model.add_frame(canvas, frame_of(encoded, i), position[i])
        codes += [model.codes_in_view(canvas, position[j]) for j in (i, i + 1)]
        drawn += [i, i + 1]
    images = model.painter(torch.cat(codes), position[drawn].flatten(0, 1), encoded.pose[drawn].flatten(0, 1))
    shown = torch.cat([shown_before(position[: i + 1], position[j], model.config.obs_shape)
                       for i in range(len(steps) - 1) for j in (i, i + 1)])  # fmt: skip
    error = squared_error(images, frames[drawn].flatten(0, 1)) * shown
    terms = {"recon": error.sum((1, 2)).mean()}
    if "position" in segment.extra and model.config.knows_phase:
        logits = model.phase_head(segment.obs[segment.mask])
        terms["phase"] = ragged_mean(phase_loss(logits, view.phase[segment.mask]).sum(-1))
    if "tiles" in segment.extra:
        rows, columns = model.config.view_shape
        kinds = segment.extra["tiles"][steps, window][..., :rows, :columns].long()
        kinds = torch.where(kinds == OUTSIDE, INNER_WALL, kinds)  # they look alike
        weight = torch.ones(model.tile_types.out_features, device=kinds.device)
        weight[list(RARE_KINDS)] = RARE_WEIGHT
        each = F.cross_entropy(
            model.tile_types(encoded.codes).flatten(0, -2), kinds.flatten(), weight, reduction="none"
        )
        terms["tile_types"] = masked_mean(each, encoded.share.flatten() >= 0.5)
    return terms


def shown_before(earlier: torch.Tensor, later: torch.Tensor, obs_shape) -> torch.Tensor:
    """Which pixels of frames at positions [B, 2] were in any frame at `earlier` [n, B, 2]: [B, H, W]."""
    inside = []
    for axis, size in enumerate(obs_shape[:2]):
        pixel = torch.arange(size, device=later.device) + 0.5 + (later - earlier)[..., axis, None]
        inside.append((pixel >= 0) & (pixel < size))
    return (inside[0][..., :, None] & inside[1][..., None, :]).any(0)
