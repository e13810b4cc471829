"""The Decision Transformer's forward pass: equal to independent implementations, causal, blind to padding."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from decision.config import DTConfig
from decision.transformer import attention_mask
from interpret.hooks import run_with_cache, run_with_hooks, sites
from tests.helpers.decision.slow_transformer import slow_logits
from tests.helpers.decision.toy_decision import ACTIONS, random_batch, small_config, small_model

OPTIONS = [
    dict(),
    dict(model_type="clone_transformer"),
    dict(layer_norm="LNPre"),
    dict(layer_norm="none", sharp=2.0),
    dict(gated_mlp=True),
    dict(activation_fn="relu"),
    dict(activation_fn="gelu_new"),
    dict(activation_fn="silu"),
    dict(activation_fn="solu_ln"),
    dict(time_embedding="linear"),
    dict(context_length=1),
    dict(context_length=50),
    dict(rtg_scale=3.0),
]
NAMES = [", ".join(f"{k}={v}" for k, v in options.items()) or "default" for options in OPTIONS]


def logits_of(model, batch):
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_logits_equal_those_of_plain_loops(options):
    model, batch = small_model(**options), random_batch(2, 7, padded=[0, 3])
    found = logits_of(model, batch)
    for b in range(2):
        for t, expected in slow_logits(model, batch, b).items():
            torch.testing.assert_close(found[b, t], expected, rtol=1e-4, atol=1e-4)


def pytorch_blocks(model):
    """PyTorch's own pre-norm encoder layers with the model's weights."""
    c = model.config
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            c.d_model, c.n_heads, c.d_mlp, 0.0, "gelu", batch_first=True, norm_first=True
        ).eval()
        attn, mlp = block.attn, block.mlp
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": attn.qkv.weight,
                "self_attn.in_proj_bias": attn.qkv.bias,
                "self_attn.out_proj.weight": attn.out.weight,
                "self_attn.out_proj.bias": attn.out.bias,
                "linear1.weight": mlp.linear_in.weight,
                "linear1.bias": mlp.linear_in.bias,
                "linear2.weight": mlp.linear_out.weight,
                "linear2.bias": mlp.linear_out.bias,
                "norm1.weight": block.ln1.w,
                "norm1.bias": block.ln1.b,
                "norm2.weight": block.ln2.w,
                "norm2.bias": block.ln2.b,
            }
        )
        yield layer


def test_blocks_equal_pytorchs_encoder_layers():
    model, batch = small_model(), random_batch(3, 9)
    step = torch.arange(27) // 3
    hidden = torch.ones(27, 27, dtype=torch.bool).triu(1) | (step[:, None] - step >= 4)
    with torch.no_grad():
        tokens = model.embed(batch.state, batch.action, batch.return_to_go, batch.timestep)
        x = torch.stack(tokens, 2).flatten(1, 2)
        for layer in pytorch_blocks(model):
            x = layer(x, src_mask=hidden)
        torch.testing.assert_close(model.residual(batch), x, rtol=1e-4, atol=1e-4)


def changed(batch, field, step):
    """The batch with another value of a field at one step."""
    value = getattr(batch, field).clone()
    value[:, step] = (value[:, step] + 1) % ACTIONS if field == "action" else value[:, step] + 1
    return replace(batch, **{field: value})


@pytest.mark.parametrize("field", ["state", "action", "return_to_go"])
def test_no_step_sees_a_later_token(field):
    """The action of a step itself comes after its prediction; its return-to-go and state come before."""
    model, batch = small_model(context_length=20), random_batch(2, 8)
    moved = (logits_of(model, batch) - logits_of(model, changed(batch, field, 4))).abs().amax((0, 2))
    first = 5 if field == "action" else 4
    assert (moved[:first] == 0).all()
    assert (moved[first:] > 1e-4).all()


def test_attention_reaches_back_context_length_steps_per_layer():
    model, batch = small_model(n_layers=2, context_length=3), random_batch(1, 12)
    moved = (logits_of(model, batch) - logits_of(model, changed(batch, "state", 0))).abs().amax((0, 2))
    assert (moved[:5] > 1e-6).all()  # two layers, each two steps further
    assert (moved[5:] == 0).all()


def test_a_clone_is_blind_to_returns():
    model, batch = small_model(model_type="clone_transformer"), random_batch(2, 5)
    assert torch.equal(logits_of(model, batch), logits_of(model, changed(batch, "return_to_go", 2)))


@pytest.mark.parametrize("model_type", ["decision_transformer", "clone_transformer"])
def test_padding_changes_nothing(model_type):
    model, plain = small_model(model_type=model_type), random_batch(2, 5)
    padded = random_batch(2, 9, padded=[4, 4], seed=1)
    for name in ("state", "action", "return_to_go", "timestep"):
        getattr(padded, name)[:, 4:] = getattr(plain, name)
    expected = logits_of(model, plain)
    torch.testing.assert_close(logits_of(model, padded)[:, 4:], expected, rtol=1e-4, atol=1e-5)
    for name in ("action", "timestep"):
        getattr(padded, name)[:, :4] = 1
    padded.state[:, :4] = 7
    padded.return_to_go[:, :4] = -9
    torch.testing.assert_close(logits_of(model, padded)[:, 4:], expected, rtol=1e-4, atol=1e-5)


def test_windows_that_are_nearly_all_padding_give_finite_logits_and_gradients():
    model, batch = small_model(), random_batch(4, 12, padded=[11, 0, 5, 11])
    loss, _ = model.loss(batch)
    loss.backward()
    assert logits_of(model, batch).isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_loss_is_over_real_steps_alone():
    model, batch = small_model(), random_batch(2, 6, padded=[0, 5])
    log_prob = logits_of(model, batch).log_softmax(-1)
    real = [(0, t) for t in range(6)] + [(1, 5)]
    expected = -sum(log_prob[b, t, batch.action[b, t]] for b, t in real) / 7
    assert abs(model.loss(batch)[0].item() - expected.item()) < 1e-5


def test_every_token_of_padding_attends_to_itself_alone():
    config = small_config()
    position = torch.arange(6)
    valid = torch.tensor([False] * 3 + [True] * 3)
    mask = attention_mask(position, position, valid, config)
    assert torch.equal(mask[:3], torch.eye(6, dtype=torch.bool)[:3])
    assert not mask[3:, :3].any()


@pytest.mark.parametrize(
    "options",
    [dict(state_embedding="impala"), dict(state_embedding="patches"), dict(state_embedding="agent")],
)
def test_frames_are_embedded_by_each_kind_of_encoder(options):
    model, batch = small_model(**options), random_batch(2, 4, frames=True)
    logits = model(batch)
    assert logits.shape == (2, 4, ACTIONS)
    darker = replace(batch, state=batch.state // 2)
    assert not torch.equal(logits, model(darker))
    logits.sum().backward()
    trained = any(p.grad is not None and p.grad.any() for p in model.embed.state.encoder.parameters())
    assert trained == (options["state_embedding"] != "agent")


def test_features_give_the_logits_of_their_frames():
    model, batch = small_model(), random_batch(2, 4, frames=True)
    features = replace(batch, state=model.embed.state.encoder(batch.state).detach())
    torch.testing.assert_close(model(features), model(batch))


def test_features_are_standardised():
    model, batch = small_model(), random_batch(2, 4)
    mean, std = torch.arange(6.0), torch.tensor([1.0, 2, 3, 4, 5, 0])
    expected = logits_of(model, batch)
    model.embed.state.set_statistics(mean, std)
    moved = replace(batch, state=batch.state * torch.where(std > 0, std, 1) + mean)
    torch.testing.assert_close(logits_of(model, moved), expected, rtol=1e-4, atol=1e-4)


def test_times_above_the_largest_share_its_embedding():
    model, batch = small_model(max_timestep=2), random_batch(1, 5)
    later = replace(batch, timestep=batch.timestep * 10)
    with torch.no_grad():
        assert torch.equal(model.embed.embed_time(later.timestep[0, 1:]), model.embed.time.weight[[2] * 4])


def test_dropout_acts_in_training_alone():
    model, batch = small_model(dropout=0.5), random_batch(2, 5)
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


def test_hook_points_have_the_names_of_transformerlens():
    expected = {"hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized"}
    inside = ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
    inside += (
        "ln1.hook_scale",
        "ln1.hook_normalized",
        "ln2.hook_normalized",
        "mlp.hook_pre",
        "mlp.hook_post",
    )
    inside += tuple(f"attn.hook_{name}" for name in ("q", "k", "v", "attn_scores", "pattern", "z"))
    expected |= {f"blocks.{layer}.{name}" for layer in range(3) for name in inside}
    assert expected <= set(sites(small_model()))


def test_attention_patterns_are_read_and_the_logits_stay():
    model, batch = small_model(), random_batch(2, 6)
    names = ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_z", "blocks.1.ln1.hook_scale"]
    logits, cache = run_with_cache(model, names, model, batch)
    pattern = cache[names[0]]
    assert pattern.shape == (2, 2, 18, 18)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 18))
    assert not pattern.triu(1).any()
    assert cache[names[1]].shape == (2, 18, 2, 8)
    torch.testing.assert_close(logits, model(batch), rtol=1e-4, atol=1e-4)


def test_a_hook_in_the_last_block_sees_all_tokens_though_only_states_are_needed():
    model, batch = small_model(), random_batch(2, 6)
    name = "blocks.2.hook_resid_post"
    logits, cache = run_with_cache(model, [name], model, batch)
    torch.testing.assert_close(cache[name], model.residual(batch), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, model(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["hook_embed", "blocks.2.hook_resid_post", "blocks.1.attn.hook_pattern"])
def test_an_edit_at_a_hook_point_changes_the_logits(name):
    model, batch = small_model(), random_batch(2, 6)
    edited = run_with_hooks(model, {name: lambda value, rows: 0 * value}, model, batch)
    assert (edited - model(batch)).abs().max() > 1e-3


def test_zero_at_the_last_residual_leaves_the_heads_bias():
    model, batch = small_model(layer_norm="none", sharp=2.0), random_batch(2, 6)
    zero = run_with_hooks(model, {"blocks.2.hook_resid_post": lambda value, rows: 0 * value}, model, batch)
    torch.testing.assert_close(zero, model.action_head.bias.expand_as(zero))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(d_model=15), "does not divide evenly among 2 heads"),
        (dict(state_embedding="patches", patch_size=3), "patches of 3 pixels do not tile"),
        (dict(dropout=1.0), "dropout is 1.0"),
        (dict(rtg_scale=0.0), "rtg_scale is 0.0"),
        (dict(gamma=0.0), "gamma is 0.0"),
        (dict(layer_norm="BatchNorm"), "layer_norm is 'BatchNorm'"),
    ],
)
def test_impossible_architectures_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        small_config(**wrong)


def test_a_list_from_a_file_is_a_shape():
    assert DTConfig(5, [8, 8, 3]).obs_shape == (8, 8, 3)
