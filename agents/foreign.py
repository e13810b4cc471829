"""Agents from elsewhere: a thin adapter that makes a Policy of a network that this project did not train."""

from collections.abc import Callable

import torch
from torch import nn

from common.policy import CategoricalPolicy
from common.runs import UsageError

LAYOUTS = ("NCHW", "NHWC")


class ForeignAgent(CategoricalPolicy, nn.Module):
    """A Policy made of two or three functions of a network; see docs/your_agent.md.

    encode: images -> features [N, F]. heads: state [N, S] -> (logits [N, A], value [N] or [N, 1] or None).
    step: (features [N, F], state [N, S]) -> next state [N, S]; left out for an agent without memory, whose
    state is its features. An LSTM joins h and c into one state: `torch.cat([h, c], -1)`. state_size: S.
    initial: the state [S] before an episode's first frame; zeros where left out. layout: how `encode` wants
    its images. scale: their largest value, 1 or 255. network: where the weights are, so that `.to(device)`,
    `.parameters()` and `.eval()` reach them.
    """

    def __init__(
        self,
        num_actions: int,
        state_size: int,
        encode: Callable,
        heads: Callable,
        step: Callable | None = None,
        initial: torch.Tensor | None = None,
        layout: str = "NCHW",
        scale: float = 1.0,
        network: nn.Module | None = None,
    ):
        super().__init__()
        if layout not in LAYOUTS:
            raise UsageError(f"unknown layout {layout!r}; choose one of: {', '.join(LAYOUTS)}")
        self.num_actions = num_actions
        self.layout = layout
        self.scale = scale
        self.network = network
        self._encode = encode
        self._heads = heads
        self._step = step
        self.register_buffer(
            "initial", torch.zeros(state_size) if initial is None else initial.detach().float()
        )
        if self.initial.shape != (state_size,):
            raise UsageError(
                f"initial must be one state of shape ({state_size},), not {tuple(self.initial.shape)}"
            )

    def initial_state(self, n: int, target_return: float | None = None) -> torch.Tensor:
        return self.initial.expand(n, -1).clone()

    def advance(self, obs, state, first, reward):
        features = self._encode(self.images(obs))
        if self._step is None:
            return features
        return self._step(features, torch.where(first[:, None], self.initial, state))

    def heads(self, state):
        logits, value = self._heads(state)
        return logits, None if value is None else value.reshape(len(state))

    def images(self, obs: torch.Tensor) -> torch.Tensor:
        """Frames [N, H, W, C], uint8 or float in [0, 1], as the network wants them; gradients pass."""
        scaled = obs.float() * (self.scale / 255) if obs.dtype == torch.uint8 else obs * self.scale
        return scaled.permute(0, 3, 1, 2) if self.layout == "NCHW" else scaled
