"""The exponential moving average of a model's weights: what is validated, saved and simulated with."""

import copy

import torch


class EMA:
    """decay: how much of the average stays at each update, once it is warm; after n updates it is at most (1
    + n) / (10 + n).
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: torch.nn.Module, updates: int) -> None:
        """Takes in the model's weights after so many updates."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
