"""Windows for the Decision Transformer: returns-to-go, left padding, and which windows are drawn."""

import numpy as np
import pytest
import torch

from common.errors import UsageError
from decision.returns import best_episodes, returns_to_go
from decision.windows import DTWindows, SamplingConfig, WindowSampler
from tests.helpers.made_store import ACTIONS, make_store

LENGTHS = ([7, 1, 4], [12, 3, 9])
NONE = np.zeros(6, bool)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("made") / "store", *LENGTHS)


def brute_force(rewards, gamma):
    return [sum(gamma ** (k - t) * rewards[k] for k in range(t, len(rewards))) for t in range(len(rewards))]


def without_own_reward(reward, length, gamma=1.0):
    """The commonest mistake: the reward of the step itself is left out."""
    return returns_to_go(reward, length, gamma) - reward


def across_episodes(reward, length, gamma=1.0):
    return returns_to_go(reward, [sum(length)], gamma)


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_returns_to_go_are_sums_over_the_rest_of_the_episode(store, gamma):
    found = returns_to_go(store.steps("reward"), store.episodes["length"], gamma)
    expected = np.concatenate(
        [brute_force(store.episode(i)["reward"].tolist(), gamma) for i in range(len(store))]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_returns_to_go_telescope_and_begin_with_the_episodes_return(store):
    """Subtracting each reward from the return asked at first, as acting does, gives the labels."""
    rtg = returns_to_go(store.steps("reward"), store.episodes["length"])
    for i, (first, length) in enumerate(zip(store.first_step, store.episodes["length"])):
        labels, reward = rtg[first : first + length], store.episode(i)["reward"]
        assert labels[0] == store.episodes["return"][i]
        np.testing.assert_array_equal(labels[0] - np.cumsum(reward)[:-1], labels[1:])
        assert labels[-1] == reward[-1]


@pytest.mark.parametrize("wrong", [without_own_reward, across_episodes])
def test_the_commonest_mistakes_differ(store, wrong):
    reward, length = store.steps("reward"), store.episodes["length"]
    assert not np.allclose(wrong(reward, length), returns_to_go(reward, length))


def test_no_episodes_have_no_returns_to_go():
    assert returns_to_go(np.zeros(0), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, [0, 1, 2, 3]), (0.5, [0, 2, 3]), (0.4, [0, 2]), (0.2, [2]), (0.01, [2])]
)
def test_the_best_episodes_are_kept_until_they_hold_the_share(share, kept):
    returns, length = np.array([3.0, 1.0, 9.0, 3.0]), np.array([2, 4, 2, 2])
    assert best_episodes(returns, length, share).tolist() == kept


