"""The learner: advantages, loss, consistency between acting and learning, and every one of its settings."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.actor_critic import load_agent
from agents.ppo import PPOConfig, RolloutBuffer, advantages, ppo_loss, replay, update
from common.policy import categorical_log_prob
from envs.diagnostic_envs import DiagnosticVecEnv
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from tests.helpers.tiny_models import sharpen, staggered, trainer

SHIPPED = sorted((Path(__file__).parents[2] / "pretrained").rglob("model.safetensors"))
CONFIG = PPOConfig(n_envs=8, n_steps=32, epoch=2, mini_batch_per_epoch=4, gamma=0.9, lmbda=0.8)


def brute_force(reward, value, ended, next_value, gamma, lmbda):
    """Generalised advantages as the double sum of their definition, stopped at ends."""
    T, N = reward.shape
    out = np.zeros((T, N))
    for n in range(N):
        following = np.append(value[1:, n], next_value[n])
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                out[t, n] += weight * (reward[k, n] + gamma * following[k] * (not ended[k, n]) - value[k, n])
                if ended[k, n]:
                    break
                weight *= gamma * lmbda
    return out


def random_rollout(seed=0, T=24, N=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, N)), rng.normal(size=(T, N)), rng.random((T, N)) < 0.15, rng.normal(size=N)


@pytest.mark.parametrize(("gamma", "lmbda"), [(0.999, 0.95), (0.9, 0.0), (0.99, 1.0)])
def test_advantages_are_the_definitions(gamma, lmbda):
    given = random_rollout()
    ours = advantages(*map(torch.from_numpy, given), gamma, lmbda).numpy()
    np.testing.assert_allclose(ours, brute_force(*given, gamma, lmbda), atol=1e-5)
    reward, value, ended, next_value = given
    mutant = brute_force(reward, value, np.roll(ended, 1, axis=0), next_value, gamma, lmbda)
    assert np.abs(ours - mutant).max() > 0.1


def test_a_truncated_episode_bootstraps_from_the_frame_it_stopped_at():
    reward = torch.zeros(4, 1)
    value = torch.full((4, 1), 5.0)
    ended = torch.tensor([[0], [1], [0], [0]]).bool()
    given = reward, value, ended, torch.tensor([5.0]), 0.999, 0.95
    shown = advantages(*given, final_value=5.0 * ended)
    assert shown[:2, 0].tolist() == pytest.approx([-0.00974525, -0.005], abs=1e-5)
    hidden = advantages(*given)
    assert hidden[:2, 0].tolist() == pytest.approx([-4.75025, -5.0], abs=1e-5)


def test_the_learner_values_the_frame_that_a_truncated_episode_stopped_at(tmp_path):
    """Episodes of the counter stop after 4 of its 10 steps: their last step bootstraps from the fifth frame,
    with the memory of all four.
    """
    env = DiagnosticVecEnv("counter", CONFIG.n_envs, 0, 16, time_limit=4)
    learner = trainer(tmp_path, env, CONFIG)
    learner.collect()
    buffer = learner.buffer
    cut = torch.arange(CONFIG.n_steps) % 4 == 3
    assert buffer.ended[cut].all()
    assert not buffer.ended[~cut].any()
    assert not buffer.final_value[~cut].any()
    frames = DiagnosticVecEnv("counter", 1, 0, 16)
    for _ in range(4):
        frames.act(np.zeros(1, np.int64))
    with torch.no_grad():
        states = learner.agent.unroll(buffer.obs[:4], buffer.state, buffer.first[:4])
        fifth = torch.from_numpy(np.repeat(frames.observe()[1], CONFIG.n_envs, 0))
        after = learner.agent.advance(
            fifth, states[-1], torch.zeros(CONFIG.n_envs, dtype=torch.bool), torch.zeros(CONFIG.n_envs)
        )
        torch.testing.assert_close(buffer.final_value[3], learner.agent.heads(after)[1], atol=1e-4, rtol=1e-4)
    assert buffer.final_value[3].abs().min() > 1e-4


@pytest.mark.parametrize(
    "env",
    [
        lambda: DiagnosticVecEnv("counter", 8, 0, 16),
        lambda: ProcgenVecEnv(8, ProcgenConfig("coinrun", 5), 0, 1),
    ],
)
def test_environments_that_show_no_final_frame_have_no_value_of_it(tmp_path, env):
    learner = trainer(tmp_path, env(), CONFIG)
    learner.collect()
    assert "final_obs" not in learner.env.info()
    assert not learner.buffer.final_value.any()


def test_lambda_one_is_the_discounted_return():
    reward, value, ended, next_value = random_rollout(1)
    returns = np.zeros_like(reward)
    carry = next_value.copy()
    for t in reversed(range(len(reward))):
        carry = returns[t] = reward[t] + 0.97 * np.where(ended[t], 0, carry)
    ours = advantages(*map(torch.from_numpy, (reward, value, ended, next_value)), 0.97, 1.0).numpy()
    np.testing.assert_allclose(ours, returns - value, atol=1e-5)


def rollout(tmp_path, config=CONFIG, core="gru", precision="fp32", seed=0):
    """A learner with one rollout of the staggered memory probe in its buffer."""
    learner = trainer(
        tmp_path, staggered("memory", config.n_envs), config, seed, core=core, precision=precision
    )
    sharpen(learner.agent)
    learner.collect()
    return learner


def log_ratio(agent, buffer):
    """log (probability now / probability when acting) of every action in the buffer, [T, N]."""
    with torch.no_grad():
        logits, _ = replay(agent, buffer, torch.arange(buffer.state.shape[0]))
    return categorical_log_prob(logits, buffer.action) - buffer.log_prob


@pytest.mark.parametrize("core", ["gru", "lstm", "none"])
def test_learning_sees_what_acting_saw(tmp_path, core):
    learner = rollout(tmp_path, core=core)
    learner.collect()  # the second rollout begins in the middle of episodes
    assert learner.buffer.ended.float().mean() > 0.15
    assert len(set(learner.buffer.ended.float().argmax(0).tolist())) > 2
    assert log_ratio(learner.agent, learner.buffer).abs().max() <= 1e-4
    if core != "none":
        learner.buffer.first = learner.buffer.first.roll(1, 0)
        assert log_ratio(learner.agent, learner.buffer).abs().max() >= 1e-3


def test_values_are_replayed_too(tmp_path):
    learner = rollout(tmp_path)
    value = replay(learner.agent, learner.buffer, torch.arange(8))[1]
    torch.testing.assert_close(value.detach(), learner.buffer.value, atol=1e-5, rtol=1e-4)


def test_bf16_is_close_and_a_shifted_reset_is_not(tmp_path):
    learner = rollout(tmp_path, precision="bf16")
    right = log_ratio(learner.agent, learner.buffer).abs().mean()
    learner.buffer.first = learner.buffer.first.roll(1, 0)
    wrong = log_ratio(learner.agent, learner.buffer).abs().mean()
    assert right <= 5e-3
    assert wrong >= 10 * max(right, 1e-4)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("bf16", 5e-3)])
def test_the_trained_agent_is_consistent_on_coinrun(tmp_path, precision, bound):
    agent, meta = next(loaded for loaded in map(load_agent, SHIPPED) if loaded[0].config.core != "none")
    sizes = {
        name: value
        for name, value in vars(agent.config).items()
        if name not in ("num_actions", "obs_shape", "precision")
    }
    env = ProcgenVecEnv(16, replace(ProcgenConfig(), **meta["env"]), 0, 1)
    learner = trainer(
        tmp_path, env, PPOConfig(n_envs=16, n_steps=192, mini_batch_per_epoch=4), precision=precision, **sizes
    )
    learner.agent.load_state_dict(agent.state_dict())
    learner.collect()
    assert learner.buffer.ended.sum() >= 8
    distance = (lambda x: x.abs().max()) if precision == "fp32" else (lambda x: x.abs().mean())
    right = distance(log_ratio(learner.agent, learner.buffer))
    learner.buffer.first = learner.buffer.first.roll(1, 0)
    assert right <= bound
    assert distance(log_ratio(learner.agent, learner.buffer)) >= 10 * max(right, 1e-6)


def test_a_boundary_frame_is_taken_in_once(tmp_path):
    """The state that opens a rollout is the one that the rollout before it ended in."""
    learner = rollout(tmp_path)
    agent = learner.agent
    buffer = learner.buffer
    with torch.no_grad():
        last = agent.unroll(buffer.obs, buffer.state, buffer.first)[-1]
        next_value = agent.heads(
            agent.advance(*learner._inputs(*[learner.env.observe()[i] for i in (1, 2, 0)]))
        )[1]
    torch.testing.assert_close(buffer.next_value, next_value)
    learner.collect()
    torch.testing.assert_close(buffer.state, last, atol=1e-5, rtol=1e-4)
    assert (buffer.state - last).abs().max() < 0.1 * last.abs().mean()


def numpy_loss(logits, value, buffer, advantage, returns, config):
    """PPO's loss in numpy, from the paper's formulas."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    taken = np.take_along_axis(log_probs, buffer.action.numpy()[..., None], -1)[..., 0]
    ratio = np.exp(taken - buffer.log_prob.numpy())
    policy = -np.minimum(
        ratio * advantage, np.clip(ratio, 1 - config.eps_clip, 1 + config.eps_clip) * advantage
    ).mean()
    old = buffer.value.numpy()
    clipped = old + np.clip(value - old, -config.eps_clip_value, config.eps_clip_value)
    worth = 0.5 * np.maximum((value - returns) ** 2, (clipped - returns) ** 2).mean()
    entropy = -(np.exp(log_probs) * log_probs).sum(-1).mean()
    return policy + config.value_coef * worth - config.entropy_coef * entropy, policy, worth, entropy


