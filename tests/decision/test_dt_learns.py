"""What a Decision Transformer must be able to learn: a copy task, and to do as it is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.behaviours import RandomPolicy, make_behaviour
from decision import calibration
from decision.calibration import PeriodicRollouts, difference, episodes_per_target, rank_correlation, slope
from decision.config import TrainConfig
from decision.model import DecisionTransformer
from decision.optim import make_optimizer
from decision.policy import DTPolicy
from decision.returns import returns_to_go
from decision.trainer import Trainer
from decision.windows import DTBatch, DTWindows, SamplingConfig, WindowSampler
from envs.diagnostic_envs import DiagnosticVecEnv
from rollouts.play import EpisodeSpec
from rollouts.record import Actor, play_shard
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.decision.reward_per_action import STEPS, RewardPerAction
from tests.helpers.decision.toy_decision import FEATURES, small_config

SIZE = 16


def copy_batch(seed, windows=32, steps=8):
    """The right action is the symbol that was shown two steps ago."""
    symbol = torch.randint(0, 5, (windows, steps), generator=torch.Generator().manual_seed(seed))
    state = torch.nn.functional.one_hot(symbol, FEATURES).float()
    action = torch.cat([symbol[:, :1], symbol[:, :1], symbol[:, :-2]], 1)
    time = torch.arange(steps).expand(windows, -1)
    return DTBatch(state, action, torch.zeros(windows, steps), time, torch.ones(windows, steps, dtype=bool))


def fit_to_copy(**shape):
    """Loss and accuracy on new sequences after 200 batches."""
    torch.manual_seed(0)
    model = DecisionTransformer(small_config(n_layers=1, d_model=32, d_mlp=64, **shape))
    optimizer = make_optimizer(model, TrainConfig(lr=1e-2, weight_decay=0.0))
    for step in range(200):
        loss, _ = model.loss(copy_batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.loss(copy_batch(10**6))


@pytest.mark.parametrize("model_type", ["decision_transformer", "clone_transformer"])
def test_a_copy_task_is_learned_to_zero_loss(model_type):
    loss, accuracy = fit_to_copy(context_length=4, model_type=model_type)
    assert loss < 0.02
    assert accuracy == 1


def test_a_context_too_short_for_the_copy_task_does_not_learn_it():
    """The control: one layer whose tokens see a single step back cannot know the symbol of two steps ago."""
    assert fit_to_copy(context_length=2)[0] > 0.8


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Rollouts:
    """Random play in a world of one step in which action 1 earns +1 and action 0 earns -1."""
    path = tmp_path_factory.mktemp("choice") / "store"
    env = DiagnosticVecEnv("choice", 8, size=SIZE)
    manifest = {"num_actions": 2, "action_names": ["zero", "one"], "noop": 0, "hidden_size": 1}
    create_store(path, manifest | {"obs_shape": list(env.obs_shape), "env": {"env_name": "choice"}})
    jobs = [EpisodeSpec(level, level) for level in range(200)]
    write_shard(path, 0, *play_shard(env, Actor(RandomPolicy(2), "random", "none"), jobs, 0))
    return Rollouts.open(path)


def trained(store: Rollouts, directory: Path, model_type: str) -> DecisionTransformer:
    config = TrainConfig(
        num_batches=60, batch_size=32, window_steps=2, lr=1e-2, warmup_steps=5, weight_decay=0.0
    )
    windows = DTWindows(store, config.window_steps)
    sampler = WindowSampler(windows, np.zeros(len(store), bool), SamplingConfig(), 0)
    torch.manual_seed(0)
    shape = dict(num_actions=2, obs_shape=(SIZE, SIZE, 3), state_embedding="patches", patch_size=8)
    model = DecisionTransformer(small_config(model_type=model_type, **shape))
    Trainer(model, config, windows, sampler, directory, 0, torch.device("cpu"), {}).train()
    return model.eval()


def achieved(model, targets, behaviour="agent"):
    env = DiagnosticVecEnv("choice", 8, size=SIZE)
    jobs = [EpisodeSpec(level, 0) for level in range(1000, 1040)]
    wrap = lambda policy: make_behaviour(policy, behaviour)  # noqa: E731
    return np.stack(
        [episodes.total_reward for episodes in episodes_per_target(model, targets, env, jobs, 0, wrap)]
    )


def test_a_world_in_which_the_asked_return_decides_the_action_is_solved(recorded, tmp_path):
    model = trained(recorded, tmp_path, "decision_transformer")
    returns = achieved(model, [-1.0, 1.0])
    assert (returns[0] == -1).all()
    assert (returns[1] == 1).all()
    assert slope([-1, 1], returns, np.arange(40)).value == pytest.approx(1)


def test_periodic_rollouts_are_the_mean_returns_by_target(recorded, tmp_path):
    model = trained(recorded, tmp_path, "decision_transformer")
    env = DiagnosticVecEnv("choice", 8, size=SIZE)
    play = PeriodicRollouts(env, [EpisodeSpec(level) for level in range(9)], [-1.0, 1.0], 0)
    assert play(model) == {"return_asked_-1": -1.0, "return_asked_1": 1.0}


def test_a_clone_does_there_what_the_data_did(recorded, tmp_path):
    model = trained(recorded, tmp_path, "clone_transformer")
    returns = achieved(model, [-1.0, 1.0])
    assert np.array_equal(returns[0], returns[1])
    assert abs(returns.mean()) < 0.5
    assert len(set(achieved(model, [1.0], "greedy").flatten())) == 1


def random_episodes(seed, windows=64):
    """Whole episodes of a world that pays each action 1, of players who choose 1 more or less often."""
    rng = np.random.default_rng(seed)
    action = (rng.random((windows, STEPS)) < rng.random((windows, 1))).astype(np.int64)
    rtg = returns_to_go(action.reshape(-1), [STEPS] * windows).reshape(windows, STEPS)
    time = torch.arange(STEPS).expand(windows, -1)
    frames = torch.zeros(windows, STEPS, *RewardPerAction.obs_shape, dtype=torch.uint8)
    return DTBatch(frames, torch.from_numpy(action), torch.from_numpy(rtg).float(), time, time >= 0)


@pytest.fixture(scope="module")
def model_of_random_play():
    torch.manual_seed(0)
    shape = dict(num_actions=2, state_embedding="patches", n_layers=1, d_model=32, d_mlp=64, context_length=2)
    model = DecisionTransformer(small_config(**shape))
    optimizer = make_optimizer(model, TrainConfig(lr=1e-2, weight_decay=0.0))
    for step in range(250):
        loss, _ = model.loss(random_episodes(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


TARGETS = np.arange(9.0)


def earned(model):
    """Returns [9, 24] for each target of 0 to 8."""
    jobs = [EpisodeSpec(level) for level in range(24)]
    played = episodes_per_target(model, TARGETS, RewardPerAction(5), jobs, 0)
    return np.stack([episodes.total_reward for episodes in played])


def test_a_model_of_random_play_earns_just_what_it_is_asked_for(model_of_random_play):
    returns = earned(model_of_random_play)
    assert abs(returns - TARGETS[:, None]).mean() < 0.3
    assert rank_correlation(TARGETS, returns, np.arange(24)).value == pytest.approx(1)
    assert slope(TARGETS, returns, np.arange(24)).value == pytest.approx(1, abs=0.1)


class NeverLowered(DTPolicy):
    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, first, 0 * reward)


class RewardOfTheLast(DTPolicy):
    """A mistake met in public code: every return-to-go is lowered by the last environment's reward."""

    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, first, reward[-1:].expand(len(reward)))


