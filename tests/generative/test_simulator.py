"""Simulation: what each field of the Segment means, reproducible noise, ends, and gradients that finite
differences confirm.
"""

import numpy as np
import pytest
import torch

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from common.checkpoints import BadCheckpoint
from common.noise import gumbel_noise
from common.policy import Policy, sample
from common.runs import file_id
from generative.model.frames import frames_to_bytes, round_frames
from generative.model.world_model import WorldModel
from generative.model.world_model_file import load_world_model, save_world_model
from generative.noise_keys import NoiseKeys
from generative.simulator import EXTRA_STEPS, STATE_NOISE, Simulator
from generative.simulator_file import load_simulator
from tests.helpers.toy_simulator import toy_simulator
from tests.helpers.toy_world import ACTIONS, NOOP, SIZE, toy_agent, toy_config

pytestmark = pytest.mark.usefixtures("float32")

STEPS = 5
CONFIG = toy_config()
Z = CONFIG.latent_size


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


@pytest.fixture(scope="module")
def z():
    return torch.randn(6, Z, generator=torch.Generator().manual_seed(0))


def keys(n=6, seed=0):
    return NoiseKeys(seed, np.arange(n))


def only(n, i):
    return NoiseKeys(n.seed, n.stream[i : i + 1])


def same_bytes(frames, others) -> bool:
    """Equal up to rounding: textures may be computed together with other tiles."""
    off = (frames.int() - others.int()).abs()
    return off.max() <= 1 and off.float().mean() < 0.01


def test_every_field_is_what_a_walk_by_hand_gives(simulator, z):
    out = simulator.simulate(z, STEPS, keys(), ends=False)
    model = simulator.model
    agent = simulator.agent
    with torch.no_grad():

        def noise(i):
            shape = CONFIG.noise_shape
            drawn = gumbel_noise(STATE_NOISE, np.arange(6), 0, i, int(np.prod(shape)))
            return torch.from_numpy(drawn).reshape(6, *shape)

        start = model.start(z)
        state = start.env
        hidden = start.hidden
        torch.testing.assert_close(out.hidden[0], hidden)
        assert torch.equal(out.extra["previous_action"], start.action_logits.argmax(-1))
        for t in range(STEPS):
            assert same_bytes(out.obs[t], frames_to_bytes(model.decode(state)))
            hidden = agent.advance(out.obs[t], hidden, torch.zeros(6, dtype=torch.bool), torch.zeros(6))
            logits, value = agent.heads(hidden)
            action = (logits + torch.from_numpy(gumbel_noise(0, np.arange(6), 0, t, ACTIONS))).argmax(-1)
            assert torch.equal(out.action[t], action)
            torch.testing.assert_close(out.extra["env_state"][t], model.flat_state(state))
            assert torch.equal(out.extra["env_class"][t].long(), state.sample.argmax(-1))
            torch.testing.assert_close(out.extra["motion"][t], state.motion)
            for found, expected in (
                (out.hidden_after()[t], hidden),
                (out.logits[t], logits),
                (out.value[t], value),
            ):
                torch.testing.assert_close(found, expected)
            torch.testing.assert_close(
                out.log_prob[t], torch.log_softmax(logits, -1)[torch.arange(6), action]
            )
            state = model.step(state, action, noise(t))
            outcome = model.outcome(state.outcome)
            torch.testing.assert_close(out.reward[t], torch.softmax(outcome.reward_logits, -1) @ model.bins)
            torch.testing.assert_close(out.extra["done_prob"][t], torch.sigmoid(outcome.done_logit))
            torch.testing.assert_close(
                out.extra["reward_prob"][t],
                torch.softmax(outcome.reward_logits, -1)[:, model.bins > 0].sum(-1),
            )
    assert not out.first.any()
    assert out.mask.all()
    assert not out.terminated.any()
    assert len(out.action.unique()) > 2
    assert out.reward.std() > 0