@pytest.mark.parametrize("share", [0.03, 0.3, 0.5, 0.77, 1.0])
def test_kept_episodes_are_the_fewest_best_that_hold_the_share(share):
    """By brute force over random episodes; a widespread code counts the best twice and drops some at 1.0."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        length = rng.integers(1, 9, rng.integers(1, 8))
        returns = rng.integers(0, 4, len(length)).astype(float)
        kept = best_episodes(returns, length, share)
        assert len(set(kept.tolist())) == len(kept)
        dropped = np.setdiff1d(np.arange(len(length)), kept)
        assert not len(dropped) or returns[kept].min() >= returns[dropped].max()
        wanted = share * length.sum()
        assert length[kept].sum() >= wanted - 1e-9
        worst = max(kept, key=lambda e: (-returns[e], e))
        assert length[kept].sum() - length[worst] < wanted + 1e-9
        assert share < 1 or len(kept) == len(length)


def slow_window(store, last, length):
    """The window that ends with step `last`, by a loop over its steps."""
    episode, t = store.step_table()[last]
    steps = store.episode(episode)
    rows = []
    for time in range(t - length + 1, t + 1):
        if time < 0:
            rows.append((np.zeros(store.episode(0)["obs"].shape[1:]), ACTIONS, 0.0, 0, False))
        else:
            rtg = steps["reward"][time:].sum()
            rows.append((steps["obs"][time], steps["action"][time], rtg, time, True))
    return [np.array(column) for column in zip(*rows)]


@pytest.mark.parametrize("length", [1, 5, 20])
def test_a_window_holds_the_steps_up_to_its_last_one_padded_on_the_left(store, length):
    windows = DTWindows(store, length)
    last = np.random.default_rng(0).permutation(store.num_steps)
    batch = windows.batch(last)
    columns = (batch.state, batch.action, batch.return_to_go, batch.timestep, batch.mask)
    for b, step in enumerate(last):
        for column, expected in zip(columns, slow_window(store, step, length)):
            np.testing.assert_allclose(column[b].numpy(), expected, rtol=1e-6)
    assert batch.state.dtype == torch.uint8
    assert batch.mask[:, -1].all()


def test_features_stand_in_place_of_frames_and_are_zero_where_there_is_no_step(store):
    features = 1 + np.arange(store.num_steps, dtype=np.float16)[:, None] * np.ones((1, 3), np.float16)
    batch = DTWindows(store, 5, features=features).batch([2, 20])
    assert batch.state[0, :, 0].tolist() == [0, 0, 1, 2, 3]
    assert batch.state[1, :, 1].tolist() == [17, 18, 19, 20, 21]


def test_gamma_changes_the_returns_to_go(store):
    undiscounted, discounted = (DTWindows(store, 1, gamma).return_to_go for gamma in (1.0, 0.5))
    assert not np.allclose(undiscounted, discounted)


def test_truncated_episodes_are_used_and_those_cut_at_a_horizon_are_not(store):
    windows = DTWindows(store, 3)
    assert store.episodes["end"].tolist() == ["terminated", "truncated", "cut"] * 2
    assert windows.known.tolist() == [True, True, False] * 2
    assert WindowSampler(windows, NONE, SamplingConfig(), 0).training.tolist() == [0, 1, 3, 4]


def episodes_of(store, steps):
    return store.step_table()[steps, 0]


def drawn(store, n=4000, held_out=NONE, seed=0, **config):
    sampler = WindowSampler(DTWindows(store, 3), held_out, SamplingConfig(**config), seed)
    return sampler.draw(0, n)


def shares(store, steps):
    return np.bincount(episodes_of(store, steps), minlength=6) / len(steps)


def test_every_step_of_a_training_episode_is_equally_likely(store):
    count = np.bincount(drawn(store, 23000), minlength=store.num_steps)
    allowed = np.isin(store.step_table()[:, 0], [0, 1, 3, 4])
    assert (count[~allowed] == 0).all()
    np.testing.assert_allclose(count[allowed] / 1000, 1, atol=0.2)


def test_without_weights_by_length_every_episode_is_equally_likely(store):
    np.testing.assert_allclose(
        shares(store, drawn(store, length_weighted=False)), [1 / 4, 1 / 4, 0, 1 / 4, 1 / 4, 0], atol=0.03
    )
    np.testing.assert_allclose(shares(store, drawn(store)), np.array([7, 1, 0, 12, 3, 0]) / 23, atol=0.03)


def test_prob_go_from_end_draws_that_share_of_last_steps(store):
    def last_share(prob):
        episode, time = store.step_table()[drawn(store, prob_go_from_end=prob)].T
        return (time == store.episodes["length"][episode] - 1).mean()

    assert last_share(1.0) == 1
    assert abs(last_share(0.5) - (0.5 + 0.5 * 4 / 23)) < 0.03
    assert abs(last_share(0.0) - 4 / 23) < 0.03


def test_pct_traj_keeps_the_best_episodes(store):
    best = np.argmax(np.where(np.isin(np.arange(6), [0, 1, 3, 4]), store.episodes["return"], -np.inf))
    assert set(episodes_of(store, drawn(store, pct_traj=0.01))) == {best}


def test_held_out_episodes_are_for_validation_only(store):
    held_out = np.array([True, False, False, False, False, True])
    sampler = WindowSampler(DTWindows(store, 3), held_out, SamplingConfig(), 0)
    assert set(episodes_of(store, sampler.draw_validation(0, 500))) == {0}
    assert 0 not in episodes_of(store, sampler.draw(0, 500))


def test_draws_depend_on_seed_and_number_of_the_batch_alone(store):
    assert np.array_equal(drawn(store), drawn(store))
    assert not np.array_equal(drawn(store), drawn(store, seed=1))


def test_nothing_left_to_train_on_is_refused(store):
    with pytest.raises(UsageError, match="no episode with a known return"):
        WindowSampler(DTWindows(store, 3), ~NONE, SamplingConfig(), 0)


@pytest.mark.parametrize("wrong", [dict(pct_traj=0.0), dict(pct_traj=1.1), dict(prob_go_from_end=-0.1)])
def test_impossible_shares_are_refused(wrong):
    with pytest.raises(ValueError, match="it must lie in"):
        SamplingConfig(**wrong)
