"""The Directions object: scores, edits and gradients, linear and nonlinear, and files that refuse damage."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint
from common.runs import UsageError
from interpret.directions.directions import Directions, keep_largest, load_directions, save_directions
from interpret.directions.fitting import write_columns
from interpret.directions.pca import fit_pca

WIDTH = 7
COUNT = 3
torch.manual_seed(0)
X = torch.randn(20, WIDTH, dtype=torch.float64)


def linear() -> Directions:
    read = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Directions(
        read,
        torch.tensor([0.3, -1.0, 2.0]),
        torch.linalg.pinv(read),
        torch.zeros(WIDTH),
        ("a", "b", "c"),
        {"method": "made"},
    )


def dictionary() -> Directions:
    generator = torch.Generator().manual_seed(2)
    read, write = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((10, WIDTH), (WIDTH, 10))
    )
    return Directions(
        read,
        torch.full((10,), 0.1),
        write,
        torch.ones(WIDTH),
        [f"unit_{i}" for i in range(10)],
        {"method": "made"},
        top=2,
    )


BOTH = pytest.mark.parametrize("make", [linear, dictionary], ids=["linear", "dictionary"])


def test_scores_are_read_x_plus_offset():
    found = linear()
    expected = np.einsum("kd,nd->nk", found.read.numpy(), X.numpy()) + found.offset.numpy()
    np.testing.assert_allclose(found.scores(X).numpy(), expected)
    assert found.linear
    assert len(found) == COUNT
    assert found.width == WIDTH


def test_a_dictionary_keeps_its_largest_positive_scores():
    found = dictionary()
    drive = (X @ found.read.T + found.offset).numpy()
    for kept, row in zip(found.scores(X).numpy(), drive):
        best = np.argsort(-row)[:2]
        expected = np.zeros(10)
        expected[best] = np.maximum(row[best], 0)
        np.testing.assert_allclose(kept, expected)
    assert keep_largest(torch.tensor([-3.0, -1.0, -2.0]), 2).tolist() == [
        0,
        0,
        0,
    ]  # large in size is not large
    assert not found.linear


@BOTH
def test_an_edit_adds_write_columns_and_is_no_reconstruction(make):
    found = make()
    scores = found.scores(X)
    assert torch.equal(found.edit(X, scores), X)  # nothing asked, nothing changed, to the bit
    assert torch.equal(found.edit(X.float(), found.scores(X.float())), X.float())
    asked = scores.clone()
    asked[:, 1] += 2.5
    torch.testing.assert_close(found.edit(X, asked), X + 2.5 * found.write[:, 1])
    assert not torch.allclose(found.edit(X, scores), found.reconstruct(scores))


def test_writing_one_score_leaves_the_others_unchanged():
    found = linear()
    torch.testing.assert_close(found.read @ found.write, torch.eye(COUNT, dtype=torch.float64))
    asked = found.scores(X)
    asked[:, 0] = 9.0
    torch.testing.assert_close(found.scores(found.edit(X, asked)), asked)


@BOTH
def test_an_edit_keeps_precision_and_shape(make):
    found = make()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = X.to(dtype).reshape(4, 5, WIDTH)
        assert found.scores(x).shape == (4, 5, len(found))
        assert found.scores(x).dtype != torch.bfloat16
        edited = found.edit(x, found.scores(x) + 1)
        assert edited.dtype == dtype
        assert edited.shape == x.shape
        assert not torch.equal(edited, x)


def downstream(x):
    return (x.tanh() @ torch.arange(1.0, WIDTH + 1, dtype=x.dtype)).square().sum()


@BOTH
def test_gradients_in_scores_agree_with_autograd_and_finite_differences(make):
    found = make()
    x = X.clone().requires_grad_()
    (by_x,) = torch.autograd.grad(downstream(x), x)
    by_rule = found.score_gradients(by_x)
    written = found.scores(X).detach().requires_grad_()
    (by_autograd,) = torch.autograd.grad(downstream(found.edit(X, written)), written)
    torch.testing.assert_close(by_rule, by_autograd)
    step = 1e-6
    base = found.scores(X)
    for k in range(len(found)):
        moved = torch.zeros_like(base)
        moved[3, k] = step
        difference = (downstream(found.edit(X, base + moved)) - downstream(found.edit(X, base - moved))) / (
            2 * step
        )
        torch.testing.assert_close(by_rule[3, k], difference, rtol=1e-5, atol=1e-5)
    wrong = by_x @ found.read.T  # the mutant: rows that read, in place of columns that write
    assert not torch.allclose(wrong, by_autograd, rtol=0.1)


@BOTH
def test_scores_are_differentiable_in_x(make):
    found = make()
    assert torch.autograd.gradcheck(lambda x: found.scores(x), X[:4].clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x: found.edit(x, torch.ones(4, len(found), dtype=torch.float64)),
        X[:4].clone().requires_grad_(),
    )


@BOTH
def test_a_saved_set_loads_unchanged(make, tmp_path):
    found = make().with_provenance(store="0123", site="core.cell")
    save_directions(tmp_path / "set.safetensors", found)
    again = load_directions(tmp_path / "set.safetensors")
    assert again.id == found.id
    assert again.names == found.names
    assert again.top == found.top
    assert again.provenance == {"method": "made", "store": "0123", "site": "core.cell"}
    assert torch.equal(again.scores(X), found.scores(X))
    assert torch.equal(again.edit(X, again.scores(X) + 1), found.edit(X, found.scores(X) + 1))


def test_the_id_is_of_the_numbers_and_names():
    found = linear()
    assert found.id == linear().id == found.with_provenance(site="x").id
    others = [
        Directions(found.read + 1e-9, found.offset, found.write, found.origin, found.names),
        Directions(found.read, found.offset, found.write, found.origin, ("a", "b", "d")),
        Directions(found.read, found.offset, found.write, found.origin, found.names, top=1),
    ]
    assert len({found.id, *(other.id for other in others)}) == 4


def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    save_directions(path, linear())
    tensors, meta = load_checkpoint(path)

    def refused(why, tensors=tensors, **changed):
        save_checkpoint(path, tensors, meta | changed)
        with pytest.raises(BadCheckpoint, match=why) as error:
            load_directions(path)
        assert "\n" not in str(error.value)

    refused("holds 'agent', not directions", kind="agent")
    refused("of version 99", version=99)
    refused("does not hold whole directions", names=["a"])
    refused(
        "does not hold whole directions", tensors={name: x for name, x in tensors.items() if name != "write"}
    )
    refused("does not hold whole directions", tensors=tensors | {"write": tensors["write"].T})
    refused("not those that were saved", tensors=tensors | {"write": tensors["write"] + 1e-3})
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(BadCheckpoint, match="not written by Worldlens"):
        load_directions(path)
    path.write_bytes(b"{}" + json.dumps(meta).encode())
    with pytest.raises(BadCheckpoint, match="not a whole safetensors file"):
        load_directions(path)


def test_tensors_of_inconsistent_shapes_are_refused():
    found = linear()
    with pytest.raises(ValueError, match="need write of shape"):
        Directions(found.read, found.offset, found.read, found.origin, found.names)
    with pytest.raises(ValueError, match="different names"):
        Directions(found.read, found.offset, found.write, found.origin, ("a", "a", "b"))
    with pytest.raises(ValueError, match="not finite"):
        Directions(found.read * torch.nan, found.offset, found.write, found.origin, found.names)
    with pytest.raises(AttributeError):
        found.names = ("x", "y", "z")
    assert found.index("b") == 1
    with pytest.raises(UsageError, match="no direction 'z'; this set has: a, b, c"):
        found.index("z")


def test_a_set_within_a_wider_space_leaves_other_features_unchanged():
    narrow = linear()
    columns = [0, 2, 3, 4, 6, 7, 9]
    wide = narrow.within(columns, 10)
    x = torch.randn(5, 10, dtype=torch.float64)
    torch.testing.assert_close(wide.scores(x), narrow.scores(x[:, columns]))
    edited = wide.edit(x, wide.scores(x) + 1)
    torch.testing.assert_close(
        edited[:, columns], narrow.edit(x[:, columns], narrow.scores(x[:, columns]) + 1)
    )
    assert torch.equal(edited[:, [1, 5, 8]], x[:, [1, 5, 8]])


def test_both_kinds_of_write_columns_invert_the_rows_and_differ():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH))
    read = rng.normal(size=(COUNT, WIDTH))
    covariance = np.cov(x.T)
    pinv, pattern = (write_columns(read, covariance, kind) for kind in ("pseudo-inverse", "pattern"))
    for columns in (pinv, pattern):
        np.testing.assert_allclose(read @ columns, np.eye(COUNT), atol=1e-9)
    assert np.linalg.norm(pinv) < np.linalg.norm(pattern)  # the smallest edits
    s = (x - x.mean(0)) @ read.T
    regression = np.linalg.lstsq(s, x - x.mean(0), rcond=None)[
        0
    ].T  # independently: patterns predict x from its scores
    np.testing.assert_allclose(pattern, regression, atol=1e-8)
    with pytest.raises(UsageError, match="span only 2 of 3 dimensions"):
        write_columns(read[[0, 1, 1]], covariance, "pattern")
    with pytest.raises(UsageError, match="reads nothing"):
        write_columns(read * [[1], [0], [1]], covariance, "pattern")
    with pytest.raises(UsageError, match="unknown kind"):
        write_columns(read, covariance, "transpose")


def test_the_first_directions_keep_their_provenance():
    whole = fit_pca(np.random.default_rng(0).normal(size=(200, 5)), np.arange(200) // 10, 5).with_provenance(
        stability={"median": [1, 2, 3, 4, 5]}
    )
    few = whole.first(2)
    x = torch.randn(3, 5)
    assert few.names == whole.names[:2]
    assert few.provenance["stability"]["median"] == [1, 2]
    assert few.provenance["variance"] == whole.provenance["variance"][:2]
    assert torch.equal(few.scores(x), whole.scores(x)[:, :2])