def test_a_sample_is_the_same_in_any_batch_and_order(simulator, z):
    together = simulator.simulate(z, STEPS, keys())
    order = np.array([4, 0, 5, 2, 1, 3])
    shuffled = simulator.simulate(z[order], STEPS, NoiseKeys(0, order))
    alone = simulator.simulate(z[2:3], STEPS, only(keys(), 2))
    assert alone.obs.shape == (STEPS, 1, SIZE, SIZE, 3)
    assert alone.reward.shape == (STEPS, 1)
    assert alone.hidden.shape == (STEPS + 1, 1, 8)
    for name in ("action", "terminated", "mask", "obs", "hidden", "reward"):
        whole = getattr(together, name).float()
        torch.testing.assert_close(
            getattr(shuffled, name).float(), whole[:, order], rtol=1e-4, atol=1.01 if name == "obs" else 1e-4
        )
        torch.testing.assert_close(
            getattr(alone, name).float(), whole[:, 2:3], rtol=1e-4, atol=1.01 if name == "obs" else 1e-4
        )


def test_seed_stream_repeat_and_step_each_change_the_draw_and_modal_greedy_ignores_them(simulator, z):
    base = simulator.simulate(z, STEPS, keys(), ends=False)
    others = [
        keys(seed=1),
        NoiseKeys(0, np.arange(6) + 9),
        NoiseKeys(0, np.arange(6), repeat=1),
        NoiseKeys(0, np.arange(6), step=7),
    ]
    for other in others:
        out = simulator.simulate(z, STEPS, other, ends=False)
        assert not torch.equal(out.extra["env_class"], base.extra["env_class"])
        assert not torch.equal(out.action, base.action)
        plain, again = (simulator.simulate(z, STEPS, k, use_mode=True, greedy=True) for k in (keys(), other))
        assert torch.equal(plain.obs, again.obs)
        assert torch.equal(plain.action, again.action)
    assert torch.equal(plain.action[0], plain.logits[0].argmax(-1))
    modal = simulator.simulate(z, STEPS, keys(), use_mode=True, ends=False)
    assert not torch.equal(
        modal.action, simulator.simulate(z, STEPS, keys(seed=1), use_mode=True, ends=False).action
    )


def test_noise_of_latents_is_normal_and_shares_nothing_with_other_noise():
    drawn = NoiseKeys(0, np.arange(2000)).normal(16, torch.zeros(1))
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert abs(drawn.pow(4).mean() - 3) < 0.15
    assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.12
    actions = NoiseKeys(0, np.arange(2000)).gumbel(0, 0, (16,), drawn)
    states = NoiseKeys(0, np.arange(2000)).gumbel(STATE_NOISE, 0, (16,), drawn)
    assert torch.corrcoef(torch.cat([drawn.T, actions.T, states.T]))[:16, 16:].abs().max() < 0.12
    assert torch.corrcoef(torch.stack([actions.flatten(), states.flatten()]))[0, 1].abs() < 0.02
    assert torch.equal(actions, torch.from_numpy(gumbel_noise(0, np.arange(2000), 0, 0, 16)))


def test_given_actions_are_taken_as_integers_and_the_agent_still_looks_on(simulator, z):
    own = simulator.simulate(z, STEPS, keys(), ends=False)
    again = simulator.simulate(z, STEPS, keys(), actions=own.action, ends=False)
    assert torch.equal(own.obs, again.obs)
    other = simulator.simulate(z, STEPS, keys(), actions=(own.action + 1) % ACTIONS, ends=False)
    assert torch.equal(other.action, (own.action + 1) % ACTIONS)
    assert torch.equal(other.obs[0], own.obs[0])
    assert not torch.equal(other.obs[1], own.obs[1])
    assert not torch.allclose(other.logits[1], own.logits[1])


def test_an_end_masks_what_follows_and_only_that(simulator, z):
    many = z.repeat(8, 1)
    whole = simulator.simulate(many, STEPS, keys(48), ends=False)
    out = simulator.simulate(many, STEPS, keys(48))
    ended = out.terminated
    assert ended.sum(0).max() == 1
    assert 0 < ended.any(0).float().mean() < 1
    for b in ended[:-1].any(0).nonzero().flatten():
        last = int(ended[:, b].nonzero()[0])
        assert out.mask[: last + 1, b].all()
        assert not out.mask[last + 1 :, b].any()
        assert torch.equal(out.obs[: last + 1, b], whole.obs[: last + 1, b])
        assert not out.obs[last + 1 :, b].any()
        torch.testing.assert_close(out.hidden[last + 1, b], whole.hidden[last + 1, b])
        assert not out.hidden[last + 2 :, b].any()
        assert (out.action[last + 1 :, b] == NOOP).all()
        assert not out.reward[last + 1 :, b].any()
    share = ended[0].float().mean()
    assert share == pytest.approx(whole.extra["done_prob"][0].mean().item(), abs=0.25)
    modal = simulator.simulate(many, STEPS, keys(48), use_mode=True)
    assert torch.equal(modal.terminated[0], modal.extra["done_prob"][0] > 0.5)


