"""The terms of the world model's loss, each in its own units and masked after the end of its episode."""

import torch
from torch.nn import functional as F

from common.policy import Policy
from generative.model.categorical import balanced_kl, kl
from generative.model.config import LossScales
from generative.model.frames import round_frames
from generative.model.world_model import WorldModel
from generative.training.errors import (
    bottleneck,
    importance_weights,
    masked_mean,
    motion_error,
    outcome_errors,
    squared_error,
)
from generative.training.rollout_losses import (
    deterministic_rollout_loss,
    overshooting_loss,
    self_conditioned_recon_loss,
)
from generative.training.small_object_weights import small_object_weights
from generative.training.teacher_forcing import Noise, Prediction, predict
from rollouts.segment import Segment

SCALE_OF = {
    "recon": "loss_scale_obs",
    "small_objects": "loss_scale_small_objects",
    "start_recon": "loss_scale_start_recon",
    "start_small_objects": "loss_scale_start_small_objects",
    "self_conditioned_recon": "loss_scale_self_conditioned_recon",
    "deterministic_recon": "loss_scale_deterministic_rollout",
    "motion": "loss_scale_motion",
    "deterministic_motion": "loss_scale_motion",
    "reward": "loss_scale_reward",
    "done": "loss_scale_done",
    "uncalibrated_done": "loss_scale_done",
    "deterministic_reward": "loss_scale_reward",
    "deterministic_done": "loss_scale_done",
    "deterministic_uncalibrated_done": "loss_scale_done",
    "kl_balanced": "loss_scale_kl",
    "overshooting_kl": "loss_scale_overshooting",
    "bottleneck": "loss_scale_bottleneck",
    "init_hidden": "loss_scale_init",
    "init_action": "loss_scale_init",
    "hx": "loss_scale_hx",
    "act_log_probs": "loss_scale_act_log_probs",
    "value": "loss_scale_value",
}
"""The weight (a field of LossScales and a flag) of each term."""
TERMS = (*SCALE_OF, "kl", "overshooting_recon")
"""Logged besides the terms with a weight: the KL without free nats, and the squared error of the last frame
of the overshooting rollouts. The latter is no loss: at weight 1 all predictions drew towards the mean of the
futures, and a toy world was predicted 73% of the time instead of 99%.
"""


def loss_terms(
    model: WorldModel,
    segment: Segment,
    noise: Noise,
    agent: Policy,
    agent_windows: int | None = None,
    free_nats: float = 1.0,
    deterministic_rollout_steps: int = 0,
) -> dict[str, torch.Tensor]:
    """Computes every term as a scalar: a mean over existing steps, frames or starts.

    A step exists where segment.mask is True; it then has a frame, an action and an outcome. KL terms compare
    states that have both a prior and a frame.

    Args:
        model: the world model.
        segment: recorded windows [L, B].
        noise: see `draw_noise`; it also sets the overshooting rollouts.
        agent: the frozen agent.
        agent_windows: the agent is run on the decoded frames of this many windows; None for all, and with 0
            its terms are left out.
        free_nats: floor of each direction of the balanced KL, in nats.
        deterministic_rollout_steps: length of the deterministic rollout; with 0 its terms are left out.

    Returns:
        Terms by name, a subset of TERMS.
    """
    k = model.config.num_initializing_steps
    obs = segment.obs[k - 1 :]
    mask = segment.mask[k - 1 :]
    pred = predict(model, segment, noise, agent)
    terms = (
        outcome_terms(model, pred, segment, k)
        | reconstruction_terms(pred, obs[mask])
        | start_terms(pred, segment)
        | {
            "self_conditioned_recon": self_conditioned_recon_loss(model, pred, obs, mask),
            "motion": masked_mean(motion_error(pred.predicted_motion, pred.estimated_motion), mask),
        }
        | kl_terms(pred, mask, free_nats)
        | overshooting_loss(model, pred, obs, mask, noise)
        | deterministic_rollout_loss(model, pred, segment, mask, noise, deterministic_rollout_steps)
    )
    if agent_windows == 0:
        return terms
    return terms | agent_terms(agent, pred.frames, segment, k, agent_windows)


