"""The memory horizon finds planted memories of known length, and its parts are what they say."""

import numpy as np
import pytest
import torch
from torch import distributions
from torch.distributions import Categorical

from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.memory.truncated_history import (
    MEASURES,
    black_run_length,
    donor_episodes,
    kl_divergence,
    mean_changes,
    memory_horizon,
    paired_solve_rate,
    policy_change,
    step_groups,
)
from common.stats import cluster_bootstrap, estimates, mean_by_level

CLASSES = (0, 1, 2, 2)


class Delay(torch.nn.Module):
    """A core that remembers its last `length` features [F] and nothing before them."""

    def __init__(self, length: int, width: int = 3):
        super().__init__()
        self.width = width
        self.state_size = length * width

    def step(self, features, state, first):
        state = state.masked_fill(first[:, None], 0.0)
        return torch.cat([features, state[:, : self.state_size - self.width]], 1)

    def unroll(self, features, state, first):
        states = []
        for x, opens in zip(features, first):
            state = self.step(x, state, opens)
            states.append(state)
        return torch.stack(states)


class Planted:
    """An agent whose policy and value read the feature of `length` - 1 steps ago, and only that."""

    def __init__(self, length: int):
        self.core = Delay(length)

    def initial_state(self, n):
        return torch.zeros(n, self.core.state_size)

    def heads(self, state):
        oldest = state[:, -self.core.width :] if state.ndim == 2 else state[..., -self.core.width :]
        return torch.cat([oldest, oldest[..., :1]], -1), oldest.sum(-1)


def features(steps: int = 60, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(steps, 3)).astype(np.float32))


@pytest.mark.parametrize("length", [1, 2, 4, 8, 32])
def test_a_planted_memory_is_as_long_as_it_is(length):
    agent = Planted(length)
    x = features()
    nothing = agent.initial_state(1)
    other = torch.cat(
        [
            nothing,
            agent.core.unroll(features(seed=1)[:, None], nothing, torch.zeros(60, 1, dtype=torch.bool))[:, 0],
        ]
    )
    found = memory_horizon(agent, x, other, CLASSES)
    for i, k in enumerate(CONTEXT_FRAMES):
        for measure in found:
            late = np.abs(measure[32:, i])  # [T, 2]
            assert (late == 0).all() if k >= length else (late.mean(0) > 0.05).all(), (k, length)
    assert (found.kl[: length - 1, CONTEXT_FRAMES.index(length)] == 0).all()


def test_early_steps_have_no_other_past_to_forget():
    agent = Planted(32)
    x = features()
    found = memory_horizon(agent, x, torch.ones(61, agent.core.state_size), CLASSES)
    for i, k in enumerate(CONTEXT_FRAMES[1:], 1):
        assert (found.kl[:k, i] == 0).all()


def test_divergence_is_that_of_torch_and_never_below_zero():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2, 50, 5)))
    p, q = torch.softmax(logits, -1).numpy()
    expected = distributions.kl_divergence(Categorical(logits=logits[0]), Categorical(logits=logits[1]))
    assert kl_divergence(p, q) == pytest.approx(expected.numpy())
    assert (kl_divergence(p, p) == 0).all()
    assert not np.allclose(kl_divergence(p, q), kl_divergence(q, p))
    assert kl_divergence(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))


def test_actions_of_one_effect_are_one_choice():
    """The planted policy's third and fourth actions have one effect: moving probability between them is no
    change.
    """

    class Heads:
        def heads(self, state):
            return state, state[..., 0]

    own = torch.tensor([[0.0, 0.0, 1.0, -30.0]])
    swapped = policy_change(Heads(), own, own[:, [0, 1, 3, 2]], CLASSES)
    moved = policy_change(Heads(), own, own[:, [2, 1, 0, 3]], CLASSES)
    assert swapped.kl == pytest.approx(0, abs=1e-12)
    assert swapped.total_variation == pytest.approx(0, abs=1e-12)
    assert moved.kl[0] > 0.1
    assert moved.value_change[0] == 1


def test_another_episode_is_never_the_same_and_lasts_as_long():
    length = np.array([5, 3, 9, 9, 2, 9, 30])
    drawn = np.stack([donor_episodes(length, seed) for seed in range(200)])
    assert (drawn != np.arange(7)).all()
    assert (length[drawn] >= length)[:, np.arange(7) != 6].all()
    assert all(len(np.unique(column)) > 1 for column in drawn.T[[0, 1, 4]])
    with pytest.raises(ValueError, match="two or more"):
        donor_episodes(length[:1], 0)


def test_black_runs_count_frames_in_a_row_that_show_nothing():
    obs = np.zeros((7, 4, 4, 3), np.uint8)
    obs[[0, 4], 1, 2, 0] = 1
    assert black_run_length(obs).tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert black_run_length(obs[1:]).tolist() == [1, 2, 3, 0, 1, 2]


def test_kinds_of_steps():
    concepts = {"support": np.array([True, False, False, True]), "vy": np.array([0, 0.5, -0.5, 0])}
    for kind in ("saw", "enemy", "lava", "pit"):
        concepts |= {
            f"{kind}_ahead": np.array([kind == "saw"] * 4),
            f"tiles_to_{kind}": np.array([3.9, 4.1, 0, np.nan]),
        }
    found = step_groups(concepts, np.array([0, 0, 1, 3]))
    marked = {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}
    assert marked == {
        "all": [0, 1, 2, 3],
        "ground": [0, 3],
        "air": [1, 2],
        "rising": [1],
        "falling": [2],
        "hazard near": [0, 2],
        "no hazard near": [1, 3],
        "black": [2, 3],
        "shown": [0, 1],
    }


def test_means_and_intervals_are_by_level():
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    values = rng.normal(size=(len(level), 2)) + rng.normal(size=40)[level, None]
    for value, (mean, low, high) in zip(values.T, estimates(mean_by_level(values, level))):
        other = cluster_bootstrap(value, level)
        assert mean == pytest.approx(other.mean)
        assert (low, high) == pytest.approx((other.low, other.high), abs=0.05)
        by_step = cluster_bootstrap(value, np.arange(len(level)))
        assert high - low > 1.3 * (by_step.high - by_step.low)


def test_curves_take_the_chosen_steps_and_the_size_of_value_changes():
    found = {"level": np.array([1, 1, 2, 2]), "value_change": np.array([[-1.0], [1.0], [-3.0], [100.0]])}
    found |= {name: np.abs(found["value_change"]) for name in MEASURES[:2]}
    chosen = np.array([True, True, True, False])
    one = mean_changes(found, chosen, 2.0)
    assert one["n"] == 3
    assert one["levels"] == 2
    assert one["value_change"][0][0] == pytest.approx(10 / 3)
    assert one["kl"][0][0] == pytest.approx(5 / 3)
    assert mean_changes(found, np.array([True, True, False, False])) == {"n": 2, "levels": 1} | dict.fromkeys(
        MEASURES
    )


def test_the_change_of_solved_levels_is_paired():
    level = np.arange(400)
    rng = np.random.default_rng(0)
    whole = rng.random(400) < 0.7
    worse = whole & (np.arange(400) % 10 > 0)
    found = paired_solve_rate(level, worse, whole)
    assert found["change"][0] == pytest.approx((worse.astype(float) - whole).mean())
    assert found["change"][2] < 0
    assert found["change"][2] - found["change"][1] < 0.6 * (found["solved"][2] - found["solved"][1])
    assert paired_solve_rate(level, whole, whole)["change"] == [0, 0, 0]
