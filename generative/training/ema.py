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
        self._pairs = self._moving = list(zip(self.model.parameters(), model.parameters()))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Moves the average towards the weights of the model it was made from; updates: how many there were,
        this one included.
        """
        average, new = zip(*self._moving)
        torch._foreach_lerp_(average, new, self._weight(updates))

    @torch.no_grad()
    def skip_settled(self, updates: int) -> None:
        """Leaves out of later updates, until the next call, the frozen weights that these would not change by
        a bit: new weights count less at each update.
        """
        weight = self._weight(updates)
        self._moving = [
            (old, new)
            for old, new in self._pairs
            if new.requires_grad or not old.equal(old.lerp(new, weight))
        ]

    def _weight(self, updates: int) -> float:
        return 1 - min(self.decay, (1 + updates) / (10 + updates))
