"""Edits of one state: against their matrix, against each other, and on directions that are not orthogonal."""

import numpy as np
import pytest
import torch

from common.errors import UsageError
from interpret.directions.directions import Directions
from interpret.interventions.edit import Condition, Edit
from interpret.interventions.interventions import bind
from interpret.interventions.score_edits import ScoreEdits
from tests.helpers.edit_sets import COUNT, WIDTH, dictionary, oblique, orthogonal

N = 9
RNG = np.random.default_rng(5)
X = torch.from_numpy(RNG.normal(size=(N, WIDTH)).astype(np.float32))
MEMORY = torch.from_numpy(RNG.normal(size=(N, WIDTH)).astype(np.float32))
SETS = {"orthogonal": orthogonal(), "oblique": oblique()}


def apply(edits, directions: Directions, x=X, active=None, memory=MEMORY) -> torch.Tensor:
    edits = [edits] if isinstance(edits, Edit) else edits
    bound = bind(edits, {"one": directions})
    one = ScoreEdits(bound.edits, directions, {})
    acts = [torch.ones(len(x), dtype=torch.bool)] * len(edits) if active is None else active
    return one.apply(x, memory, torch.zeros(len(x), dtype=torch.long), acts)


def scores(directions: Directions, x, mode: str = "state") -> np.ndarray:
    """By loops over directions, apart from the code of Directions."""
    change = np.asarray(x, np.float64) - (np.asarray(MEMORY, np.float64) if mode == "update" else 0)
    read, offset = directions.read.numpy(), directions.offset.numpy()
    return np.stack([change @ read[k] + (offset[k] if mode == "state" else 0) for k in range(COUNT)], 1)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("mode", ["update", "state"])
@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (dict(kind="replace", directions=(0, 2), to=(3, None)), lambda s: [0, s[1], 0, s[3] + s[0]]),
        (dict(kind="replace", directions=(0, 3), to=(3, 1)), lambda s: [0, s[1] + s[3], s[2], s[0]]),
        (dict(kind="swap", directions=(0, 1), to=(2, 3)), lambda s: [s[2], s[3], s[0], s[1]]),
        (dict(kind="collapse", directions=(1, 2)), lambda s: [s[0], 0, 0, s[3]]),
        (
            dict(kind="scale", directions=(1, 3), values=(2, -0.5)),
            lambda s: [s[0], 2 * s[1], s[2], -s[3] / 2],
        ),
        (dict(kind="clamp", directions=(2, 0), values=(1.5, 4)), lambda s: [4, s[1], 1.5, s[3]]),
        (dict(kind="add", directions=(2,), values=(-0.75,)), lambda s: [s[0], s[1], s[2] - 0.75, s[3]]),
    ],
    ids=lambda x: x["kind"] if isinstance(x, dict) else "",
)
def test_an_edit_gives_the_scores_that_it_says(name, mode, edit, wanted):
    directions, edit = SETS[name], Edit(**edit, mode=mode)
    edited = apply(edit, directions)
    expected = np.array([wanted(s) for s in scores(directions, X, mode)])
    found = scores(directions, edited, mode)
    np.testing.assert_allclose(found[:, edit.touched], expected[:, edit.touched], atol=2e-5)
    if name == "orthogonal":
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("name", SETS)
def test_the_change_lies_in_the_written_columns_of_the_touched_directions_alone(name):
    directions = SETS[name]
    edit = Edit("swap", (0,), (2,))
    change = (apply(edit, directions) - X).numpy()
    columns = directions.write.numpy()[:, [0, 2]]
    rest = change.T - columns @ np.linalg.lstsq(columns, change.T, rcond=None)[0]
    assert np.abs(rest).max() < 1e-5 < np.abs(change).max()