def test_the_loss_is_the_papers(tmp_path):
    learner = rollout(tmp_path)
    rng = np.random.default_rng(0)
    advantage = rng.normal(size=(32, 8)).astype(np.float32)
    returns = rng.normal(size=(32, 8)).astype(np.float32)
    learner.buffer.log_prob += 0.4 * torch.randn(32, 8)  # as if the policy had moved: some ratios are clipped
    learner.buffer.value += 0.4 * torch.randn(32, 8)
    envs = torch.arange(8)
    loss, parts = ppo_loss(
        learner.agent, learner.buffer, torch.from_numpy(advantage), torch.from_numpy(returns), envs, CONFIG
    )
    logits, value = (x.detach().numpy() for x in replay(learner.agent, learner.buffer, envs))
    wanted = numpy_loss(logits, value, learner.buffer, advantage, returns, CONFIG)
    np.testing.assert_allclose(
        [loss.item(), parts["policy_loss"], parts["value_loss"], parts["entropy"]], wanted, rtol=2e-4
    )
    assert 0.1 < parts["clip_fraction"] < 0.9


def weights_after(tmp_path, config, seed=0):
    """The learner's scaled rewards, and its weights after one update."""
    learner = trainer(
        tmp_path / str(len(list(tmp_path.iterdir()))), staggered("memory", config.n_envs), config, seed
    )
    learner.collect()
    learner._set_learning_rate()
    update(learner.agent, learner.optimizer, learner.buffer, config, np.random.default_rng(0))
    return learner.buffer.reward, torch.cat([p.detach().flatten() for p in learner.agent.parameters()])


