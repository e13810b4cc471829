"""The networks compute what their names say, and unrolling agrees exactly with stepping."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import agents.encoders
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from agents.cores import CORES
from agents.encoders import Encoder, ImpalaStage
from common.checkpoints import BadCheckpoint

SMALL = dict(obs_shape=(16, 16, 3), feature_size=12, hidden_size=8, precision="fp32")


def frames(*lead, size=16, seed=0):
    return torch.randint(
        0, 256, (*lead, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_recording_agent_has_the_published_size():
    agent = ActorCritic(NetworkConfig(15, feature_size=64, hidden_size=64))
    assert parameters(agent) == 254_800 - 64  # the learned initial state, which never acted, is left out
    assert parameters(agent.encoder) == 228_736
    assert parameters(agent.core) == 24_960


def test_nature_is_three_strided_convolutions():
    encoder = Encoder("nature", (64, 64, 3), 32, "fp32")
    convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == [
        (32, 8, 4),
        (64, 4, 2),
        (64, 3, 1),
    ]
    assert encoder.out.in_features == 64 * 4 * 4


def reference_impala(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
    """IMPALA's forward pass, spelt out in fp32 and in PyTorch's default layout."""

    def conv(x, layer):
        return F.conv2d(x, layer.weight.contiguous(), layer.bias, padding=1)

    x = images
    for stage in (module for module in encoder.stages if isinstance(module, ImpalaStage)):
        x = F.max_pool2d(conv(x, stage.conv), 3, 2, 1)
        for block in (stage.block1, stage.block2):
            x = x + conv(conv(x.clamp(min=0), block.conv1).clamp(min=0), block.conv2)
    return F.linear(x.clamp(min=0).flatten(1), encoder.out.weight, encoder.out.bias).clamp(min=0)


def test_impala_is_impala():
    encoder = Encoder("impala", (32, 32, 3), 24, "fp32")
    obs = frames(5, size=32)
    torch.testing.assert_close(
        encoder(obs), reference_impala(encoder, obs.permute(0, 3, 1, 2) / 255), atol=1e-4, rtol=1e-4
    )


def test_half_impala_reads_every_pixel_at_half_the_resolution():
    encoder = Encoder("impala-half", (32, 32, 3), 24, "fp32")
    obs = frames(5, size=32)
    # 2 x 2 pixels of each colour become 4 channels
    blocks = obs.reshape(5, 16, 2, 16, 2, 3).permute(0, 5, 2, 4, 1, 3).reshape(5, 12, 16, 16)
    torch.testing.assert_close(encoder(obs), reference_impala(encoder, blocks / 255), atol=1e-4, rtol=1e-4)
    assert encoder.out.in_features == 32 * 4 * 4  # an eighth of each side, like the whole of IMPALA


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_the_keep_bias_says_how_much_of_its_past_an_untrained_core_keeps(core):
    def kept(bias):
        torch.manual_seed(0)
        cell = CORES[core](12, 8, bias)
        state = torch.zeros(1, cell.state_size, requires_grad=True)
        after = cell.step(torch.zeros(1, 12), state, torch.tensor([False]))
        # of h (GRU) or c (LSTM) on itself
        return torch.autograd.grad(after[:, -8:].sum(), state)[0][:, -8:].mean().item()

    assert kept(-2.0) < kept(0.0) - 0.2
    assert kept(2.0) > kept(0.0) + 0.2


def test_features_are_normalised_where_asked():
    """Before the last ReLU, each frame's features have mean 0 and deviation 1, whatever their size was."""
    encoder = Encoder("impala", (16, 16, 3), 64, "fp32", normalize=True)
    with torch.no_grad():
        encoder.out.weight.mul_(1000)
    seen = []
    encoder.norm.register_forward_hook(lambda module, given, out: seen.append(out))
    torch.testing.assert_close(encoder(frames(5)), seen[0].clamp(min=0))
    torch.testing.assert_close(seen[0].mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].std(1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_a_value_scale_scales_the_value_but_not_where_it_begins():
    values = []
    weights = []
    for scale in (1.0, 10.0):
        torch.manual_seed(0)
        agent = ActorCritic(NetworkConfig(5, value_scale=scale, **SMALL))
        values.append(agent.heads(torch.ones(1, 8))[1])
        weights.append(agent.value_head.weight)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(weights[0], 10 * weights[1])


def test_bf16_differs_by_rounding_only():
    torch.manual_seed(0)
    encoder = Encoder("impala", (32, 32, 3), 24, "bf16")
    low = encoder(frames(5, size=32))
    encoder.precision = "fp32"
    high = encoder(frames(5, size=32))
    assert low.dtype == torch.float32
    assert not torch.equal(low, high)
    assert (low - high).norm() < 0.02 * high.norm()


def test_chunks_and_recomputation_change_nothing(monkeypatch):
    encoder = Encoder("impala", (16, 16, 3), 12, "fp32")
    obs = frames(3, 4)
    whole = encoder(obs)
    whole.pow(2).sum().backward()
    gradients = [p.grad.clone() for p in encoder.parameters()]
    monkeypatch.setitem(agents.encoders.CHUNK, "cpu", 5)
    monkeypatch.setattr(agents.encoders, "KEEP", 1)
    encoder.zero_grad()
    chunked = encoder(obs)
    chunked.pow(2).sum().backward()
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)
    for parameter, gradient in zip(encoder.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("kind", "reference"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_cores_are_pytorchs_with_resets(kind, reference):
    """Between resets, PyTorch's sequence module gives the same states."""
    torch.manual_seed(0)
    core = CORES[kind](6, 4)
    whole = reference(6, 4)
    whole.load_state_dict({f"{name}_l0": value for name, value in core.cell.state_dict().items()})
    features = torch.randn(7, 1, 6)
    first = torch.tensor([0, 0, 1, 0, 1, 1, 0]).bool()[:, None]
    start = torch.randn(1, core.state_size)
    states = core.unroll(features, start, first)
    edges = [0, *first[:, 0].nonzero()[:, 0].tolist(), 7]
    for begin, end in itertools.pairwise(edges):
        h = (start if begin == 0 else torch.zeros_like(start))[None].split(4, dim=-1)
        out, _ = whole(features[begin:end], h if kind == "lstm" else h[0])
        torch.testing.assert_close(core.output(states)[begin:end], out, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", CORES)
def test_unroll_equals_stepping(kind):
    agent = ActorCritic(NetworkConfig(5, core=kind, **SMALL))
    obs = frames(6, 3)
    first = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) < 0.4
    state = torch.randn(3, agent.core.state_size)
    unrolled = agent.unroll(obs, state, first)
    for t in range(6):
        state = agent.advance(obs[t], state, first[t], None)
        torch.testing.assert_close(unrolled[t], state, atol=1e-6, rtol=1e-5)
    logits, value = agent.heads(unrolled)
    assert logits.shape == (6, 3, 5)
    assert value.shape == (6, 3)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradients_reach_back_to_the_episodes_first_frame_and_no_further(kind):
    agent = ActorCritic(NetworkConfig(5, core=kind, **SMALL))
    obs = (frames(6, 1).float() / 255).requires_grad_()
    first = torch.tensor([0, 0, 1, 0, 0, 0]).bool()[:, None]
    logits = agent.heads(agent.unroll(obs, agent.initial_state(1), first))[0]
    (gradient,) = torch.autograd.grad(logits[-1].square().sum(), obs)
    assert [bool(g.any()) for g in gradient] == [False, False, True, True, True, True]


def test_without_a_core_there_is_no_memory():
    agent = ActorCritic(NetworkConfig(5, core="none", **SMALL))
    outputs = [
        agent.advance(frames(2), state, torch.zeros(2).bool(), None)
        for state in (torch.zeros(2, 12), torch.ones(2, 12))
    ]
    assert torch.equal(*outputs)
    assert torch.equal(outputs[0], agent.encoder(frames(2)))


def test_a_fresh_policy_is_near_uniform_and_seeded():
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        agent = ActorCritic(NetworkConfig(5, **SMALL))
        outputs.append(
            agent.heads(agent.advance(frames(2), agent.initial_state(2), torch.ones(2).bool(), None))[0]
        )
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert torch.softmax(outputs[0], -1).sub(0.2).abs().max() < 0.01


@pytest.mark.parametrize(
    ("architecture", "size", "words"),
    [
        ("impala-half", (63, 64), "even height and width, and these are 63 x 64"),
        ("nature", (64, 35), "36 or more, and these are 64 x 35"),
    ],
)
def test_frames_that_an_encoder_cannot_read_are_refused_with_the_sizes_that_it_can(architecture, size, words):
    with pytest.raises(ValueError, match=f"{architecture} reads frames of .*{words}"):
        NetworkConfig(4, (*size, 3), architecture)
    with pytest.raises(ValueError, match=f"{architecture} reads frames of .*{words}"):
        Encoder(architecture, (*size, 3), 8, "fp32")


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("impala", (1, 1)),
        ("impala", (63, 17)),
        ("impala-half", (2, 2)),
        ("nature", (36, 36)),
        ("nature", (37, 64)),
    ],
)
def test_every_size_that_is_admitted_is_read(architecture, size):
    agent = ActorCritic(
        NetworkConfig(4, (*size, 3), architecture, feature_size=8, hidden_size=4, precision="fp32")
    )
    assert agent.encoder(torch.zeros(2, *size, 3, dtype=torch.uint8)).shape == (2, 8)


