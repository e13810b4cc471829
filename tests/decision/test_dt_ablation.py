"""Resampling ablation: each input's effect is that of replacing it, and nothing else."""

import numpy as np
import pytest
import torch

from common.errors import UsageError
from decision.ablation import ablation_effects, ablation_scores
from tests.helpers.decision.toy_decision import random_batch, small_model
from tests.helpers.made_store import make_store

DONOR = torch.tensor([3, 0, 1, 2])


def test_effects_are_kl_divergences_of_replaced_inputs():
    model, batch = small_model(), random_batch(4, 6)
    found = ablation_effects(model, batch, DONOR)
    assert list(found) == ["return_to_go", "state", "action"]
    batch.state = batch.state[DONOR]
    own, other = (torch.softmax(model(b)[:, -1], -1) for b in (random_batch(4, 6), batch))
    kl = (own * (own / other).log()).sum(-1)
    torch.testing.assert_close(found["state"]["kl"], kl.detach(), rtol=1e-3, atol=1e-4)
    assert torch.equal(found["state"]["changed"], own.argmax(-1) != other.argmax(-1))
    assert all((effect["kl"] > 1e-4).any() for effect in found.values())


def test_a_model_that_ignores_returns_has_no_effect_of_them():
    model, batch = small_model(), random_batch(4, 6)
    with torch.no_grad():
        model.embed.return_to_go.weight.zero_()
    found = ablation_effects(model, batch, DONOR)
    assert not found["return_to_go"]["kl"].abs().max() > 1e-6
    assert not found["return_to_go"]["changed"].any()
    assert found["state"]["kl"].max() > 1e-3


def test_a_clone_has_no_returns():
    found = ablation_effects(small_model(model_type="clone_transformer"), random_batch(4, 6), DONOR)
    assert list(found) == ["state", "action"]


def test_padded_windows_are_refused():
    with pytest.raises(ValueError, match="padded"):
        ablation_effects(small_model(), random_batch(2, 6, padded=[0, 1]), torch.tensor([1, 0]))


def test_scores_are_means_over_windows_of_a_store_with_intervals(tmp_path):
    store = make_store(tmp_path / "store", [12, 3, 9, 8, 9, 7, 8], [30, 8, 5, 30, 30, 30, 30])
    model = small_model(state_embedding="patches")
    found = ablation_scores(model, store)
    assert found == ablation_scores(model, store)
    assert found != ablation_scores(model, store, seed=1)
    assert list(found) == ["return_to_go", "state", "action"]
    for effect in found.values():
        assert effect["kl"][1] <= effect["kl"][0] <= effect["kl"][2]
        assert effect["kl"][0] > 1e-3
        assert 0 <= effect["changed"][0] <= 1
    few = make_store(tmp_path / "few", [12, 3, 9], [30, 8, 5])  # too few levels for intervals
    assert all(effect["kl"][1:] == [None, None] for effect in ablation_scores(model, few).values())
    with torch.no_grad():
        model.embed.return_to_go.weight.zero_()
    assert np.abs(ablation_scores(model, store)["return_to_go"]["kl"]).max() < 1e-6


def test_stores_that_do_not_fit_are_refused(tmp_path):
    store = make_store(tmp_path / "store", [4, 3, 2])
    with pytest.raises(UsageError, match="other actions or frames"):
        ablation_scores(small_model(num_actions=4), store)
    with pytest.raises(UsageError, match="has the 9 steps of the model's context"):
        ablation_scores(small_model(context_length=9, state_embedding="patches"), store)