CHANGED = {
    "n_envs": 4,
    "n_steps": 16,
    "epoch": 3,
    "mini_batch_per_epoch": 2,
    "gamma": 0.5,
    "lmbda": 0.3,
    "learning_rate": 1e-3,
    "grad_clip_norm": 0.05,
    "eps_clip": 0.001,
    "eps_clip_value": 0.0,
    "value_coef": 2.0,
    "entropy_coef": 0.5,
    "normalize_adv": False,
    "normalize_rew": False,
    "use_gae": False,
}


def test_every_setting_is_listed():
    # anneal: tests/agents/test_trainer.py
    assert CHANGED.keys() | {"anneal"} == {field.name for field in fields(PPOConfig)}


@pytest.mark.parametrize("name", CHANGED)
def test_every_setting_changes_the_weights(tmp_path, name):
    """The same rollout, one setting changed: other weights, and other rewards only for what scales or shapes
    them.
    """
    reward, weights = weights_after(tmp_path, CONFIG)
    other_reward, other_weights = weights_after(tmp_path, replace(CONFIG, **{name: CHANGED[name]}))
    assert not torch.equal(weights, other_weights)
    assert torch.equal(reward, other_reward) == (name not in ("n_envs", "n_steps", "normalize_rew"))


def test_the_same_settings_give_the_same_weights(tmp_path):
    assert torch.equal(weights_after(tmp_path, CONFIG)[1], weights_after(tmp_path, CONFIG)[1])


