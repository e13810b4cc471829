"""Edits of levels change one thing, controls stand behind the player, and responses are the agent's own."""

import numpy as np
import pytest
import torch

from agents.actor_critic import ActorCritic, NetworkConfig
from agents.behaviours import RandomPolicy
from common.noise import gumbel_noise
from envs.coinrun import COIN, CRATE, SAW
from envs.edits import hazards
from envs.layouts import first_states
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot, action_space
from envs.procgen_body import parse, serialize
from envs.scenes import templates
from interpret.directions.directions import Directions
from interpret.forks.edit_responses import fork_responses, frame_responses, with_snapshots
from interpret.forks.fork_points import ForkPoints
from interpret.forks.level_edits import EDITS, edit_level
from interpret.forks.object_deletion import rendered

LEVELS = range(2000, 2160)
ACTIONS = action_space("coinrun")
RIGHT, RIGHT_AND_UP = 7, 8


class Runner(RandomPolicy):
    """Runs right and jumps at chance."""

    def heads(self, state):
        return torch.full((len(state), 15), -20.0).index_fill(
            1, torch.tensor([RIGHT, RIGHT_AND_UP]), 0.0
        ), None


@pytest.fixture(scope="module")
def env():
    env = ProcgenVecEnv(32, ProcgenConfig(), num_threads=1)
    yield env
    env.close()


@pytest.fixture(scope="module")
def states(env):
    """States of running play, five steps apart."""
    found = []
    for at in range(0, len(LEVELS), env.num):
        env.open_levels(range(env.num), LEVELS[at : at + env.num])
        for t in range(40):
            noise = gumbel_noise(0, np.array(LEVELS[at : at + env.num]), 0, t, 2)
            env.act(np.array([RIGHT, RIGHT_AND_UP])[noise.argmax(1)])
            if t % 5 == 4:
                found += [parse(one.data) for one in env.snapshot()]
    return found


@pytest.fixture(scope="module")
def looks(env):
    return templates(first_states(env, range(100)))


@pytest.fixture(scope="module")
def edits(states, looks):
    """{edit: [(state, its edit)]}."""
    return {
        name: [(s, one) for s in states if (one := edit_level(name, s, looks)) is not None][:40]
        for name in EDITS
    }


def count(state, kind) -> int:
    return int((state.entities["type"] == kind).sum())


def test_every_edit_is_found(edits):
    assert {name: len(found) > 4 for name, found in edits.items()} == dict.fromkeys(EDITS, True)


def test_an_edit_changes_its_object_and_nothing_else(edits):
    for state, one in edits["saw_removed"]:
        after = parse(one.edited.data)
        assert count(after, SAW) == count(state, SAW) - 1
        assert np.array_equal(after.grid, state.grid)
    for state, one in edits["crate_added"]:
        after = parse(one.edited.data)
        assert count(after, CRATE) == count(state, CRATE) + 1
        assert np.array_equal(after.grid, state.grid)
        assert int(np.floor(after.entities[-1]["x"]) - np.floor(state.player["x"])) == one.distance
    for state, one in edits["coin_moved"]:
        after = parse(one.edited.data)
        assert len(after.entities) == len(state.entities)
        (old,), (new,) = (np.argwhere(s.grid == COIN) for s in (state, after))
        assert abs(old[1] - new[1]) >= 3
        assert new[1] > state.player["x"] + 1
        assert (after.grid != state.grid).sum() == 2
    for found in edits.values():
        for state, one in found:
            assert parse(one.edited.data).player == state.player


def test_a_control_adds_one_object_as_far_behind(edits):
    kinds = {"saw_removed": SAW, "coin_moved": CRATE, "crate_added": CRATE}
    for name, found in edits.items():
        for state, one in found:
            after = parse(one.control.data)
            assert len(after.entities) == len(state.entities) + 1
            assert after.entities[-1]["type"] == kinds[name]
            assert int(np.floor(state.player["x"]) - np.floor(after.entities[-1]["x"])) == one.distance
            assert np.array_equal(after.grid, state.grid)


def test_a_removed_saw_was_ahead(edits):
    for state, one in edits["saw_removed"]:
        left = {h.left for h in hazards(state)} - {h.left for h in hazards(parse(one.edited.data))}
        assert len(left) == 1
        assert 2 <= left.pop() - state.player["x"] <= 6


def points_of(env, found, which) -> ForkPoints:
    snapshots = [Snapshot(serialize(state)) if which is None else getattr(one, which) for state, one in found]
    size = len(snapshots)
    zeros = np.zeros(size, np.int64)
    return ForkPoints(
        snapshots, rendered(env, snapshots)[None], torch.zeros(size, 8), np.arange(size), zeros, zeros, zeros,
        np.arange(size).astype(str),
    )  # fmt: skip


def test_responses_at_a_frame_are_those_of_the_agent(env, edits):
    torch.manual_seed(0)
    agent = ActorCritic(NetworkConfig(15, (64, 64, 3), "impala-half", 16, "gru", 8, precision="fp32"))
    points = points_of(env, edits["crate_added"], None)
    rng = np.random.default_rng(0)
    read = torch.from_numpy(rng.normal(size=(2, 8)))
    directions = Directions(read, torch.zeros(2), read.T, torch.zeros(8), ("a", "b"))
    found = frame_responses(agent, points, directions, ACTIONS)
    assert list(found) == ["a", "b", "leftwards", "rightwards", "upwards", "downwards", "value"]
    state = agent.unroll(
        torch.from_numpy(points.frames), points.hidden, torch.zeros(1, len(points), dtype=bool)
    )[0]
    probability = torch.softmax(agent.heads(state)[0], -1).detach().numpy()
    assert found["upwards"] == pytest.approx(probability[:, [2, 5, 8]].sum(1), abs=1e-5)
    assert found["b"] == pytest.approx((state.detach().double() @ read[1]).numpy(), abs=1e-5)
    moved = frame_responses(
        agent,
        with_snapshots(env, points, [one.edited for _, one in edits["crate_added"]]),
        directions,
        ACTIONS,
    )
    assert (np.abs(moved["b"] - found["b"]) > 1e-7).mean() > 0.9


def test_a_removed_saw_saves_a_blind_runner_and_its_control_does_not(env, edits):
    """Planted: it dies at saws, whatever it sees."""
    found = edits["saw_removed"]
    policy = Runner(15)
    death = {
        which: fork_responses(env, policy, points_of(env, found, which), 20, 2, 0, ACTIONS)
        for which in (None, "edited", "control")
    }
    saved = death[None]["death"] - death["edited"]["death"]
    assert saved.mean() > 0.1
    assert saved.min() >= 0
    assert np.array_equal(death["control"]["death"], death[None]["death"])
    assert death["edited"]["rightwards"] == pytest.approx(np.ones(len(found)))
    assert death["edited"]["leftwards"] == pytest.approx(np.zeros(len(found)))
    short = fork_responses(env, policy, points_of(env, found, None), 1, 2, 0, ACTIONS)
    assert short["death"].mean() < death[None]["death"].mean()
