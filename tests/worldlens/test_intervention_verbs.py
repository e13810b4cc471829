"""The verbs for edits: an edited policy is what its parts make, and effects are those counted by hand."""

import numpy as np
import pytest
import torch

import worldlens as wl
from common.errors import UsageError
from tests.helpers.coinrun_store import write_world
from tests.helpers.edit_sets import agent as toy_agent
from tests.helpers.edit_sets import dictionary, oblique, orthogonal, played, toy_frames

pytestmark = pytest.mark.usefixtures("float32")
STEPS = 6
COLLAPSE = {"kind": "collapse", "directions": [1], "mode": "state"}


def test_a_collapsed_score_is_zero_and_the_agent_stays_as_it_is():
    agent, directions = toy_agent(), oblique()
    before = played(agent, toy_frames(4, 3))
    hidden, *_ = played(wl.intervene(agent, COLLAPSE, directions), toy_frames(4, 3))
    assert directions.scores(hidden.flatten(0, 1))[:, 1].abs().max() < 1e-5
    assert torch.equal(played(agent, toy_frames(4, 3))[0], before[0])


def test_edits_are_given_as_objects_or_as_in_a_file_and_in_order():
    add = wl.Edit("add", (0,), values=(2.0,), mode="state")
    double = wl.Edit("scale", (0,), values=(2.0,), mode="state")
    one, same, other = (
        wl.intervene(toy_agent(), edits, oblique())
        for edits in ([add, double], [add.description(), double], [double, add])
    )
    assert one.interventions.id == same.interventions.id != other.interventions.id
    frames = toy_frames(2, 3)
    assert torch.equal(played(one, frames)[0], played(same, frames)[0])
    assert not torch.equal(played(one, frames)[0], played(other, frames)[0])


def test_an_edit_names_one_of_several_sets():
    sets = {"probes": oblique(), "pca": orthogonal()}
    edited = wl.intervene(toy_agent(), COLLAPSE | {"direction_set": "pca"}, sets)
    assert set(edited.interventions.sets) == {orthogonal().id}
    with pytest.raises(UsageError, match="does not say which directions"):
        wl.intervene(toy_agent(), COLLAPSE, sets)


@pytest.mark.parametrize(
    ("edits", "directions", "message"),
    [
        ([], oblique(), "no edits"),
        (COLLAPSE | {"directions": [9]}, oblique(), "no direction 9"),
        (COLLAPSE | {"mode": "update"}, dictionary(), "take mode state"),
        ({"kind": "collapse", "direction": 1}, oblique(), "no entry 'direction'"),
    ],
)
def test_what_is_no_edit_is_refused(edits, directions, message):
    with pytest.raises(UsageError, match=message):
        wl.intervene(toy_agent(), edits, directions)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def pushed(agent, by: float) -> wl.Intervened:
    """The agent pushed along what its policy head reads."""
    write = torch.linalg.svd(agent.policy_head.weight.detach().double())[2].T[:, :2]
    directions = wl.Directions(write.T, torch.zeros(2), write, torch.zeros(len(write)), ("a", "b"))
    return wl.intervene(agent, wl.Edit("add", (0,), values=(by,), mode="state"), directions)


@pytest.fixture(scope="module")
def scene(world):
    """Fork points, and the edited agent."""
    episodes = np.flatnonzero(world.store.episodes["length"] > 4)
    points = wl.fork_points(world.store, episodes, np.full(len(episodes), 3))
    return points, pushed(wl.load_agent(world.agent_file), 3.0)


def deaths(segment: wl.Segment) -> np.ndarray:
    """Probability of death of each run [B], counted step by step."""
    alive, died = np.ones(segment.mask.shape[1]), np.zeros(segment.mask.shape[1])
    for done, coin, there in zip(
        segment.extra["done_prob"].numpy(), segment.extra["reward_prob"].numpy(), segment.mask.numpy()
    ):
        died += alive * there * done * (1 - coin)
        alive = alive * (1 - there * done)
    return died


def test_the_effect_in_the_game_is_that_of_two_forks(world, scene):
    points, edited = scene
    found = wl.edit_effect(world.store, points, edited, 40, batch_size=5)
    arm, control = (deaths(wl.fork(world.store, points, one, 40)) for one in (edited, edited.policy))
    assert (arm != control).any()
    assert found["death"].value == pytest.approx((arm - control).mean())
    assert found["death"].low <= found["death"].value <= found["death"].high
    assert sum(one.value for one in found.values()) == pytest.approx(0)


def test_the_effect_in_the_simulator_is_that_of_two_simulations(scene):
    points = scene[0].take(range(3))
    simulator = wl.load_simulator("coinrun", precision="fp32")
    edited = pushed(simulator.agent, 5.0)
    arm, control = (
        deaths(wl.simulate(simulator, points, STEPS, seed=1, policy=one, stop_at_end=False))
        for one in (edited, simulator.agent)
    )
    assert not np.array_equal(arm, control)
    found = wl.edit_effect(simulator, points, edited, STEPS, seed=1)
    assert found["death"].value == pytest.approx((arm - control).mean())


@pytest.mark.parametrize("changed", [dict(num_steps=5), dict(draws=2), dict(seed=1)])
def test_every_argument_changes_the_effect(world, scene, changed):
    points, edited = scene
    assert wl.edit_effect(world.store, points, edited, **{"num_steps": 40} | changed) != wl.edit_effect(
        world.store, points, edited, num_steps=40
    )


def test_a_policy_without_edits_has_no_effect_to_measure(world, scene):
    with pytest.raises(UsageError, match="has no edits"):
        wl.edit_effect(world.store, scene[0], scene[1].policy)
