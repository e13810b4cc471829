"""The state of the simulated environment at one step."""

from typing import NamedTuple

import torch


class EnvState(NamedTuple):
    """The environment's state, [B, ...] each.

    vector [B, V]: recurrent state in (-1, 1) of what the picture does not show. canvas [B, G, G, K + 1]: tile
    codes of the world around the view, and which of them are known (canvas.py). position [B, 2]: of the
    frame's top-left corner in the world, in pixels. motion [B, 2]: pixels, down and right, by which the
    picture moved on the way to this state. pose [B, P]: of the player's sprite. logits, sample [B, G', C]:
    log-probabilities and a sample (one-hot; the probabilities in relaxed mode) of the categorical variable
    that draws each tile that comes into view. outcome [B, bins + 1]: logits of reward and end of the action
    that led here. frame [B, H, W, C]: decoded, around [0, 1]; of size 0 where it
    is not decoded.
    """

    vector: torch.Tensor
    canvas: torch.Tensor
    position: torch.Tensor
    motion: torch.Tensor
    pose: torch.Tensor
    logits: torch.Tensor
    sample: torch.Tensor
    outcome: torch.Tensor
    frame: torch.Tensor


def as_coordinates(state: EnvState) -> EnvState:
    """The state with vector, canvas, position, motion and pose as graph nodes of their own.

    Within a step they are computed from one another, the position from the motion for example. What follows
    depends on these nodes alone, so that gradients with respect to them are those of a point in state space.
    """
    parts = ("vector", "canvas", "position", "motion", "pose")
    return state._replace(**{name: getattr(state, name).view_as(getattr(state, name)) for name in parts})


def stack_states(states: list[EnvState]) -> EnvState:
    """States of successive steps as one time-major state."""
    return EnvState(*(torch.stack(parts) for parts in zip(*states)))


def no_frame(like: torch.Tensor) -> torch.Tensor:
    """The `frame` of states that are not decoded: [..., 0] for motions [..., 2]."""
    return like.new_zeros(*like.shape[:-1], 0)
