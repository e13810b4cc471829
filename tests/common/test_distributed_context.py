"""What processes exchange: sums, joined tensors and byte strings, the same on every process."""

import socket

import pytest
import torch
from torch import distributed, multiprocessing

from common.distributed import DistContext
from generative.training.errors import masked_mean, means_over, ragged_mean

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
MASK = torch.tensor([[True, False, True], [True, True, True]])


def exchange(rank: int, port: int, out) -> None:
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    ranks = DistContext(rank, 2)
    x = X[rank].clone().requires_grad_()
    with means_over(ranks):
        mean = masked_mean(x.square(), MASK[rank])
        ragged = ragged_mean(X[rank][: rank + 1])
    mean.backward()
    out[rank] = {
        "sum": ranks.sum(torch.tensor(rank + 1)).item(),
        "rows": ranks.gather(X[rank : rank + 1]).tolist(),
        "columns": ranks.gather(MASK[rank : rank + 1], 1).tolist(),
        "bytes": ranks.gather_bytes([bytes([rank] * (3 + rank)), b"x"]),
        "mean": ranks.mean({"mean": mean.item(), "ragged": ragged.item()}),
        "gradient": (x.grad / 2).tolist(),
    }
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def exchanged():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.Manager() as manager:
        out = manager.dict()
        multiprocessing.spawn(exchange, (port, out), 2)
        yield dict(out)


def test_every_process_has_the_same(exchanged):
    for name in ("sum", "rows", "columns", "bytes", "mean"):
        assert exchanged[0][name] == exchanged[1][name], name


def test_tensors_and_bytes_are_joined_in_order(exchanged):
    found = exchanged[0]
    assert found["sum"] == 3
    assert found["rows"] == X.tolist()
    assert found["columns"] == [MASK.flatten().tolist()]
    assert found["bytes"] == [b"\0\0\0", b"x", b"\1\1\1\1", b"x"]


def test_means_and_their_gradients_are_over_the_elements_of_all_processes(exchanged):
    x = X.clone().requires_grad_()
    mean = masked_mean(x.square(), MASK)
    mean.backward()
    assert exchanged[0]["mean"]["mean"] == pytest.approx(mean.item())
    assert exchanged[0]["mean"]["ragged"] == pytest.approx((1 + 4 + 5) / 3)
    together = torch.tensor([exchanged[rank]["gradient"] for rank in range(2)])
    torch.testing.assert_close(together, x.grad)
