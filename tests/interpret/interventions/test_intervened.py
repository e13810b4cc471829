"""A policy under interventions, step by step, against loops in numpy; mutants of it are caught."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.encoders import Encoder
from common.errors import UsageError
from generative.noise_keys import NoiseKeys
from interpret.interventions import score_edits
from interpret.interventions.edit import Condition, Edit, edit_of, read_edits
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import NO_INTERVENTIONS, bind
from tests.helpers.edit_sets import WIDTH, agent, dictionary, oblique, orthogonal, played, toy_frames
from tests.helpers.toy_simulator import toy_simulator

STEPS = 6
COUNT = 5
FRAMES = toy_frames(STEPS, COUNT)
SETS = {"pca": orthogonal(), "probes": oblique(), "dictionary": dictionary()}

pytestmark = pytest.mark.usefixtures("float32")


def intervened(*edits: Edit, sources=None, sets=SETS) -> Intervened:
    return Intervened(agent(), bind(edits, sets, sources))


@torch.no_grad()
def by_hand(edit: Edit, first=None):
    """States, logits and values of one edit of one pca direction by 2, or with its partner, in loops over
    steps and samples.
    """
    policy, directions = agent(), SETS["pca"]
    pair = [edit.directions[0], edit.to[0] if edit.to else 0]
    read, offset = directions.read[pair].numpy(), directions.offset[pair].numpy()
    columns = directions.write[:, pair].numpy()
    states, logits, values = [], [], []
    memory = [torch.zeros(1, WIDTH) for _ in range(COUNT)]
    step = [0] * COUNT
    for t in range(STEPS):
        rows = []
        for i in range(COUNT):
            if first is not None and first[t, i]:
                memory[i], step[i] = torch.zeros(1, WIDTH), 0
            shown = policy.advance(FRAMES[t, i : i + 1], memory[i], torch.tensor([False]), None)
            x = shown[0].double().numpy()
            base = memory[i][0].double().numpy() if edit.mode == "update" else 0
            s, partner = read @ (x - base) + (0 if edit.mode == "update" else offset)
            new = {
                "collapse": (0, partner), "scale": (2 * s, partner), "clamp": (2, partner),
                "add": (s + 2, partner), "replace": (0, partner + s), "swap": (partner, s),
            }[edit.kind]  # fmt: skip
            low, high = edit.window or (0, STEPS)
            edited = torch.from_numpy(x + columns @ (np.array(new) - (s, partner))).float()[None]
            memory[i] = edited if low <= step[i] < high else shown
            step[i] += 1
            rows.append((memory[i], *policy.heads(memory[i] if edit.before_heads else shown)))
        for out, part in zip((states, logits, values), zip(*rows)):
            out.append(torch.cat(part))
    return torch.stack(states), torch.stack(logits), torch.stack(values)


def check(edit: Edit, first=None) -> None:
    for found, expected in zip(played(intervened(edit), FRAMES, first), by_hand(edit, first)):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


KINDS = ["collapse", "scale", "clamp", "add", "replace", "swap"]


def edit(kind="add", **values) -> Edit:
    numbers = {"values": (2.0,)} if kind in ("scale", "clamp", "add") else {}
    partner = {"to": (2,)} if kind in ("replace", "swap") else {}
    return Edit(kind, (1,), direction_set="pca", **numbers, **partner, **values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["update", "state"])
@pytest.mark.parametrize("before_heads", [True, False])
def test_every_step_is_that_of_loops_by_hand(kind, mode, before_heads):
    check(edit(kind, mode=mode, before_heads=before_heads))


@pytest.mark.parametrize("before_heads", [True, False])
def test_a_window_counts_from_the_start_of_each_episode(before_heads):
    first = torch.zeros(STEPS, COUNT, dtype=torch.bool)
    first[0] = True
    first[3, 1] = first[2, 4] = True
    check(edit(window=(1, 3), before_heads=before_heads), first)


def _wrong_direction(monkeypatch):
    real = score_edits.grouped

    def next_one(direction: int) -> int:
        return (direction + 1) % 3

    def shifted(interventions, before_heads):
        edits = [
            replace(one, directions=tuple(map(next_one, one.directions)), to=tuple(map(next_one, one.to)))
            for one in interventions.edits
        ]
        return real(replace(interventions, edits=tuple(edits)), before_heads)

    monkeypatch.setattr("interpret.interventions.intervened.grouped", shifted)


def _late_by_one_step(monkeypatch):
    entering = Intervened._entering
    monkeypatch.setattr(
        Intervened, "_entering", lambda *given: (entering(*given)[0], entering(*given)[1] - 1)
    )


def _never_reset(monkeypatch):
    monkeypatch.setattr(Intervened, "_entering", lambda self, state, first: self._parts(state)[1:])


def _before_for_after(monkeypatch):
    real = score_edits.grouped
    monkeypatch.setattr(
        "interpret.interventions.intervened.grouped",
        lambda interventions, before_heads: real(interventions, not before_heads),
    )


def _state_for_update(monkeypatch):
    real = score_edits.ScoreEdits._scores
    monkeypatch.setattr(
        score_edits.ScoreEdits, "_scores", lambda self, x, memory: real(self, x, torch.zeros_like(memory))
    )


def _increment_for_state(monkeypatch):
    """The state becomes its own change, as in the original."""
    real = score_edits.ScoreEdits.apply
    monkeypatch.setattr(
        score_edits.ScoreEdits, "apply", lambda self, x, memory, *rest: real(self, x, memory, *rest) - memory
    )


@pytest.mark.parametrize(
    "mutant",
    [
        _wrong_direction,
        _late_by_one_step,
        _never_reset,
        _before_for_after,
        _state_for_update,
        _increment_for_state,
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_caught(mutant, kind, monkeypatch):
    first = torch.zeros(STEPS, COUNT, dtype=torch.bool)
    first[2, 3] = True
    good = edit(kind, window=(1, 4))
    check(good, first)
    mutant(monkeypatch)
    if kind == "add" and mutant is _state_for_update:  # adding reads no score
        check(good, first)
        return
    with pytest.raises(AssertionError):
        check(good, first)


def test_no_edit_changes_no_bit():
    first = torch.zeros(STEPS, COUNT, dtype=torch.bool)
    first[3, 1] = True
    for found, expected in zip(
        played(Intervened(agent(), NO_INTERVENTIONS), FRAMES, first), played(agent(), FRAMES, first)
    ):
        assert torch.equal(found, expected)


def test_after_the_heads_the_first_logits_are_those_of_the_unedited_state():
    base, edited = (played(one, FRAMES) for one in (agent(), intervened(edit(before_heads=False))))
    assert torch.equal(edited[1][0], base[1][0])
    assert not torch.equal(edited[0][0], base[0][0])
    assert (edited[1][1] != base[1][1]).any(1).all()


def test_edits_of_several_sets_act_in_order():
    pca, probes = edit("clamp", mode="state"), Edit("clamp", (0,), (), (1.0,), "probes", mode="state")
    last = played(intervened(pca, probes), FRAMES[:1])[0]
    first = played(intervened(probes, pca), FRAMES[:1])[0]
    torch.testing.assert_close(SETS["probes"].scores(last)[..., 0], torch.ones(1, COUNT), atol=1e-5, rtol=0)
    assert (SETS["pca"].scores(last)[..., 1] - 2).abs().max() > 0.01
    torch.testing.assert_close(
        SETS["pca"].scores(first)[..., 1], torch.full((1, COUNT), 2.0), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("function", ["score", "value", "probability"])
@pytest.mark.parametrize("side", ["above", "below"])
def test_a_condition_decides_by_the_unedited_state(function, side):
    states, logits, values = played(agent(), FRAMES[:1])
    value = {
        "score": SETS["probes"].scores(states[0])[:, 2],
        "value": values[0],
        "probability": logits[0].softmax(-1)[:, 2],
    }[function]
    threshold = float(value.sort().values[2] + value.sort().values[3]) / 2
    condition = Condition(
        function,
        None if function == "value" else 2,
        "probes" if function == "score" else "",
        **{side: threshold},
    )
    found = played(intervened(edit("clamp", mode="state"), edit(condition=condition)), FRAMES[:1])[0][0]
    without = played(intervened(edit("clamp", mode="state")), FRAMES[:1])[0][0]
    holds = value > threshold if side == "above" else value < threshold
    assert 0 < holds.sum() < COUNT
    np.testing.assert_array_equal((found != without).any(1), holds)


def check_patch() -> None:
    source = played(agent(), toy_frames(4, 1, seed=9))[0][:, 0]
    states = torch.cat([torch.zeros(1, WIDTH), source])
    patch = Edit("patch", (0, 1), direction_set="probes", mode="state", source="store", episode=7, start=1)
    found, logits, _ = played(intervened(patch, sources={("store", 7): states}), FRAMES)
    wanted = SETS["probes"].scores(source[1:])[:, None, [0, 1]].expand(3, COUNT, 2)
    torch.testing.assert_close(SETS["probes"].scores(found[:3])[..., [0, 1]], wanted, atol=2e-5, rtol=1e-5)
    unpatched = played(agent(), FRAMES[3:], state=found[2])[0]
    torch.testing.assert_close(found[3:], unpatched)
    torch.testing.assert_close(logits[0], agent().heads(found[0])[0].detach())


def test_a_patch_gives_the_scores_of_the_source():
    check_patch()


@pytest.mark.parametrize(
    "mutant", [_wrong_direction, _late_by_one_step, _before_for_after, _increment_for_state]
)
def test_a_mutant_of_a_patch_is_caught(mutant, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_patch()


def test_a_patch_in_update_mode_follows_the_changes_of_the_source():
    source = played(agent(), toy_frames(STEPS, 1, seed=9))[0][:, 0]
    states = torch.cat([torch.zeros(1, WIDTH), source])
    patch = Edit("patch", (1,), direction_set="pca", source="store")
    found = played(intervened(patch, sources={("store", 0): states}), FRAMES)[0]
    start = SETS["pca"].scores(torch.zeros(WIDTH))
    moved = (SETS["pca"].scores(found) - start)[..., 1]
    wanted = (SETS["pca"].scores(source) - start)[:, None, 1].expand(STEPS, COUNT)
    torch.testing.assert_close(moved, wanted, atol=2e-5, rtol=1e-5)


def test_gradients_pass_through_edits_of_many_steps(monkeypatch):
    monkeypatch.setattr(Encoder, "forward", lambda self, obs: obs.flatten(1)[:, :16])  # in float64
    policy = intervened(edit("scale", window=(0, 3)), edit("add", mode="state", before_heads=False))
    policy.policy.double()
    start = 0.1 * torch.randn(2, WIDTH, dtype=torch.float64)
    frames = FRAMES[:4, :2].double() / 255

    def result(start):
        state = start
        for obs in frames:
            state = policy.advance(obs, state, torch.zeros(2, dtype=torch.bool), None)
        return policy.heads(state)

    assert torch.autograd.gradcheck(result, start.requires_grad_())


def test_the_simulator_runs_under_interventions_and_keeps_gradients():
    simulator = toy_simulator()
    z = simulator.model.random_latent(torch.randn(4, simulator.model.config.latent_size))
    keys = NoiseKeys(0, np.arange(4))
    z.requires_grad_()
    policy = Intervened(simulator.agent, bind([edit("clamp", mode="state")], SETS))
    segment = simulator.simulate(z, 3, keys, policy=policy, ends=False, grad=True)
    torch.testing.assert_close(
        SETS["pca"].scores(segment.hidden_after())[..., 1], torch.full((3, 4), 2.0), atol=1e-5, rtol=0
    )
    (gradient,) = torch.autograd.grad(segment.value[2].sum(), z)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_the_simulators_control_arm_is_the_agent_bit_for_bit():
    simulator = toy_simulator()
    z = simulator.model.random_latent(torch.randn(4, simulator.model.config.latent_size))
    keys = NoiseKeys(0, np.arange(4))
    plain = simulator.simulate(z, 5, keys)
    control = simulator.simulate(z, 5, keys, policy=Intervened(simulator.agent, NO_INTERVENTIONS))
    for name in ("obs", "action", "hidden", "logits", "value", "terminated"):
        assert torch.equal(getattr(plain, name), getattr(control, name)), name


def test_a_description_gives_the_same_edits_again(tmp_path):
    edits = [
        edit("clamp", window=(2, 5), before_heads=False, mode="state"),
        Edit("replace", (0, 1), (2, None), direction_set="probes"),
        edit(condition=Condition("score", 3, "probes", above=0.5)),
    ]
    bound = bind(edits, SETS)
    file = tmp_path / "edits.json"
    file.write_text(json.dumps(bound.description()))
    again = bind(read_edits(file), SETS)
    assert again.edits == bound.edits
    assert again.id == bound.id
    assert bound.description()["sets"] == {
        SETS["pca"].id: "pca",
        SETS["probes"].id: "probes",
    }


@pytest.mark.parametrize(
    "changed",
    [
        dict(directions=(2,)),
        dict(values=(2.5,)),
        dict(mode="state"),
        dict(before_heads=False),
        dict(strength=0.5),
        dict(window=(0, 4)),
        dict(direction_set="probes"),
        dict(kind="scale"),
        dict(condition=Condition("value", above=0.0)),
    ],
    ids=lambda x: next(iter(x)),
)
def test_the_id_and_the_states_change_with_every_entry(changed):
    base = dict(kind="clamp", directions=(1,), values=(2.0,), direction_set="pca")
    one, other = (intervened(Edit(**values)) for values in (base, base | changed))
    assert one.interventions.id != other.interventions.id
    assert not torch.equal(played(one, FRAMES)[1], played(other, FRAMES)[1])


def test_the_policy_id_names_agent_and_edits():
    bound = bind([edit()], SETS)
    assert bound.policy_id("abc") == f"abc+{bound.id}"
    assert NO_INTERVENTIONS.policy_id("abc") == "abc"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(directions=(9,)), "no direction 9 among the 4 of pca"),
        (dict(directions=(-1,)), "no direction -1"),
        (dict(direction_set="ica"), "no directions 'ica'"),
        (dict(direction_set=""), "does not say which"),
        (dict(direction_set="dictionary"), "take mode state"),
        (dict(condition=Condition("score", 40, "pca", above=0.0)), "no direction 40"),
        (dict(condition=Condition("probability", 5, above=0.0)), "no action 5"),
    ],
    ids=str,
)
def test_edits_that_fit_no_directions_are_refused(values, message):
    base = dict(kind="collapse", directions=(1,), direction_set="pca")
    with pytest.raises(UsageError, match=message):
        bind([Edit(**(base | values))], SETS, num_actions=5)


def test_missing_directions_and_sources_are_named():
    with pytest.raises(UsageError, match="--direction_files"):
        bind([Edit("collapse", (1,))], {})
    with pytest.raises(UsageError, match="no states of episode 3 of a"):
        bind([Edit("patch", (1,), source="a", episode=3)], {"pca": SETS["pca"]})
    with pytest.raises(UsageError, match="has 2 steps, and 2 is not one"):
        bind([Edit("patch", (1,), source="a", start=2)], {"pca": SETS["pca"]}, {("a", 0): torch.zeros(3, 8)})


def test_a_state_that_is_not_finite_is_an_error():
    with pytest.raises(UsageError, match="not finite after the edits"):
        played(intervened(Edit("scale", (1,), values=(1e300,), direction_set="pca")), FRAMES)


def test_directions_of_another_width_are_refused():
    narrow = oblique().within(range(WIDTH), WIDTH + 1)
    with pytest.raises(UsageError, match="has width 8, and the directions 9"):
        intervened(Edit("collapse", (1,)), sets={"probes": narrow})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "mapping"),
        ('{"edits": []}', "no list of edits"),
        ('{"edits": [3]}', "an edit is 3"),
        ('{"edits": [{"kind": "add", "speed": 1}]}', "no entry 'speed'"),
        ('{"edits": [{"kind": "add"}]}', "is not one"),
        (
            '{"edits": [{"kind": "collapse", "directions": [1], "condition": {"speed": 1}}]}',
            "a condition has no entry",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(text, message, tmp_path):
    (tmp_path / "edits.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_edits(tmp_path / "edits.json")


def test_a_list_of_entries_is_an_edit():
    given = {"kind": "replace", "directions": [1], "to": [None], "window": [0, 3]}
    assert edit_of(given) == Edit("replace", (1,), (None,), window=(0, 3))
