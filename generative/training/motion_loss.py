"""The loss of the motion stage: the player's motion and pose, rewards and ends, on the true canvas."""

import torch

from generative.model.canvas import KNOWN, base_tile
from generative.model.player import NEIGHBOURHOOD, Surroundings, centre_of, surroundings_of
from generative.model.world_model import Outcome, WorldModel
from generative.training.errors import leading, masked_means, outcome_errors
from generative.training.motion_data import MARGIN, MotionBatch, take_window
from generative.training.painter_loss import CODE_NOISE

MOTION_SCALE = 0.05
"""Scale in pixels of the Laplace distribution of each motion outcome."""
LOST = 1.5
"""Pixels off the true place beyond which a rollout teaches nothing that depends on its place."""


def motion_terms(
    model: WorldModel, batch: MotionBatch, free_running: float, code_noise: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Moves the player along recorded actions among the true tiles. The first windows of the batch run
    freely, on their own motion and pose; the others are corrected at every step.

    Args:
        model: the world model.
        batch: windows [L, B].
        free_running: the fraction that runs freely.
        code_noise: standard normal [B, SIDE, SIDE, K], added to the codes of all steps.
    """
    length, count = batch.mask.shape
    free = leading(count, free_running, batch.mask.device)[:, None]
    true_motion = batch.position[:-1] - batch.position[1:]
    like = model.start(batch.position.new_zeros(count, model.config.latent_size)).env
    state = like._replace(
        position=batch.position[1], motion=true_motion[0], pose=batch.pose[1], canvas=like.canvas[:, :0]
    )
    taken, errors, misses, on_track, poses = [], [], [], [], []
    for t, action in enumerate(model.action_weights(batch.action[1:]), 1):
        around = _cached_surroundings(model, batch, t, state.position, code_noise)
        moved, outcomes = model.move_among(around, state, action)
        taken.append((state, around, moved.motion, action))
        if t + 1 == length:
            break
        wanted = state.position - batch.position[t + 1]
        errors.append(outcomes.loss(wanted, MOTION_SCALE))
        misses.append((outcomes.choose().detach() - wanted).abs().amax(-1))
        on_track.append((state.position - batch.position[t]).abs().amax(-1) < LOST)
        poses.append((moved.pose - batch.pose[t + 1]).square().sum(-1))
        state = moved._replace(
            position=torch.where(free, moved.position, batch.position[t + 1]).detach(),
            motion=torch.where(free, moved.motion, true_motion[t]).detach(),
            pose=torch.where(free, moved.pose, batch.pose[t + 1]),
        )
    exists = batch.mask[2:]
    on_track = torch.stack(on_track) & exists
    truth = batch.reward[1:], batch.terminated[1:], batch.weight
    moves = {"motion": torch.stack(errors), "motion_error": torch.stack(misses)}
    outcome = outcome_errors(model, _outcome(model, taken), *truth)
    return masked_means((moves, on_track), ({"pose": torch.stack(poses)}, exists), (outcome, batch.mask[1:]))


def _outcome(model: WorldModel, taken: list[tuple]) -> Outcome:
    """What the model predicts of the actions taken, [T, B, ...]: at once, as no step needs that of another.

    taken: arguments of the outcome head at each step.
    """
    states, arounds, motions, actions = zip(*taken)
    before = states[0]._replace(
        vector=torch.cat([state.vector for state in states]),
        motion=torch.cat([state.motion for state in states]),
    )
    around = Surroundings(*map(torch.cat, zip(*arounds)))
    logits = model.outcome_head(before, around, torch.cat(motions), torch.cat(actions))
    return model.outcome(logits.unflatten(0, (len(taken), -1)))


def _cached_surroundings(
    model: WorldModel, batch: MotionBatch, step: int, position: torch.Tensor, code_noise: torch.Tensor
) -> Surroundings:
    """Surroundings of a player at `position` [B, 2], at most a tile from the true place."""
    c = model.config
    centre = centre_of(position, c)
    true_tile = base_tile(centre_of(batch.position[step], c), c.tile_pixels)
    first = (base_tile(centre, c.tile_pixels) - true_tile).clamp(-MARGIN, MARGIN) + MARGIN
    codes = take_window(batch.codes[step] + CODE_NOISE * code_noise, first, NEIGHBOURHOOD)
    return surroundings_of(torch.cat([codes, torch.ones_like(codes[..., :KNOWN])], -1), centre, c)