@pytest.mark.parametrize("field", ["architecture", "core", "precision"])
def test_unknown_parts_are_named(field):
    with pytest.raises(ValueError, match="unknown 'wild'"):
        NetworkConfig(5, **(SMALL | {field: "wild"}))


def test_agents_survive_their_file(tmp_path):
    agent = ActorCritic(NetworkConfig(5, core="lstm", **SMALL))
    save_agent(tmp_path / "a.safetensors", agent, {"env": {"env_name": "maze"}})
    again, meta = load_agent(tmp_path / "a.safetensors")
    assert again.config == agent.config
    assert meta["env"]["env_name"] == "maze"
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(agent.state_dict().values(), again.state_dict().values()))


def test_other_files_are_not_agents(tmp_path):
    from common.checkpoints import save_checkpoint

    save_checkpoint(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {"kind": "world model"})
    with pytest.raises(
        BadCheckpoint, match="holds 'world model', not an agent: give it as --world_model_file"
    ):
        load_agent(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    agent = ActorCritic(NetworkConfig(3, **SMALL))
    agent.core.cell.bias_hh.data[3] = value
    save_agent(tmp_path / "a.safetensors", agent, {})
    with pytest.raises(BadCheckpoint, match="core.cell.bias_hh holds NaN or infinity"):
        load_agent(tmp_path / "a.safetensors")