def reconstruction_terms(pred: Prediction, obs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Squared error of the teacher-forced frames against the true ones [n, H, W, C], plain and where small
    objects are.
    """
    error = squared_error(pred.frames, obs)
    return {
        "recon": error.sum((1, 2)).mean(),
        "small_objects": (error * small_object_weights(obs)).sum((1, 2)).mean(),
    }


def start_terms(pred: Prediction, segment: Segment) -> dict[str, torch.Tensor]:
    """Losses of the latents alone: frame, agent's hidden state and previous action, and the bottleneck."""
    steps, window = pred.start_frames
    obs = segment.obs[steps[-1], window]
    error = squared_error(pred.start.env.frame, obs)
    return {
        "start_recon": error.sum((1, 2)).mean(),
        "start_small_objects": (error * small_object_weights(obs)).sum((1, 2)).mean(),
        "bottleneck": bottleneck(pred.latent),
        "init_hidden": (pred.start.hidden - segment.hidden[steps[-1], window]).square().sum(-1).mean(),
        "init_action": F.cross_entropy(pred.start.action_logits, segment.action[steps[-2], window]),
    }


def kl_terms(pred: Prediction, mask: torch.Tensor, free_nats: float) -> dict[str, torch.Tensor]:
    """KL between posterior and prior of states 1 .. S - 1: balanced, with free nats, and plain."""
    posterior = pred.states.logits[1:]
    prior = pred.prior.logits[:-1]
    return {
        "kl_balanced": masked_mean(balanced_kl(posterior, prior, free_nats), mask[1:]),
        "kl": masked_mean(kl(posterior, prior), mask[1:]),
    }


def outcome_terms(model: WorldModel, pred: Prediction, segment: Segment, k: int) -> dict[str, torch.Tensor]:
    """Cross-entropies of reward and done in the teacher-forced pass."""
    errors = outcome_errors(
        model,
        pred.outcome,
        segment.reward[k - 1 :],
        segment.terminated[k - 1 :],
        importance_weights(segment),
    )
    mask = segment.mask[k - 1 :]
    return {name: error[mask].mean() for name, error in errors.items()}


def agent_terms(
    agent: Policy, frames: torch.Tensor, segment: Segment, k: int, windows: int | None = None
) -> dict[str, torch.Tensor]:
    """Runs the agent on the decoded frames, from its recorded hidden state before each, and compares what it
    does with what is stored.

    Args:
        agent: the frozen agent.
        frames: decoded frames [n, H, W, C] of the existing steps.
        segment: the recorded windows [L, B].
        k: number of initialising frames.
        windows: use only this many windows, from the first.

    Returns:
        Squared error of hidden state and value, and KL between action distributions, per frame.
    """
    exists = segment.mask[k - 1 :]
    chosen = exists.clone()
    if windows is not None:
        chosen[:, windows:] = False
    frames = frames[chosen[exists]]
    prev_reward = torch.where(segment.first, 0.0, segment.reward.roll(1, 0))[k - 1 :]
    hidden_before = segment.hidden[k - 1 : -1][chosen]
    hidden_after = segment.hidden_after()[k - 1 :][chosen]
    stored_logits = segment.logits[k - 1 :][chosen]
    hidden = agent.advance(
        round_frames(frames), hidden_before, segment.first[k - 1 :][chosen], prev_reward[chosen]
    )
    logits, value = agent.heads(hidden)
    log_probs = torch.log_softmax(logits, -1)
    stored_log_probs = torch.log_softmax(stored_logits, -1)
    terms = {
        "hx": (hidden - hidden_after).square().sum(-1).mean(),
        "act_log_probs": (stored_log_probs.exp() * (stored_log_probs - log_probs)).sum(-1).mean(),
    }
    if value is None:
        return terms
    return terms | {"value": (value - segment.value[k - 1 :][chosen]).square().mean()}


def total_loss(terms: dict[str, torch.Tensor], scales: LossScales) -> torch.Tensor:
    """The weighted sum of the terms; those of weight 0 are left out."""
    weighted = [
        getattr(scales, flag) * terms[name]
        for name, flag in SCALE_OF.items()
        if name in terms and getattr(scales, flag)
    ]
    return torch.stack(weighted).sum()
