"""Dropout whose masks are those of the whole batch, however many processes share it."""

import torch
from torch import nn

from common.distributed import DistContext


class Dropout(nn.Module):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p), in training.

    `ranks` is this process's place in the group: every process draws the masks of the whole batch, from one
    seed, and takes those of its own windows.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.ranks = DistContext()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.p):
            return x
        keep = torch.empty(len(x) * self.ranks.size, *x.shape[1:], device=x.device, dtype=x.dtype)
        return x * keep.bernoulli_(1 - self.p)[self.ranks.mine] / (1 - self.p)


def share_dropout(model: nn.Module, ranks: DistContext) -> None:
    """Gives every Dropout of a model its place in the group."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.ranks = ranks
