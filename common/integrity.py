"""Integrity of saved tensors: checksums, finite values, and memory limits on what a file may request."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

from common.errors import BadCheckpoint, UsageError

SLACK = 2**24
"""Elements that building a network may allocate beyond its weights."""
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def checksum(tensors: Mapping[str, torch.Tensor], description: str) -> str:
    """SHA-256 of contiguous CPU tensors (names, dtypes, shapes, bytes) and a description."""
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
    """Raises ValueError if networks built inside allocate more than `numbers` elements in total.

    The allocation itself does not happen.
    """
    with _Budget(numbers):
        yield


@contextmanager
def within_memory(source: str) -> Iterator[None]:
    """Raises UsageError if networks built inside request more than the machine's memory."""
    try:
        with at_most(machine_memory() // 4):
            yield
    except TooLarge as error:
        raise UsageError(f"{source}: {error}; lower them") from error


def check_memory(size: int, source: str) -> None:
    """Raises UsageError if `size` bytes exceed the machine's memory."""
    if size > machine_memory():
        raise UsageError(
            f"{source} takes {size / 2**30:,.0f} GiB, and this machine has"
            f" {machine_memory() / 2**30:,.0f} GiB of memory; ask for less"
        )


def machine_memory() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class TooLarge(ValueError):
    """A network under construction requests more memory than allowed."""


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
    """The shape passed to a tensor factory: one sequence, or leading integers."""
    given = args[0] if args and isinstance(args[0], tuple | list | torch.Size) else args
    return tuple(size for size in given if isinstance(size, int))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor flattened with stride 1 (a single element may have stride 0, which cannot be viewed as
    bytes).
    """
    flat = tensor.reshape(-1)
    return flat if flat.stride(0) == 1 else flat.new_empty(flat.shape).copy_(flat)
