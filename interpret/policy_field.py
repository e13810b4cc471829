"""What a policy does and expects at many frames, each seen from a start without memory."""

from typing import NamedTuple

import numpy as np
import torch

from common.policy import Policy
from envs.vecenv import class_probabilities


class PolicyField(NamedTuple):
    """Of P frames: probabilities [P, J] of effect classes, by ascending representative, value [P] (NaN
    without a value head), and the hidden state [P, D] that the agent remembers.
    """

    probabilities: np.ndarray
    value: np.ndarray
    hidden: np.ndarray

    def expected_move(self, moves: np.ndarray) -> np.ndarray:
        """Mean move [P, 2] of the policy, of moves [J, 2] by class."""
        return self.probabilities @ moves


@torch.inference_mode()
def policy_field(policy: Policy, frames: np.ndarray, repeats: int, effect_classes, batch: int) -> PolicyField:
    """The policy after each frame, seen `repeats` times in a row, first as the first of an episode: what it
    does once it has stood there for as long.

    Args:
        policy: acts; its state is a tensor [N, D].
        frames: [P, H, W, C] uint8.
        repeats: 1 or more.
        effect_classes: representative of each action [A].
        batch: frames at a time.
    """
    parts = [
        _at(policy, frames[at : at + batch], repeats, effect_classes) for at in range(0, len(frames), batch)
    ]
    return PolicyField(*map(np.concatenate, zip(*parts)))


def _at(policy: Policy, frames: np.ndarray, repeats: int, effect_classes) -> PolicyField:
    state = policy.initial_state(len(frames))
    shown = torch.from_numpy(np.ascontiguousarray(frames)).to(state.device)
    reward = torch.zeros(len(frames), device=state.device)
    for i in range(repeats):
        first = torch.full((len(frames),), i == 0, device=state.device)
        state = policy.advance(shown, state, first, reward)
    logits, value = policy.heads(state)
    value = torch.full((len(frames),), torch.nan) if value is None else value
    chances = class_probabilities(logits.double().cpu().numpy(), effect_classes)
    hidden = policy.hidden(state).float().cpu().numpy()
    return PolicyField(chances, value.double().cpu().numpy(), hidden)
