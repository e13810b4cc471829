"""Whether tensors are what was written: a checksum over names, types, shapes and bytes; and whether they can
be loaded at all.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

from common.errors import BadCheckpoint, UsageError

SLACK = 2**24
"""Numbers that building a network may ask for beyond its weights."""
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def checksum(tensors: Mapping[str, torch.Tensor], description: str) -> str:
    """A hash of contiguous CPU tensors, with their names, types and shapes, and of a description."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(_flat(tensor).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_finite(tensors: Mapping[str, torch.Tensor], source: object) -> None:
    """Raises BadCheckpoint for the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise BadCheckpoint(f"{source} is damaged: {name} holds NaN or infinity; take another checkpoint")


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Within it, ValueError is raised where a network under construction asks for more than so many numbers
    in all, before it has the memory.
    """
    with _Budget(numbers):
        yield


@contextmanager
def within_memory(source: str) -> Iterator[None]:
    """Within it, UsageError is raised where a network under construction asks for more than the machine's
    memory.
    """
    try:
        with at_most(machine_memory() // 4):
            yield
    except TooLarge as error:
        raise UsageError(f"{source}: {error}; lower them") from error


def check_memory(size: int, source: str) -> None:
    """Raises UsageError for a demand of more bytes than the machine has."""
    if size > machine_memory():
        raise UsageError(
            f"{source} takes {size / 2**30:,.0f} GiB, and this machine has {machine_memory() / 2**30:,.0f} GiB of memory; ask for less"
        )


def machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class TooLarge(ValueError):
    """More memory would be asked for than is allowed."""


class _Budget(TorchFunctionMode):
    def __init__(self, numbers: int):
        super().__init__()
        self.total = self.left = numbers

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _FACTORIES:
            self.left -= math.prod(_shape(args))
            if self.left < 0:
                raise TooLarge(
                    f"the sizes ask for more than the {self.total:,} numbers that there is room for"
                )
        return func(*args, **(kwargs or {}))


def _shape(args: tuple) -> tuple[int, ...]:
    """The shape that a factory was asked for: one sequence, or the leading whole numbers."""
    given = args[0] if args and isinstance(args[0], tuple | list | torch.Size) else args
    return tuple(size for size in given if isinstance(size, int))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in one dimension whose stride is 1: that of a single number may be 0, which no view of its
    bytes admits.
    """
    flat = tensor.reshape(-1)
    return flat if flat.stride(0) == 1 else flat.new_empty(flat.shape).copy_(flat)
