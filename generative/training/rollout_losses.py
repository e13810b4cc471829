"""Losses of rollouts in which the model sees its own frames instead of the true ones."""

from typing import NamedTuple

import torch

from generative.model.categorical import kl
from generative.model.motion import in_view
from generative.model.rssm import EnvState
from generative.model.world_model import WorldModel
from generative.training.errors import (
    image_error,
    importance_weights,
    masked_mean,
    motion_error,
    outcome_errors,
    squared_error,
)
from generative.training.teacher_forcing import Noise, Prediction
from rollouts.segment import Segment

NEW_PIXEL_WEIGHT = 0.1
"""Weight in the deterministic rollout of pixels that came into view since it began: they cause most of its
error, and cannot be predicted.
"""


def self_conditioned_recon_loss(
    model: WorldModel, pred: Prediction, obs: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Squared error of frames decoded on the model's own previous frame instead of the true one.

    Trains the decoder on its own output, as in a simulation (scheduled sampling, Bengio et al. 2015).
    Computed on the first half of the windows; no gradient reaches the previous frame.

    Args:
        model: the world model.
        pred: the teacher-forced pass.
        obs: true frames [S, B, H, W, C] uint8.
        mask: which of them exist, [S, B].
    """
    chosen = mask[1:].clone()
    chosen[:, -(-mask.shape[1] // 2) :] = False
    states = EnvState(*(part[1:][chosen] for part in pred.states))
    prev_frame = pred.states.frame[:-1][chosen].detach()
    error = image_error(model.decode_next(states, prev_frame).frame, obs[1:][chosen])
    return error.sum() / chosen.sum().clamp(min=1)


def overshooting_loss(
    model: WorldModel, pred: Prediction, obs: torch.Tensor, mask: torch.Tensor, noise: Noise
) -> dict[str, torch.Tensor]:
    """KL from the teacher-forced posteriors to priors that have seen no frame for 1 .. H steps (latent
    overshooting, Hafner et al. 2019).

    The R rollouts of each window begin at random posterior states and follow the recorded actions. No
    gradient reaches the posteriors or the first states. The error of the last frame is only logged.

    Args:
        model: the world model.
        pred: the teacher-forced pass.
        obs: true frames [S, B, H, W, C] uint8.
        mask: which of them exist, [S, B].
        noise: sets R and H; the loss is left out where either is 0.
    """
    steps, (runs, batch) = len(noise.overshooting), noise.overshooting_times.shape
    if not steps * runs:
        return {}
    begin = (noise.overshooting_times * (len(mask) - steps)).long()
    window = torch.arange(batch, device=mask.device)

    def at_step(x: torch.Tensor, i: int) -> torch.Tensor:
        return x[begin + i, window].flatten(0, 1)

    state = EnvState(*(at_step(part, 0).detach() for part in pred.states))
    divergence = []
    exists = []
    for i in range(steps):
        state = model.step(state, at_step(pred.actions, i), noise.overshooting[i])
        divergence.append(kl(at_step(pred.states.logits, i + 1).detach(), state.logits))
        exists.append(at_step(mask, i + 1))
    has_frame = exists[-1]
    error = image_error(state.frame.detach()[has_frame], at_step(obs, steps)[has_frame])
    return {
        "overshooting_kl": masked_mean(torch.stack(divergence), torch.stack(exists)),
        "overshooting_recon": error.sum() / has_frame.sum().clamp(min=1),
    }


class Rollout(NamedTuple):
    """A deterministic rollout of T steps. step [T, B]: of the window, counted from 1 at the first simulated
    transition. prev_frame and frame [T, B, H, W, C]: before and after each step.
    """

    step: torch.Tensor
    deter: torch.Tensor
    motion: torch.Tensor
    prev_frame: torch.Tensor
    frame: torch.Tensor


def deterministic_rollout(model: WorldModel, pred: Prediction, begin: torch.Tensor, steps: int) -> Rollout:
    """Rolls out along the recorded actions with the stochastic variables set to 0, from states `begin` [B].

    No gradient of frames reaches the motion except through the map: it is far larger than that of the motion
    loss and nearly all noise.
    """
    window = torch.arange(len(begin), device=begin.device)
    state = EnvState(*(part[begin, window] for part in pred.states))
    rows = []
    for i in range(steps):
        prev_frame = state.frame
        deter, motion = model.transition(state, model.embed(prev_frame), pred.actions[begin + i, window])
        state = EnvState(deter, state.logits, torch.zeros_like(state.sample), motion.detach(), prev_frame)
        state = model.decode_next(state, prev_frame)
        rows.append((deter, motion, prev_frame, state.frame))
    step = torch.arange(1, steps + 1, device=begin.device)[:, None] + begin
    return Rollout(step, *(torch.stack(parts) for parts in zip(*rows)))


def deterministic_rollout_loss(
    model: WorldModel,
    pred: Prediction,
    segment: Segment,
    mask: torch.Tensor,
    noise: Noise,
    steps: int,
) -> dict[str, torch.Tensor]:
    """Rollout without sampling: frames, motion, reward and done are predicted from h and the last frame
    alone.

    Trains what the deterministic state can predict. Newly visible pixels cannot be predicted; their error is
    down-weighted by NEW_PIXEL_WEIGHT. Half of the rollouts begin where the windows do. The motion loss
    compares the total motion since the beginning. Outcomes are read here too, so that a hazard touched in the
    model's own frames ends the episode.

    Args:
        model: the world model.
        pred: the teacher-forced pass.
        segment: the recorded windows [L, B].
        mask: existing simulated steps [S, B].
        noise: its rollout_times set where the rollouts begin.
        steps: their length; with 0 the loss is left out.
    """
    if not steps:
        return {}
    begin = ((2 * noise.rollout_times - 1).clamp(min=0) * (len(mask) - steps)).long()
    window = torch.arange(len(begin), device=mask.device)
    rollout = deterministic_rollout(model, pred, begin, steps)
    has_frame = mask[rollout.step, window]
    first_step = len(segment.obs) - len(mask)
    obs = segment.obs[first_step:][rollout.step, window]
    motion = pred.estimated_motion[rollout.step, window]
    action_step = (rollout.step - 1 + first_step, window)
    outcome = outcome_errors(
        model,
        model.outcome(rollout.deter, rollout.motion.detach(), rollout.prev_frame),
        segment.reward[action_step],
        segment.terminated[action_step],
        importance_weights(segment),
    )
    error = squared_error(rollout.frame[has_frame], obs[has_frame])
    weight = torch.where(in_view(motion, error.shape[1:])[has_frame], 1.0, NEW_PIXEL_WEIGHT)
    has_action = mask[rollout.step - 1, window]
    return {
        "deterministic_recon": (error * weight).sum() / has_frame.sum().clamp(min=1),
        "deterministic_motion": masked_mean(
            motion_error(rollout.motion.cumsum(0), motion.cumsum(0)), has_frame
        ),
        **{f"deterministic_{name}": masked_mean(each, has_action) for name, each in outcome.items()},
    }
