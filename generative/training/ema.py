"""Exponential moving average of a model's weights, which validation, checkpoints and simulations use."""

import copy

import torch


class EMA:
    """An averaged copy of a model.

    decay: fraction of the average that is kept at each update; after n updates at most (1 + n) / (10 + n).
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: torch.nn.Module, updates: int) -> None:
        """Moves the average towards the model's weights; updates: how many updates there were, this one
        included.
        """
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