def test_a_batch_that_has_ended_is_not_simulated_further(simulator, z):
    """Ended rows are computed no further; bits equal those of a batch in which one row continues."""
    many = z.repeat(8, 1)
    whole = simulator.simulate(many, STEPS, keys(48))
    length = whole.mask.sum(0)
    short = (length <= 2).nonzero().flatten()[:4].numpy()
    longest = int(length.argmax())
    assert len(short) == 4
    assert length[longest] == STEPS
    steps = simulator.step
    taken = []

    def counted(*given):
        taken.append(1)
        return steps(*given)

    simulator.step = counted
    try:
        rows = np.append(short, short[0])
        alone = simulator.simulate(many[rows], STEPS, NoiseKeys(0, rows))
        few = len(taken)
        rows[-1] = longest
        batched = simulator.simulate(many[rows], STEPS, NoiseKeys(0, rows))
    finally:
        del simulator.step
    assert few == int(length[short].max()) < STEPS
    assert len(taken) == few + STEPS
    for name in (
        "obs",
        "action",
        "reward",
        "terminated",
        "truncated",
        "first",
        "mask",
        "value",
        "logits",
        "log_prob",
        "hidden",
    ):
        assert torch.equal(getattr(alone, name)[:, :4], getattr(batched, name)[:, :4]), name
    assert all(
        torch.equal(alone.extra[name][:, :4], batched.extra[name][:, :4]) for name in (*EXTRA_STEPS, "motion")
    )


@pytest.mark.parametrize("batch", [1, 6, 100])
def test_noise_drawn_ahead_is_the_noise_of_each_step(batch):
    some = NoiseKeys(3, np.arange(batch), repeat=np.arange(batch) % 3, step=np.arange(batch) * 7)
    like = torch.zeros(1)
    ahead = list(some.ahead(lambda i: some.gumbel(STATE_NOISE, i, (3, 5), like), 70))
    assert len(ahead) == 70
    assert all(torch.equal(ahead[i], some.gumbel(STATE_NOISE, i, (3, 5), like)) for i in range(70))
    ahead = list(some.ahead(lambda i: some.uniform(0, i, like), 70))
    assert all(torch.equal(ahead[i], some.uniform(0, i, like)) for i in range(70))
    assert ahead[0].shape == (batch,)


def test_the_log_probability_is_the_behaviours_and_the_memory_can_be_given(simulator, z):
    own = simulator.simulate(z, STEPS, keys(), ends=False)
    assert (own.log_prob < 0).all()
    for given in (dict(actions=own.action), dict(greedy=True)):
        assert not simulator.simulate(z, STEPS, keys(), ends=False, **given).log_prob.any()
    weights = torch.nn.functional.one_hot(own.action, ACTIONS).float()
    again = simulator.simulate(z, STEPS, keys(), actions=weights, hidden=own.hidden[0], ends=False)
    assert torch.equal(again.obs, own.obs)
    assert torch.equal(again.action, own.action)
    assert torch.equal(again.hidden, own.hidden)
    blank = simulator.simulate(z, STEPS, keys(), hidden=torch.zeros_like(own.hidden[0]), ends=False)
    assert not blank.hidden[0].any()
    assert not torch.allclose(blank.hidden[1], own.hidden[1])
    assert torch.equal(blank.obs[0], own.obs[0])


class DoublePolicy(torch.nn.Module):
    """A small smooth agent in float64, for finite differences."""

    num_actions = ACTIONS

    def __init__(self):
        super().__init__()
        self.see = torch.nn.Linear(SIZE * SIZE * 3, 8)
        self.keep = torch.nn.Linear(8, 8)
        self.act = torch.nn.Linear(8, ACTIONS)
        self.judge = torch.nn.Linear(8, 1)
        self.double()

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, 8, dtype=torch.float64)

    def advance(self, obs, state, first, reward):
        return torch.tanh(self.see(obs.flatten(1)) + self.keep(state) + 0.1 * reward[:, None])

    def heads(self, state):
        return self.act(state), self.judge(state).squeeze(-1)

    def choose(self, logits, noise):
        return sample(logits, noise)

    def log_prob(self, logits, action):
        return torch.log_softmax(logits, -1).gather(-1, action[:, None]).squeeze(-1)

    def hidden(self, state):
        return state


