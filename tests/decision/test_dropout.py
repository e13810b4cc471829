"""Dropout: processes that share a batch have its masks."""

import torch

from common.distributed import DistContext
from decision.dropout import Dropout, share_dropout

X = torch.arange(1.0, 25).view(6, 4)


def dropped(ranks: DistContext, p: float = 0.5) -> torch.Tensor:
    layer = Dropout(p).train()
    share_dropout(layer, ranks)
    torch.manual_seed(3)
    return layer(X[ranks.mine])


def test_processes_have_the_masks_of_the_whole_batch():
    whole = dropped(DistContext())
    for size in (2, 3):
        for rank in range(size):
            assert torch.equal(dropped(DistContext(rank, size)), whole[rank::size])
    assert not torch.equal(whole, X)


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    whole = dropped(DistContext(), 0.25)
    kept = whole != 0
    torch.testing.assert_close(whole[kept], X[kept] / 0.75)
    torch.manual_seed(0)
    many = Dropout(0.25).train()(torch.ones(200, 200))
    assert abs(many.mean() - 1) < 0.02


def test_without_training_or_probability_nothing_is_dropped():
    assert torch.equal(Dropout(0.5).eval()(X), X)
    assert torch.equal(Dropout(0.0).train()(X), X)
