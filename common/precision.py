"""Precision of convolutions: bf16 where this machine computes them faster, float32 elsewhere.

Modules have an attribute `precision`: auto, bf16 or fp32. A checkpoint's config says what the network was
trained in; a loaded network uses `auto`, the faster precision on this machine, unless `set_precision` changes
it. Linear layers outside convolutional stacks are always float32.
"""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from common.errors import UsageError

PRECISIONS = ("auto", "bf16", "fp32")
VARIABLE = "WORLDLENS_PRECISION"
"""Environment variable that fixes what `auto` means (bf16 or fp32), for jobs on several machines that must
agree.
"""
ROUNDS = 12
CLEAR = 1.8
"""Timing stops early if one precision is this many times as fast as the other.

Measured: with bf16 units, bf16 takes 0.4 to 0.8 of float32's time; emulated, 2 to 13 times. No machine lies
near 1, so the choice does not vary from run to run.
"""


class Precision(NamedTuple):
    """A requested precision (auto, bf16 or fp32), and what it resolves to on the device (bf16 or fp32)."""

    asked: str
    name: str

    def fits(self, recorded: str | None) -> bool:
        """Whether work recorded in that precision (None: unknown) satisfies the request."""
        return self.asked == "auto" or recorded in (None, self.name)

    def keep(self, recorded: str | None, place: Path) -> str:
        """Precision in which to continue `place`: the recorded one if `auto` was requested.

        Logs if this machine would have chosen another.
        """
        if self.asked != "auto" or recorded in (None, self.name):
            return self.name
        logging.info(
            "%s was begun in %s and goes on in it; this machine is faster in %s", place, recorded, self.name
        )
        return recorded


def choose_precision(asked: str, device: torch.device | str) -> Precision:
    """Resolves a requested precision on the device. Raises ValueError unless it is one of PRECISIONS."""
    if asked not in PRECISIONS:
        raise ValueError(f"unknown precision {asked!r}; choose one of: {', '.join(PRECISIONS)}")
    if asked != "auto":
        return Precision(asked, asked)
    return Precision(asked, _agreed() or ("bf16" if bf16_is_faster(torch.device(device).type) else "fp32"))


def _agreed() -> str | None:
    """The precision in the environment variable, if set. Raises UsageError unless it is bf16 or fp32."""
    name = os.environ.get(VARIABLE)
    if name and name not in PRECISIONS[1:]:
        raise UsageError(
            f"the environment variable {VARIABLE} is {name!r}: set it to bf16 or fp32, or unset it"
        )
    return name or None


def set_precision(precision: str, *networks: nn.Module) -> None:
    """Sets the precision (auto, bf16 or fp32) of the networks' convolutions; their configs are unchanged."""
    for network in networks:
        for module in network.modules():
            if hasattr(module, "precision"):
                module.precision = precision


@contextlib.contextmanager
def precision_set(precision: str, *networks: nn.Module) -> Iterator[None]:
    """Context in which the networks' convolutions have a precision; afterwards each has its own again."""
    modules = [one for network in networks for one in network.modules() if hasattr(one, "precision")]
    before = [module.precision for module in modules]
    set_precision(precision, *networks)
    try:
        yield
    finally:
        for module, own in zip(modules, before):
            module.precision = own


def autocast_context(precision: str, device_type: str):
    """Context in which convolutions run in bf16 (torch.autocast) or float32."""
    half = choose_precision(precision, device_type).name == "bf16"
    return torch.autocast(device_type, torch.bfloat16) if half else contextlib.nullcontext()


@functools.cache
def bf16_is_faster(device_type: str) -> bool:
    """Whether convolutions are faster in bf16 on this machine; timed once per process in about 50 ms.

    Capability flags do not predict it: of two CPUs with AVX512-BF16 and no AMX, one takes 0.6 and the other
    1.5 to 2 times float32's time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for a busy core would be timed with it
    try:
        with torch.inference_mode(False), torch.enable_grad():
            whole = _time_convolution(False, device_type)  # these also build the kernels
            half = _time_convolution(True, device_type)
            for _ in range(ROUNDS):
                whole, half = (
                    min(whole, _time_convolution(False, device_type)),
                    min(half, _time_convolution(True, device_type)),
                )
                if max(whole, half) > CLEAR * min(whole, half):
                    break
    finally:
        torch.set_num_threads(threads)
    return half < whole


def _time_convolution(bf16: bool, device_type: str) -> float:
    """Seconds for three 3x3 convolutions of 32 channels on 16 maps of 16 x 16, forward and backward.

    CPU seconds on a CPU, so that other processes do not matter. Draws no random numbers.
    """
    clock = time.process_time if device_type == "cpu" else time.perf_counter
    x = (
        torch.full((16, 32, 16, 16), 0.5, device=device_type)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    weight = torch.full((32, 32, 3, 3), 0.01, device=device_type, requires_grad=True)
    _synchronize(device_type)
    begun = clock()
    with torch.autocast(device_type, torch.bfloat16, enabled=bf16):
        y = x
        for _ in range(3):
            y = F.relu(F.conv2d(y, weight, padding=1))
    y.float().sum().backward()
    _synchronize(device_type)
    return clock() - begun


def _synchronize(device_type: str) -> None:
    if device_type == "cuda":
        torch.cuda.synchronize()