@pytest.fixture(scope="module")
def smooth():
    torch.manual_seed(8)
    model = WorldModel(toy_config(knows_phase=True)).double()
    torch.nn.init.normal_(model.outcome_head.out.weight, std=0.5)
    model.bins = model.bins.clamp(-20, 20)
    policy = DoublePolicy()
    for layer, times in (
        (policy.act, 10),
        (policy.keep, 2),
        (model.start_hidden_head[-1], 10),
        (model.motion_head.choice[-1], 3),
        (model.painter.texture[-1], 3),
        (model.painter.sprite[-1], 3),
    ):  # what it does and remembers matters
        layer.weight.data.mul_(times)
    for layer in (model.motion_head.other_layer, model.vector_gru.mix[0][0], model.outcome_head.other_layer):
        layer.weight.data.mul_(3)
    for layer in (model.start_head.place_layer, model.start_head.player_head[-1]):
        layer.weight.data[:2] *= 0.1  # no phase is clamped, which has another gradient
        layer.bias.data[:2] = 0
    assert isinstance(policy, Policy)
    return Simulator(model, policy, NOOP)


QUANTITIES = ("value", "logits", "hidden", "reward", "done_prob", "reward_prob", "obs", "env_state")
PATHS = {
    "mixed": dict(detach_agent=True, detach_actions=False),
    "with the agent's start": dict(detach_agent=False, detach_actions=False),
    "environment": dict(detach_agent=True, detach_actions=True),
}


def read(out, quantity):
    """One number of the last step: its field, weighed."""
    field = (out.extra[quantity] if quantity in out.extra else getattr(out, quantity))[-1]
    return (field * torch.linspace(0.5, 1.5, field.numel(), dtype=torch.float64).reshape(field.shape)).sum()


def walked(smooth, z, **given):
    return smooth.simulate(z, 4, keys(1), mode="relaxed", ends=False, **given)


