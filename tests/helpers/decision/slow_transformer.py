"""The Decision Transformer's formulas, token by token in plain loops, for comparison."""

import math

import torch

from decision.windows import DTBatch

ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def normalize(x, norm, kind):
    if kind == "none":
        return x
    centred = x - x.mean()
    out = centred / torch.sqrt((centred**2).mean() + 1e-5)
    return out * norm.w + norm.b if kind == "LN" else out


def mlp(x, block, config):
    m = block.mlp
    hidden = m.linear_in.weight @ x + m.linear_in.bias
    if config.activation_fn == "solu_ln":
        activate = lambda h: normalize(h * torch.softmax(h, 0), m.activation.ln, "LN")  # noqa: E731
    else:
        activate = ACTIVATIONS[config.activation_fn]
    hidden = activate(m.gate.weight @ x) * hidden if config.gated_mlp else activate(hidden)
    return m.linear_out.weight @ hidden + m.linear_out.bias


def attend(xs, steps, i, block, config):
    """The attention output of token i of xs; steps: the step of each token, None where it is padding."""
    width = config.d_model // config.n_heads
    project = lambda x: (block.attn.qkv.weight @ x + block.attn.qkv.bias).view(3, config.n_heads, width)  # noqa: E731
    seen = [j for j in range(i + 1) if steps[j] is not None and steps[i] - steps[j] < config.context_length]
    q = project(xs[i])[0]
    out = []
    for head in range(config.n_heads):
        scores = torch.stack([q[head] @ project(xs[j])[1, head] / math.sqrt(width) for j in seen])
        values = torch.stack([project(xs[j])[2, head] for j in seen])
        out.append(torch.softmax(scores, 0) @ values)
    return block.attn.out.weight @ torch.cat(out) + block.attn.out.bias


def embed_window(model, batch: DTBatch, b: int):
    """Tokens of window b and the step of each."""
    config, embed = model.config, model.embed
    tokens, steps = [], []
    for t in range(batch.mask.shape[1]):
        time = batch.timestep[b, t]
        if config.time_embedding == "linear":
            when = embed.time.weight[:, 0] * time / config.max_timestep + embed.time.bias
        else:
            when = embed.time.weight[min(time, config.max_timestep)]
        state = embed.state
        standard = (batch.state[b, t] - state.mean) / state.std
        parts = [
            state.project.weight @ standard + state.project.bias,
            embed.action.weight[batch.action[b, t]],
        ]
        if config.model_type == "decision_transformer":
            parts.insert(0, embed.return_to_go.weight[:, 0] * batch.return_to_go[b, t] / config.rtg_scale)
        for kind, part in enumerate(parts):
            tokens.append(part + when + embed.kind.weight[kind])
            steps.append(t if batch.mask[b, t] else None)
    return tokens, steps


@torch.no_grad()
def slow_logits(model, batch: DTBatch, b: int) -> dict[int, torch.Tensor]:
    """{step: logits [A]} of the real steps of window b."""
    config = model.config
    xs, steps = embed_window(model, batch, b)
    real = [i for i, step in enumerate(steps) if step is not None]
    for block in model.blocks:
        normed = [normalize(x, block.ln1, config.layer_norm) for x in xs]
        added = {i: attend(normed, steps, i, block, config) for i in real}
        xs = [x + added[i] if i in added else x for i, x in enumerate(xs)]
        xs = [
            x + mlp(normalize(x, block.ln2, config.layer_norm), block, config) if i in added else x
            for i, x in enumerate(xs)
        ]
    per_step = 3 if config.model_type == "decision_transformer" else 2
    head = model.action_head
    return {
        steps[i]: head.weight @ normalize(xs[i], model.ln_final, config.layer_norm) + head.bias
        for i in real
        if i % per_step == per_step - 2
    }
