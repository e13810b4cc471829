"""The loss of the latent stage: the start is encoded and decoded."""

import torch
from torch.nn import functional as F

from generative.model.world_model import View, WorldModel
from generative.training.errors import bottleneck, image_error
from generative.training.teacher_forcing import Recording
from rollouts.segment import Segment

PLACE_WEIGHT = 400.0
"""Weight of the Huber loss of the start's place and motion, in pixels, against the other terms of the start.
"""
PLACE_OUTLIER = 0.3
"""Pixels beyond which an error of the start's place counts linearly: sometimes frames are located wrongly."""


def start_terms(
    model: WorldModel, segment: Segment, recording: Recording, truth: View
) -> dict[str, torch.Tensor]:
    """How well the latent's start describes the last initialising frame.

    truth: where the frames really lie; the recording may have its view from the frames, which is off by a
    fraction of a pixel that the latent can make up for.
    """
    step = model.config.num_initializing_steps - 1
    view, start = recording.view, recording.start
    off = truth.phase[step] - view.phase[step]
    position = model.config.tile_pixels * (view.phase[step] + off - torch.round(off))
    true_codes = model.codes_in_view(recording.canvases[step], view.position[step]).detach()
    codes = model.codes_in_view(start.env.canvas, torch.zeros_like(start.env.position))
    error = (codes - true_codes).square().sum(-1) * recording.encoded.share[step]
    place = F.huber_loss(
        torch.stack([start.env.motion, start.env.position]),
        torch.stack([truth.motion[step - 1], position]),
        reduction="none",
        delta=PLACE_OUTLIER,
    ).sum((0, -1))
    return {
        "recon": image_error(start.env.frame, segment.obs[step]).mean(),
        "codes": error.sum((1, 2)).mean(),
        "pose": (start.env.pose - recording.encoded.pose[step].detach()).square().sum(-1).mean(),
        "init_hidden": (start.hidden - segment.hidden[step]).square().sum(-1).mean(),
        "init_action": F.cross_entropy(start.action_logits, segment.action[step - 1]),
        "init_place": PLACE_WEIGHT * place.mean(),
        "bottleneck": bottleneck(recording.latent),
    }
