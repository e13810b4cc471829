"""Memory that a forward pass keeps for its backward passes."""

from collections.abc import Callable

import torch

from interpret.attribution.trace import Trace


def graph_bytes(make_trace: Callable[[], Trace]) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trace = make_trace()
    del trace
    return sum(kept.values())
