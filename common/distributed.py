"""Data-parallel training with torchrun: each process has its own windows, gradients are averaged, the first
process writes.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from common.errors import one_line
from common.runs import Run, UsageError

PATIENCE = timedelta(days=1)
"""How long processes wait for one that encodes or scores for all; one that ends is noticed at once."""


@dataclass(frozen=True)
class DistContext:
    """This process's place in the group; by default it is alone. Every method returns the same on all
    processes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def mine(self) -> slice:
        """This process's windows of a batch: every size-th."""
        return slice(self.rank, None, self.size)

    def block(self, count: int) -> slice:
        """This process's of `count` things that are dealt out in blocks, in order of rank."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The sum over processes of a tensor without gradients."""
        if self.size == 1:
            return x
        total = x.detach().to(self.device, copy=True)
        with _all_present():
            distributed.all_reduce(total)
        return total.to(x.device)

    def gather(self, x: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """The processes' tensors of one shape, joined along a dimension in order of rank."""
        if self.size == 1:
            return x
        own = (x.byte() if x.dtype == torch.bool else x).to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with _all_present():
            distributed.all_gather(parts, own)
        return torch.cat(parts, dim).to(x.device, x.dtype)

    def gather_bytes(self, items: list[bytes]) -> list[bytes]:
        """The processes' byte strings, as many of each, in order of rank."""
        if self.size == 1:
            return items
        lengths = self.gather(torch.tensor([len(item) for item in items]))
        padded = torch.zeros(len(items), int(lengths.max()), dtype=torch.uint8)
        for row, item in zip(padded, items):
            row[: len(item)] = torch.frombuffer(bytearray(item), dtype=torch.uint8)
        return [row[:length].numpy().tobytes() for row, length in zip(self.gather(padded), lengths.tolist())]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each number over the processes; not finite where any of them is not."""
        if self.size == 1:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        with _all_present():
            distributed.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist()))

    def average_gradients(self, parameters) -> None:
        """Replaces every gradient by its mean over the processes, in one all-reduce."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _all_present():
            distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view_as(gradient))  # which keeps its layout in memory

    def broadcast(self, text: str) -> str:
        """The first process's text."""
        if self.size == 1:
            return text
        length = torch.tensor([len(text.encode())], device=self.device)
        with _all_present():
            distributed.broadcast(length, 0)
        characters = list(text.encode()) if self.first else [0] * int(length)
        message = torch.tensor(characters, dtype=torch.uint8, device=self.device)
        with _all_present():
            distributed.broadcast(message, 0)
        return bytes(message.tolist()).decode()

    def check_batch(self, size: int, name: str = "batch_size") -> None:
        """Raises UsageError where a batch of this size does not divide evenly among the processes."""
        if size % self.size:
            raise UsageError(
                f"{name} {size} does not divide evenly among {self.size} processes; make it a "
                f"multiple of {self.size}"
            )

    def leave(self) -> None:
        """Leaves the process group; no method may be called afterwards."""
        if self.size > 1:
            distributed.destroy_process_group()


@contextmanager
def _all_present() -> Iterator[None]:
    """Raises UsageError where another process of the group has ended, which PyTorch reports in many ways."""
    try:
        yield
    except RuntimeError as error:
        raise UsageError(
            f"another process of this job ended ({one_line(error).partition('. ')[0][:200]}): run the same"
            " command again; it goes on from what was saved"
        ) from error


def join_ranks(device: torch.device) -> DistContext:
    """Joins the group that torchrun's environment variables describe.

    On GPUs it uses NCCL and one GPU per process of a machine, otherwise gloo.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return DistContext(device=device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # its functions take the group as a default: imported later, as by an optimiser, they would keep it, and
    # its threads, beyond `leave`, and now and then a process would abort as it ends
    from torch.distributed.nn import functional  # noqa: F401

    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return DistContext(distributed.get_rank(), distributed.get_world_size(), device)


@contextmanager
def joined(device: torch.device, log_level: int) -> Iterator[DistContext]:
    """The group while it is entered. Only the first process logs what is no warning.

    After an error, processes on GPUs do not leave the group: that would wait for the others.
    """
    ranks = join_ranks(device)
    if not ranks.first:
        logging.getLogger().setLevel(max(log_level, logging.WARNING))
    try:
        yield ranks
    except BaseException:
        if ranks.device.type == "cpu":
            ranks.leave()
        raise
    ranks.leave()


def finish_run(ranks: DistContext, run: Run, found: dict) -> None:
    """Records the end of a run, for which the other processes wait.

    Args:
        ranks: this process's place.
        run: the run.
        found: what its done.json says, in the first process.
    """
    if ranks.first:
        run.finish(found)
        logging.info("done: %s", run.dir)
    ranks.broadcast("recorded")


def shared_run(ranks: DistContext, find: Callable[[], Run]) -> Run:
    """The run directory, found or created by the first process and shared with the others."""
    if not ranks.first:
        return Run(Path(ranks.broadcast("")), resumed=True, precision=ranks.broadcast(""))
    run = find()
    ranks.broadcast(str(run.dir))
    ranks.broadcast(run.precision)
    return run