@pytest.fixture(scope="module")
def gradients(smooth):
    """By path and quantity: the gradient, and central differences in which what the path leaves out is held
    where it was. [Z] each.
    """
    z = torch.randn(1, Z, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    base = walked(smooth, z)
    found = {}
    steps = 1e-5 * torch.eye(Z, dtype=torch.float64)
    for path, detached in PATHS.items():
        moving = z.clone().requires_grad_()
        out = walked(smooth, moving, grad=True, **detached)
        held = {"hidden": base.hidden[0]} if detached["detach_agent"] else {}
        held |= {"actions": torch.softmax(base.logits, -1)} if detached["detach_actions"] else {}
        moved = [[walked(smooth, z + sign * h, **held) for sign in (1, -1)] for h in steps]
        for quantity in QUANTITIES:
            gradient = torch.autograd.grad(read(out, quantity), moving, retain_graph=True)[0][0]
            differences = torch.stack(
                [(read(after, quantity) - read(before, quantity)) / 2e-5 for after, before in moved]
            )
            found[path, quantity] = gradient, differences
    return found


def off(gradient, differences):
    return ((gradient - differences).norm() / differences.norm()).item()


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("path", PATHS)
def test_relaxed_gradients_agree_with_finite_differences(gradients, path, quantity):
    gradient, differences = gradients[path, quantity]
    assert differences.norm() > 1e-6
    assert off(gradient, differences) < 1e-4
    assert off(gradient.roll(1), differences) > 0.1


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("dropped", ["environment", "with the agent's start"])
def test_a_path_too_few_or_too_many_is_found(gradients, dropped, quantity):
    """The gradient of another path fails the same comparison."""
    assert off(gradients[dropped, quantity][0], gradients["mixed", quantity][1]) > 1e-3


def test_a_late_value_moves_the_latent_in_hard_mode_through_the_frozen_agent(simulator):
    z = torch.randn(1, Z, generator=torch.Generator().manual_seed(4)).requires_grad_()
    agent = toy_agent()
    shown = []

    def watched(obs, *rest):
        shown.append(obs)
        return type(agent).advance(agent, obs, *rest)

    agent.advance = watched
    out = Simulator(simulator.model, agent, NOOP).simulate(z, STEPS, keys(1), grad=True, ends=False)
    gradient, *seen = torch.autograd.grad(out.value[-1].sum(), [z, *shown])
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    assert len(seen) == STEPS
    assert all(g.abs().max() > 0 for g in seen)
    assert all(not p.requires_grad and p.grad is None for p in agent.parameters())
    assert all(not p.requires_grad and p.grad is None for p in simulator.agent.parameters())
    without = simulator.simulate(z, STEPS, keys(1), ends=False)
    assert not without.value.requires_grad
    assert without.obs.dtype == torch.uint8
    assert same_bytes(frames_to_bytes(out.obs), without.obs)
    assert torch.equal(out.action, without.action)
    torch.testing.assert_close(out.obs, round_frames(out.obs))


def test_credit_flows_through_actions_as_the_policys_probabilities(simulator):
    """Cut every other path: a soft action's gradient is what its one-hot's straight-through gradient says."""
    env = simulator.start(torch.randn(1, Z, generator=torch.Generator().manual_seed(6))).env
    logits = torch.randn(1, ACTIONS, generator=torch.Generator().manual_seed(7)).requires_grad_()
    flat = simulator.model.flat_state
    action, weights = simulator._act(simulator.agent, logits, None, "hard", False)
    assert torch.equal(weights.argmax(-1), action)
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    one_hot = weights.detach().requires_grad_()
    assert not simulator._act(simulator.agent, logits, None, "hard", True)[1].requires_grad
    with_respect_to_weights = torch.autograd.grad(flat(simulator.step(env, one_hot)).sum(), one_hot)[0]
    expected = torch.autograd.grad((torch.softmax(logits, -1) * with_respect_to_weights).sum(), logits)[0]
    found = torch.autograd.grad(flat(simulator.step(env, weights)).sum(), logits)[0]
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


@pytest.fixture
def files(tmp_path):
    agent = toy_agent()
    save_agent(tmp_path / "agent.safetensors", agent, {})
    agent.value_head.bias.data += 1
    save_agent(tmp_path / "other.safetensors", agent, {})
    save_agent(
        tmp_path / "fewer.safetensors",
        ActorCritic(NetworkConfig(4, (SIZE, SIZE, 3), feature_size=16, hidden_size=8)),
        {},
    )
    model = WorldModel(toy_config())
    save_world_model(
        tmp_path / "model.safetensors",
        model,
        {"agent": {"id": file_id(tmp_path / "agent.safetensors")}, "noop": NOOP},
    )
    return tmp_path, model


def test_a_simulator_comes_back_as_it_was_saved_without_its_agents_weights(files, z):
    path, model = files
    loaded, meta = load_simulator(path / "model.safetensors", path / "agent.safetensors")
    expected = Simulator(model, toy_agent(), NOOP).simulate(z, STEPS, keys())
    assert torch.equal(loaded.simulate(z, STEPS, keys()).obs, expected.obs)
    assert meta["noop"] == NOOP
    assert loaded.own_agent
    assert not any(
        "agent" in name or "policy" in name
        for name in load_world_model(path / "model.safetensors")[0].state_dict()
    )


def test_another_agent_is_refused_unless_asked_for_and_then_starts_afresh(files, z):
    path, _ = files
    with pytest.raises(BadCheckpoint, match="--allow_other_agent"):
        load_simulator(path / "model.safetensors", path / "other.safetensors")
    loaded, _ = load_simulator(path / "model.safetensors", path / "other.safetensors", allow_other_agent=True)
    out = loaded.simulate(z, STEPS, keys())
    assert not loaded.own_agent
    assert not out.hidden[0].any()
    assert out.hidden[1].any()
    with pytest.raises(BadCheckpoint, match="4 actions"):
        load_simulator(path / "model.safetensors", path / "fewer.safetensors", allow_other_agent=True)
    with pytest.raises(BadCheckpoint, match="not a world model"):
        load_simulator(path / "agent.safetensors", path / "agent.safetensors")
    with pytest.raises(BadCheckpoint, match="not an agent"):
        load_simulator(path / "model.safetensors", path / "model.safetensors")
