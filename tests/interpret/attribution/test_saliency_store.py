"""Stored saliency maps: what is written is read again, within half a level of 8 bits."""

import numpy as np
import pytest
import torch

from common.runs import UsageError
from interpret.attribution.env_gradients import compare_paths, describe_comparison, held_map
from interpret.attribution.saliency_store import (
    LEVELS,
    SaliencyStore,
    encode_gradients,
    quantize,
    write_batch,
    write_facts,
)

S, H, W, C, D = 3, 4, 5, 3, 6


def gradients_of(batch: int, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "frames": torch.randn(S, batch, H, W, C, generator=draw),
        "hidden": torch.randn(S + 1, batch, D, generator=draw),
    }


@pytest.fixture
def store(tmp_path):
    write_facts(tmp_path, {"functions": ["value", "done"], "batches": [[7, 3], [5]], "step": 2})
    for index, samples in enumerate([[7, 3], [5]]):
        arrays = {"sample": torch.tensor(samples), "action": torch.tensor(samples)[:, None]}
        for seed, name in enumerate(["value", "done"]):
            arrays |= encode_gradients(name, gradients_of(len(samples), 10 * index + seed))
        write_batch(tmp_path, index, arrays)
    return SaliencyStore.open(tmp_path)


def test_samples_and_functions_are_listed_in_order(store):
    assert store.samples == (7, 3, 5)
    assert store.functions == ("value", "done")


@pytest.mark.parametrize(("sample", "batch", "row"), [(7, 0, 0), (3, 0, 1), (5, 1, 0)])
def test_a_map_is_the_gradient_summed_over_channels(store, sample, batch, row):
    exact = gradients_of([2, 1][batch], 10 * batch + 1)["frames"].sum(-1)[:, row].numpy()
    half_a_level = np.abs(exact).max() / LEVELS / 2
    np.testing.assert_allclose(store.map(sample, "done"), exact, atol=1.001 * half_a_level)
    assert store.map(sample, "done").dtype == np.float32


def test_the_largest_magnitude_of_a_clip_is_exact(store):
    exact = gradients_of(2, 0)["frames"].sum(-1)[:, 1].abs().max()
    assert np.abs(store.map(3, "value")).max() == pytest.approx(float(exact), rel=1e-6)


def test_hidden_gradients_are_read_in_half_precision(store):
    exact = gradients_of(2, 0)["hidden"][:, 1].numpy()
    np.testing.assert_allclose(store.hidden_gradient(3, "value"), exact, rtol=1e-3)


def test_a_clip_is_of_its_sample(store):
    assert [int(store.clip(sample)["action"][0]) for sample in (7, 3, 5)] == [7, 3, 5]


def test_a_map_of_zeros_is_zero():
    maps, scale = quantize(torch.zeros(1, 1, 2, 2))
    assert scale.tolist() == [0]
    assert not maps.any()


def test_full_gradients_are_kept_on_request():
    gradients = gradients_of(2, 0)
    assert "frames/value" not in encode_gradients("value", gradients)
    kept = encode_gradients("value", gradients, keep_float=True)["frames/value"]
    torch.testing.assert_close(kept, gradients["frames"].transpose(0, 1))


def test_gradients_too_large_for_half_precision_stay_finite():
    gradients = {"hidden": torch.full((1, 1, 1), 1e6)}
    assert encode_gradients("value", gradients)["hx/value"].item() == 65504


def test_what_is_missing_is_named(store, tmp_path):
    with pytest.raises(UsageError, match="no sample 4 in .*; it has 7, 3, 5"):
        store.map(4, "value")
    with pytest.raises(UsageError, match="no function 'speed' in .*; it has value, done"):
        store.map(7, "speed")
    with pytest.raises(UsageError, match="saliency_exps.py"):
        SaliencyStore.open(tmp_path / "nothing")
    (tmp_path / "batch_1.safetensors").unlink()
    with pytest.raises(UsageError, match="unfinished"):
        SaliencyStore.open(tmp_path).clip(5)


def test_maps_by_path_are_compared(tmp_path):
    """Agent and mixed path are orthogonal and equally long: without the mixed one the map turns by 45°."""
    parts = {"agent": [3.0, 0.0], "environment": [0.0, 0.0], "mixed": [0.0, 3.0]}
    maps = {"value": [3.0, 3.0]} | {f"value@{path}": part for path, part in parts.items()}
    facts = {"functions": list(maps), "batches": [[0, 1]], "step": 0, "source": {"level": [7, 8]}}
    write_facts(tmp_path, facts)
    arrays = {}
    for name, values in maps.items():
        frames = torch.tensor(values).view(1, 1, 1, 2, 1).expand(1, 2, 1, 2, 1)
        arrays |= encode_gradients(name, {"frames": frames})
    write_batch(tmp_path, 0, arrays)
    store = SaliencyStore.open(tmp_path)
    found = compare_paths(store)["value"]
    assert found["cosine"]["mean"] == pytest.approx(2**-0.5, rel=1e-3)
    shares = [found[f"share of the {path} path"]["mean"] for path in parts]
    assert shares == pytest.approx([0.5, 0, 0.5], rel=1e-3)
    assert found["cosine"]["clusters"] == 2
    assert held_map(store, 1, "value").ravel().tolist() == pytest.approx([3, 0])
    words = describe_comparison(found)
    assert words.startswith("cosine 0.71 (2 samples of 2 levels) between the maps with")  # too few levels
    found["cosine"] |= {"low": 0.5, "high": 0.9, "clusters": 5}
    words = describe_comparison(found)
    assert words.startswith("cosine 0.71 [0.50, 0.90] (95%, 2 samples of 5 levels) between the maps with")
    assert words.endswith("norm by path: agent 50%, mixed 50%")
    assert describe_comparison({"cosine": None}).startswith("no cosine")
