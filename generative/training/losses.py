"""The world model's loss: its terms by stage, each in its own units and masked after the end of its episode,
and their weights.

The stages are painter (painter_loss.py), latent (start_loss.py), motion (motion_loss.py), tiles and joint
(tile_loss.py).
"""

import torch

from common.policy import Policy
from generative.model.config import LossScales
from generative.model.world_model import WorldModel
from generative.training.painter_loss import painter_terms
from generative.training.start_loss import start_terms
from generative.training.teacher_forcing import Noise, read_windows, true_view
from generative.training.tile_loss import joint_terms, tile_terms
from rollouts.segment import Segment

SCALE_OF = {
    "recon": "loss_scale_obs",
    "phase": "loss_scale_phase",
    "tile_types": "loss_scale_tile_types",
    "codes": "loss_scale_codes",
    "pose": "loss_scale_codes",
    "kl_balanced": "loss_scale_kl",
    "motion": "loss_scale_motion",
    "init_hidden": "loss_scale_init",
    "init_action": "loss_scale_init",
    "init_place": "loss_scale_init",
    "bottleneck": "loss_scale_bottleneck",
    "reward": "loss_scale_reward",
    "done": "loss_scale_done",
    "uncalibrated_done": "loss_scale_done",
}
"""The weight (a field of LossScales and a flag) of each term."""
TERMS = (*SCALE_OF, "kl", "motion_error")
"""Logged besides the terms with a weight: the KL without free nats, and the mean error of the motion in
pixels.
"""
TRAINED = {
    "painter": ("encoder", "painter", "phase_head", "tile_types"),
    "latent": ("latent_head", "start_head", "start_hidden_head", "start_action_head"),
    "motion": ("motion_head", "vector_gru", "outcome_head", "done_calibration"),
    "tiles": ("tile_dynamics",),
    "joint": ("tile_dynamics", "outcome_head", "done_calibration"),
}
"""Prefixes of the parameters that each stage trains."""

NOISE = {"painter": ("codes", "times"), "latent": ("z",), "tiles": ("tiles", "z"), "joint": ("tiles", "z")}
"""The fields of Noise that each stage reads."""


def loss_terms(
    stage: str, model: WorldModel, segment: Segment, noise: Noise, agent: Policy
) -> dict[str, torch.Tensor]:
    """Computes every term of a stage as a scalar: a mean over existing steps, frames or starts.

    A step exists where segment.mask is True; it then has a frame, an action and an outcome.

    Args:
        stage: one of STAGES but motion, which has `motion_terms`.
        model: the world model.
        segment: recorded windows [L, B], with labels in `extra` where there are some.
        noise: the stage's of NOISE, from `draw_noise`.
        agent: the frozen agent.

    Returns:
        Terms by name, a subset of TERMS.
    """
    if stage == "painter":
        return painter_terms(model, segment, noise)
    view = true_view(model, segment)
    if stage == "joint":
        return joint_terms(model, segment, noise, agent, view)
    if stage == "latent":
        k = model.config.num_initializing_steps
        with torch.no_grad():
            seen = model.locate(segment.obs[:k])  # as in a simulation, where there are no labels
        return start_terms(model, segment, read_windows(model, segment, agent, noise.z, seen), view)
    with torch.no_grad():
        recording = read_windows(model, segment, agent, noise.z, view)
    return tile_terms(model, segment, noise, recording)


def total_loss(terms: dict[str, torch.Tensor], scales: LossScales) -> torch.Tensor:
    """The weighted sum of the terms that have a weight."""
    weighted = [getattr(scales, SCALE_OF[name]) * term for name, term in terms.items() if name in SCALE_OF]
    return torch.stack(weighted).sum()