@pytest.mark.parametrize("mode", ["update", "state"])
def test_several_edits_equal_their_matrix(mode):
    directions = SETS["oblique"]
    edits = [
        Edit("scale", (0, 3), values=(3.0, 0.5), mode=mode),
        Edit("replace", (0,), (1,), mode=mode),
        Edit("add", (3,), values=(2.0,), mode=mode),
        Edit("swap", (1,), (3,), mode=mode),
    ]
    touched = [0, 1, 3]
    scale = np.diag([3.0, 1.0, 0.5])
    replace = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1.0]])
    swap = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0.0]])
    matrix = swap @ replace @ scale
    shift = swap @ np.array([0, 0, 2.0])
    s = scores(directions, X, mode)[:, touched]
    read, write = directions.read.numpy()[touched], directions.write.numpy()[:, touched]
    change = np.linalg.solve(read @ write, (s @ matrix.T + shift - s).T)
    expected = X.numpy() + (write @ change).T
    np.testing.assert_allclose(apply(edits, directions), expected, atol=1e-5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("mode", ["update", "state"])
def test_swap_twice_is_the_identity_bit_for_bit(name, mode):
    swap = Edit("swap", (0, 1), (2, 3), mode=mode)
    assert torch.equal(apply([swap, swap], SETS[name]), X)
    assert not torch.equal(apply(swap, SETS[name]), X)


def test_swap_twice_in_two_steps_is_the_identity_up_to_rounding():
    swap = Edit("swap", (0,), (2,), mode="state")
    torch.testing.assert_close(apply(swap, SETS["oblique"], apply(swap, SETS["oblique"])), X)


@pytest.mark.parametrize(
    "directions", [orthogonal(), oblique(), dictionary()], ids=["pca", "probes", "top-k"]
)
def test_a_collapsed_score_is_zero(directions):
    edited = apply(Edit("collapse", (0, 1, 2), mode="state"), directions)
    assert directions.scores(X)[:, :3].abs().max() > 0.1
    assert directions.scores(edited)[:, :3].abs().max() < 1e-5


def test_joint_writing_is_needed_where_directions_overlap():
    """A mutant that writes each score along its own column misses."""
    directions = SETS["oblique"]
    both = apply(Edit("collapse", (0, 1), mode="state"), directions)
    apart = X - directions.scores(X)[:, :2] @ directions.write[:, :2].T.float()
    assert scores(directions, both)[:, :2].max() < 1e-5
    assert np.abs(scores(directions, apart)[:, :2]).max() > 0.1


@pytest.mark.parametrize("strength", [0.0, 0.25, 2.0])
def test_a_strength_goes_that_share_of_the_way(strength):
    directions = SETS["oblique"]
    whole, part = (
        apply(Edit("replace", (0, 1), (2, None), strength=s), directions) - X for s in (1.0, strength)
    )
    torch.testing.assert_close(part, strength * whole, atol=1e-5, rtol=1e-5)


def test_a_dictionary_unit_that_is_off_stays_as_it_is():
    directions = dictionary()
    raw = X.double() @ directions.read.T + directions.offset
    off = (raw[:, 4] <= 0).numpy()
    assert 0 < off.sum() < N
    edited = apply(Edit("scale", (4,), values=(0.5,), mode="state"), directions)
    assert torch.equal(edited[off], X[off])
    after = edited.double() @ directions.read[4] + directions.offset[4]
    torch.testing.assert_close(after[~off], raw[~off, 4] / 2, atol=1e-5, rtol=0)


def test_where_an_edit_does_not_act_no_bit_changes():
    active = torch.arange(N) % 2 == 0
    edited = apply(Edit("add", (0,), values=(1.0,)), SETS["oblique"], active=[active])
    assert torch.equal(edited[~active], X[~active])
    assert (edited[active] != X[active]).any(1).all()


def test_directions_that_depend_on_each_other_are_refused():
    one = oblique(count=2)
    twice = Directions(one.read, one.offset, one.write[:, [0, 0]], one.origin, one.names, {"method": "x"})
    with pytest.raises(UsageError, match="cannot be edited together"):
        apply(Edit("collapse", (0, 1), mode="state"), twice)
    apply(Edit("collapse", (0,), mode="state"), twice)


def test_edits_are_differentiable():
    directions = SETS["oblique"]
    x = X.double().requires_grad_()
    edits = [Edit("replace", (0,), (1,)), Edit("scale", (3,), values=(2.0,))]
    assert torch.autograd.gradcheck(lambda x, m: apply(edits, directions, x, memory=m), (x, MEMORY.double()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(kind="flip", directions=(0,)), "no edit 'flip'"),
        (dict(kind="swap", directions=(0, 1), to=(2,)), "2 directions and 1 entries of 'to'"),
        (dict(kind="swap", directions=(0,), to=(None,)), "None, for nothing, goes with replace"),
        (dict(kind="swap", directions=(0, 1), to=(1, 2)), "pairs of different"),
        (dict(kind="replace", directions=(None,), to=(1,)), "directions is"),
        (dict(kind="replace", directions=(1, 1), to=(1, 2)), "twice"),
        (dict(kind="collapse", directions=()), "no direction"),
        (dict(kind="collapse", directions=(0,), to=(1,)), "takes no 'to'"),
        (dict(kind="scale", directions=(0,)), "0 entries of 'values'"),
        (dict(kind="add", directions=(0,), values=(float("nan"),)), "values is"),
        (dict(kind="collapse", directions=(0,), mode="delta"), "no mode 'delta'"),
        (dict(kind="collapse", directions=(0,), window=(3, 3)), "holds no step"),
        (dict(kind="patch", directions=(0,)), "needs the store"),
        (dict(kind="collapse", directions=(0,), start=2), "no effect on collapse"),
    ],
    ids=lambda x: x["kind"] if isinstance(x, dict) else "",
)
def test_an_impossible_edit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Edit(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(function="speed", index=0, above=0), "no function 'speed'"),
        (dict(function="score", above=0), "needs an index"),
        (dict(function="value", index=1, above=0), "needs an index"),
        (dict(function="value"), "needs a threshold"),
    ],
)
def test_an_impossible_condition_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Condition(**values)
