"""Players of a recording: numbers against loops over its episodes."""

import numpy as np
import pytest

from decision.players import QUANTILES, players, summarize_players
from tests.helpers.made_store import ACTIONS, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("players") / "s", [5, 3, 8, 2], [4, 6, 1])


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