def test_minibatches_are_whole_environments():
    with pytest.raises(ValueError, match="must be a multiple"):
        PPOConfig(n_envs=6, mini_batch_per_epoch=4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_envs": 0}, "n_envs is 0"),
        ({"n_steps": 1.5}, "n_steps is 1.5"),
        ({"epoch": "3"}, "epoch is '3'"),
        ({"gamma": 2}, "must not pass 1"),
        ({"gamma": 0}, "gamma is 0"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"lmbda": 1.5}, "must not pass 1"),
        ({"mini_batch_per_epoch": 0}, "mini_batch_per_epoch is 0"),
        ({"eps_clip": 0}, "eps_clip is 0"),
    ],
)
def test_settings_that_cannot_be_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**changed)


def test_what_is_not_finite_stops_training(tmp_path):
    learner = rollout(tmp_path)
    learner.buffer.reward[3, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        update(learner.agent, learner.optimizer, learner.buffer, CONFIG, np.random.default_rng(0))


def test_the_big_rollout_fits():
    """256 x 256 frames of Procgen, counted without holding them."""
    small = RolloutBuffer(4, 8, (64, 64, 3), 64)
    rest = small.nbytes - small.obs.nbytes
    assert small.obs.nbytes == 4 * 8 * 12288
    assert rest < 4 * 8 * 100
    assert small.nbytes * (256 * 256) / (4 * 8) < 1.2e9


SOLVED = 0.8
"""Mean return of the last 100 episodes, where 1 is perfect. Chance is 0 with a deviation of 0.1: eight
deviations away, whatever the rounding.
"""


def iterations_to_solve(tmp_path, probe: str, core: str, most: int, seed: int = 0) -> int | None:
    """After how many iterations of a short training the probe is first solved; None where `most` are not
    enough.

    At this learning rate a solved probe may be lost and learned again: what counts is that it was solved.
    """
    learner = trainer(tmp_path, DiagnosticVecEnv(probe, FAST.n_envs, seed, 16), FAST, seed, core)
    for iteration in range(most):
        learner.collect()
        if np.mean(learner.statistics.rewards) > SOLVED:
            return iteration
        update(
            learner.agent, learner.optimizer, learner.buffer, FAST, np.random.default_rng([seed, iteration])
        )
        learner.iteration += 1
    return None


FAST = PPOConfig(
    n_envs=64,
    n_steps=10,
    epoch=3,
    mini_batch_per_epoch=4,
    gamma=0.95,
    learning_rate=3e-3,
    anneal=False,
    normalize_rew=False,
)


@pytest.mark.parametrize("probe", ["choice", "match"])
def test_simple_probes_are_solved(tmp_path, probe):
    assert any(
        iterations_to_solve(tmp_path / str(seed), probe, "none", 40, seed) is not None for seed in range(3)
    )


def test_the_memory_probe_needs_memory(tmp_path):
    assert any(
        iterations_to_solve(tmp_path / str(seed), "memory", "gru", 60, seed) is not None for seed in range(3)
    )
    assert iterations_to_solve(tmp_path / "none", "memory", "none", 12) is None
