"""Adapter that makes a Policy of a network trained elsewhere."""

from collections.abc import Callable

import torch
from torch import nn

from common.policy import CategoricalPolicy
from common.runs import UsageError

LAYOUTS = ("NCHW", "NHWC")


class ForeignAgent(CategoricalPolicy, nn.Module):
    """A Policy built from two or three functions of a network; see docs/your_agent.md.

    Args:
        num_actions: A.
        state_size: S.
        encode: images -> features [N, F].
        heads: state [N, S] -> (logits [N, A], value [N] or [N, 1] or None).
        step: (features [N, F], state [N, S]) -> next state [N, S]; None for a feed-forward agent, whose state
            is its features. An LSTM's state is `torch.cat([h, c], -1)`.
        initial: state [S] before an episode's first frame; zeros if None.
        layout: of the images, NCHW or NHWC.
        scale: largest pixel value, 1 or 255.
        network: module that owns the weights, so that `.to(device)`, `.parameters()` and `.eval()` reach
            them.
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
        """Converts frames [N, H, W, C], uint8 or float in [0, 1], to the network's layout and scale;
        differentiable.
        """
        scaled = obs.float() * (self.scale / 255) if obs.dtype == torch.uint8 else obs * self.scale
        return scaled.permute(0, 3, 1, 2) if self.layout == "NCHW" else scaled