@pytest.mark.parametrize("mutant", [NeverLowered, RewardOfTheLast])
def test_returns_to_go_that_are_lowered_wrongly_miss_the_target(model_of_random_play, monkeypatch, mutant):
    monkeypatch.setattr(calibration, "DTPolicy", mutant)
    assert abs(earned(model_of_random_play) - TARGETS[:, None]).mean() > 0.5


LEVELS = np.repeat(np.arange(50), 2)


def planted(gain, seed=0, spread=1.0):
    """Returns of 100 episodes for each of 8 targets: gain * target + noise."""
    targets = np.linspace(0, 7, 8)
    rng = np.random.default_rng(seed)
    return targets, gain * targets[:, None] + spread * rng.normal(size=(8, 100))


def test_a_planted_slope_lies_in_its_interval():
    found = slope(*planted(0.5), LEVELS)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.2


def test_the_slope_is_that_of_a_least_squares_fit():
    targets, returns = planted(0.7)
    assert slope(targets, returns, LEVELS).value == pytest.approx(np.polyfit(targets, returns.mean(1), 1)[0])


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 1.0), (-1.0, -1.0)])
def test_the_rank_correlation_of_a_monotone_response_is_one(gain, expected):
    found = rank_correlation(*planted(gain, spread=0.1), LEVELS)
    assert found.value == pytest.approx(expected)


def test_the_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    targets, returns = planted(0.05)
    expected = spearmanr(targets, returns.mean(1)).statistic
    assert rank_correlation(targets, returns, LEVELS).value == pytest.approx(expected)


def test_without_conditioning_the_slope_is_zero_and_the_rank_correlation_undefined():
    returns = np.repeat(np.random.default_rng(0).normal(size=(1, 100)), 8, 0)
    targets = np.arange(8.0)
    assert abs(slope(targets, returns, LEVELS).value) < 1e-12
    assert str(rank_correlation(targets, np.ones((8, 100)), LEVELS)) == "undefined"


def test_paired_differences_are_narrower_than_those_of_unpaired_returns():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 50)[LEVELS]
    found = difference(hard + 1 + 0.1 * rng.normal(size=100), hard, LEVELS)
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.2
