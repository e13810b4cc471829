"""Replayed states: forks from them continue as stored, and wrong levels, actions and steps are refused."""

import numpy as np
import pytest

from agents.behaviours import make_behaviour
from common.runs import UsageError
from envs.coin_places import last_column
from envs.coinrun import COIN
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from envs.procgen_body import parse
from rollouts.record import Actor, Plan, record
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts, create_store
from tests.helpers.made_store import make_store

GAME = "dodgeball"


def record_random(path, game=GAME, episodes=6, **options) -> Rollouts:
    config = ProcgenConfig(game, **options)
    actions = action_space(game)
    policy = make_behaviour(None, "random", 1.0, 3, actions)
    width = policy.hidden(policy.initial_state(1)).shape[1]
    create_store(
        path,
        {
            "num_actions": 15,
            "action_names": actions.names,
            "noop": actions.noop,
            "hidden_size": width,
            "env": vars(config),
        },
    )
    record(
        path,
        Plan(episodes, 3),
        range(-(-episodes // 3)),
        lambda: make_env(3, config),
        lambda _: Actor(policy, "random", "none"),
    )
    return Rollouts.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record_random(tmp_path_factory.mktemp("states") / "store")


def pairs_of(store):
    """Every episode's first, middle and last step, shuffled, one of them twice."""
    length = store.episodes["length"]
    pairs = [(i, t) for i in range(len(store)) for t in {0, int(length[i]) // 2, int(length[i]) - 1}]
    order = np.random.default_rng(0).permutation(len(pairs))
    return np.array([pairs[i] for i in order] + [pairs[order[0]]])


@pytest.mark.parametrize("slots", [None, 2])
def test_a_fork_from_a_state_goes_on_as_the_store_says(store, slots):
    pairs = pairs_of(store)
    states = replay_states(store, *pairs.T, env=slots and replay_env(store, slots))
    env = replay_env(store, len(states))
    env.restore(states)
    obs = env.observe()[1]
    for i, (episode, t) in enumerate(pairs):
        np.testing.assert_array_equal(obs[i], store.episode(episode)["obs"][t])
    assert env.episode_step.tolist() == pairs[:, 1].tolist()
    env.act(np.array([store.episode(episode)["action"][t] for episode, t in pairs]))
    reward, obs, _ = env.observe()
    terminated = env.info()["terminated"]
    for i, (episode, t) in enumerate(pairs):
        steps = store.episode(episode)
        assert reward[i] == steps["reward"][t]
        assert terminated[i] == steps["terminated"][t]
        if t + 1 < len(steps["obs"]):
            np.testing.assert_array_equal(obs[i], steps["obs"][t + 1])


def test_a_blinking_store_is_compared_with_its_black_frames(tmp_path):
    store = record_random(tmp_path / "blink", "coinrun", 3, blink=True)
    steps = np.minimum(store.episodes["length"] - 1, 40)
    black = [not store.episode(i)["obs"][: t + 1].any((1, 2, 3)).all() for i, t in enumerate(steps)]
    assert any(black)
    assert len(replay_states(store, range(3), steps)) == 3


def test_a_store_with_random_coins_replays_with_the_coins_where_they_were(tmp_path):
    store = record_random(tmp_path / "coin", "coinrun", 6, random_coin=True)
    assert store.manifest["env"]["random_coin"]
    assert len(replay_states(store, range(6), np.minimum(store.episodes["length"] - 1, 60))) == 6
    first = [parse(snapshot.data) for snapshot in replay_states(store, range(6), [0] * 6)]
    coins = [np.argwhere(state.grid == COIN)[0] for state in first]
    assert any(column != last_column(state) for (_, column), state in zip(coins, first))


def test_no_pairs_no_states(store):
    assert replay_states(store, [], []) == []


def falsified(store, **changes):
    other = Rollouts.open(store.path)
    shard = other.shard

    class Falsified:
        def __init__(self, index):
            self.inner = shard(index)

        def rows(self, name, rows):
            found = self.inner.rows(name, rows)
            return changes[name](found.copy()) if name in changes else found

    other.shard = Falsified
    return other


def flip_last_pixel(frames):
    frames[-1, 0, 0, 0] ^= 1
    return frames


def test_what_does_not_replay_is_named(store):
    other = Rollouts.open(store.path)
    other.episodes["level_seed"] = np.roll(other.episodes["level_seed"], 1)
    with pytest.raises(
        UsageError, match=r"episode \d+ of .* does not replay: its frame at step 0 .*inspect_store"
    ):
        replay_states(other, [1, 2], [3, 3])
    with pytest.raises(UsageError, match="episode 4 .*step 5 differs"):
        replay_states(falsified(store, obs=flip_last_pixel), [4], [5])
    shifted = falsified(store, action=lambda actions: np.roll(actions, 1))
    with pytest.raises(UsageError, match="does not replay"):
        replay_states(shifted, range(6), store.episodes["length"] - 1)


def test_what_the_store_does_not_have_is_refused(store, tmp_path):
    length = int(store.episodes["length"][2])
    with pytest.raises(ValueError, match=f"no step {length} in episode 2, which has steps 0 to {length - 1}"):
        replay_states(store, [2], [length])
    with pytest.raises(ValueError, match="step -1"):
        replay_states(store, [2], [-1])
    with pytest.raises(ValueError, match="no episode 6 in .* 0 to 5"):
        replay_states(store, [6], [0])
    with pytest.raises(ValueError, match="as many steps"):
        replay_states(store, [1, 2], [0])
    made = make_store(tmp_path / "made", [5, 6])
    with pytest.raises(UsageError, match="does not name its game"):
        replay_states(made, [0], [0])
    made.manifest["simulated"] = True
    with pytest.raises(UsageError, match="simulated"):
        replay_states(made, [0], [0])
