"""Players of a recording: numbers against loops over its episodes."""

import numpy as np
import pytest

from decision.players import QUANTILES, players, summarize_players
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.made_store import ACTIONS, MANIFEST, make_shard, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("players") / "s", [5, 3, 8, 2, 7, 4], [4, 6, 1, 3, 2])


def loop(store, behaviour):
    """Episodes, returns and actions of a behaviour, episode by episode."""
    mine = [e for e in range(len(store)) if store.episodes["behaviour"][e] == behaviour]
    first, length = store.first_step, store.episodes["length"]
    steps = [np.arange(first[e], first[e] + length[e]) for e in mine]
    reward, action = store.steps("reward"), store.steps("action")
    return mine, [reward[s].sum() for s in steps], np.concatenate([action[s] for s in steps])


def test_each_pair_of_policy_and_behaviour_is_a_player(store):
    found = players(store, {"abc": "ours"})
    assert set(found) == {"ours", "ours, greedy"}
    for name, behaviour in (("ours", "agent"), ("ours, greedy", "greedy")):
        assert found[name].tolist() == loop(store, behaviour)[0]
    means = [store.episodes["return"][mine].mean() for mine in found.values()]
    assert means == sorted(means)
    assert set(players(store)) == {"abc", "abc, greedy"}


def test_numbers_are_those_of_loops(store):
    summary = summarize_players(store, players(store))
    for name, behaviour in (("abc", "agent"), ("abc, greedy", "greedy")):
        mine, returns, action = loop(store, behaviour)
        numbers = summary[name]
        assert numbers["episodes"] == len(mine)
        assert numbers["steps"] == len(action)
        mean, low, high = numbers["return"]
        assert mean == pytest.approx(np.mean(returns))
        assert low <= mean <= high
        np.testing.assert_allclose(numbers["return_quantiles"], np.quantile(returns, QUANTILES))
        np.testing.assert_allclose(numbers["actions"], [np.mean(action == a) for a in range(ACTIONS)])
        assert numbers["length"] == pytest.approx(len(action) / len(mine))


def test_few_levels_have_no_interval(tmp_path):
    store = make_store(tmp_path / "s", [5, 3])
    for numbers in summarize_players(store, players(store)).values():
        assert numbers["return"][1:] == [None, None]


def test_policies_of_one_name_stay_apart(tmp_path):
    create_store(tmp_path, MANIFEST)
    steps, episodes = make_shard([3, 4, 5, 6])
    policies = np.array(["abcdef1", "abcdef1", "fedcba2", "fedcba2"])
    write_shard(tmp_path, 0, steps, episodes | {"policy_id": policies, "behaviour": np.full(4, "agent")})
    found = players(Rollouts.open(tmp_path), {"abcdef1": "ours", "fedcba2": "ours"})
    assert sorted(found) == ["ours", "ours (fedcba)"]
    assert sorted(np.concatenate(list(found.values()))) == [0, 1, 2, 3]
