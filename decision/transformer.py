"""A causal transformer (Vaswani et al. 2017, pre-norm) with the hook points of TransformerLens.

Tokens come in steps. A token attends to the tokens before it in its own step and in the context_length - 1
steps before, however far the episode has come: so keys and values never change once computed, and those of
the last steps can be cached.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from decision.config import DTConfig
from decision.dropout import Dropout

ALL = slice(None)
INIT_STD = 0.02
EPSILON = 1e-5


class HookPoint(nn.Module):
    """The identity, at a place whose value can be read and edited (interpret/hooks.py)."""

    def forward(self, x):
        return x

    @property
    def hooked(self) -> bool:
        return bool(self._forward_hooks)


def attention_mask(query: torch.Tensor, key: torch.Tensor, valid: torch.Tensor, config: DTConfig):
    """Which keys each query attends to.

    Args:
        query: [..., S] position of each query, counted in tokens since the episode's beginning.
        key: [..., C] position of each key.
        valid: [..., C] bool, whether the key is that of a real token.
        config: gives tokens per step and context length.

    Returns:
        bool [..., S, C]. Every token attends to itself, even a padded one, so that no row is empty.
    """
    query, key = query[..., :, None], key[..., None, :]
    steps = config.tokens_per_step
    age = query.div(steps, rounding_mode="floor") - key.div(steps, rounding_mode="floor")
    visible = (key <= query) & (age < config.context_length) & valid[..., None, :]
    return visible | (key == query)


class LayerNorm(nn.Module):
    """Layer normalisation, with weights (LN) or without (LNPre)."""

    def __init__(self, width: int, kind: str):
        super().__init__()
        self.affine = kind == "LN"
        self.w = nn.Parameter(torch.ones(width)) if self.affine else None
        self.b = nn.Parameter(torch.zeros(width)) if self.affine else None
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x):
        if not self.hook_scale.hooked:
            return self.hook_normalized(F.layer_norm(x, x.shape[-1:], self.w, self.b, EPSILON))
        x = x - x.mean(-1, keepdim=True)
        x = x / self.hook_scale((x.square().mean(-1, keepdim=True) + EPSILON).sqrt())
        return self.hook_normalized(x * self.w + self.b if self.affine else x)


def layer_norm(width: int, kind: str) -> nn.Module:
    return nn.Identity() if kind == "none" else LayerNorm(width, kind)


class Attention(nn.Module):
    def __init__(self, config: DTConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        for name in ("q", "k", "v", "attn_scores", "pattern", "z"):
            setattr(self, f"hook_{name}", HookPoint())

    def forward(self, x, mask, cache=None, queries=ALL):
        """Args:
            x: [B, S, D].
            mask: bool, broadcastable to [B, 1, S, C].
            cache: a KeyValueCache to add these S tokens to; without one C = S.
            queries: slice of the S tokens, Q of them, whose output is wanted.

        Returns:
            [B, Q, D].
        """
        q, k, v = self._project(x, queries)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if cache is not None:
            k, v = cache.update(k, v)
        z = self._attend(*(part.transpose(1, 2) for part in (q, k, v)), mask[..., queries, :])
        return self.out(self.hook_z(z.transpose(1, 2)).flatten(-2))

    def _project(self, x, queries):
        """Queries [B, Q, heads, D / heads], keys and values [B, S, heads, D / heads]."""
        if queries == ALL:
            return self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)
        width = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, queries], weight[:width], bias[:width]).unflatten(-1, (self.n_heads, -1))
        return q, *F.linear(x, weight[width:], bias[width:]).unflatten(-1, (2, self.n_heads, -1)).unbind(-3)

    def _attend(self, q, k, v, mask):
        """[B, heads, S, D / heads]; scores and pattern are made only where something hooks them."""
        if not (self.hook_attn_scores.hooked or self.hook_pattern.hooked):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~mask, -torch.inf)
        return self.hook_pattern(self.hook_attn_scores(scores).softmax(-1)) @ v


class MLP(nn.Module):
    def __init__(self, config: DTConfig):
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=False) if config.gated_mlp else None
        self.linear_in = nn.Linear(config.d_model, config.d_mlp)
        self.linear_out = nn.Linear(config.d_mlp, config.d_model)
        self.activation = _activation(config)
        self.hook_pre = HookPoint()
        self.hook_pre_linear = HookPoint() if config.gated_mlp else None
        self.hook_post = HookPoint()

    def forward(self, x):
        if self.gate is None:
            return self.linear_out(self.hook_post(self.activation(self.hook_pre(self.linear_in(x)))))
        gate = self.activation(self.hook_pre(self.gate(x)))
        return self.linear_out(self.hook_post(gate * self.hook_pre_linear(self.linear_in(x))))


class SoLU(nn.Module):
    """x * softmax(x), then layer normalisation (Elhage et al. 2022, "Softmax linear units")."""

    def __init__(self, width: int):
        super().__init__()
        self.ln = LayerNorm(width, "LN")

    def forward(self, x):
        return self.ln(x * x.softmax(-1))


def _activation(config: DTConfig) -> nn.Module:
    if config.activation_fn == "solu_ln":
        return SoLU(config.d_mlp)
    if config.activation_fn == "gelu_new":
        return nn.GELU(approximate="tanh")
    return {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[config.activation_fn]()


class Block(nn.Module):
    def __init__(self, config: DTConfig):
        super().__init__()
        self.ln1 = layer_norm(config.d_model, config.layer_norm)
        self.attn = Attention(config)
        self.ln2 = layer_norm(config.d_model, config.layer_norm)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)
        for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
            setattr(self, f"hook_{name}", HookPoint())

    def forward(self, x, mask, cache=None, queries=ALL):
        """As Attention: [B, Q, D] of [B, S, D]."""
        x = self.hook_resid_pre(x)
        x = x[:, queries] + self.hook_attn_out(self.dropout(self.attn(self.ln1(x), mask, cache, queries)))
        x = self.hook_resid_mid(x)
        x = x + self.hook_mlp_out(self.dropout(self.mlp(self.ln2(x))))
        return self.hook_resid_post(x)

    @property
    def hooked(self) -> bool:
        """Whether something reads or edits a value inside."""
        return any(isinstance(module, HookPoint) and module.hooked for module in self.modules())


def init_weights(blocks: nn.ModuleList) -> None:
    """GPT-2's initialisation: normal weights, the outputs into the residual stream smaller; no bias."""
    for name, module in blocks.named_modules():
        if isinstance(module, nn.Linear):
            into_stream = name.endswith(("attn.out", "mlp.linear_out"))
            nn.init.normal_(
                module.weight, std=INIT_STD / math.sqrt(2 * len(blocks)) if into_stream else INIT_STD
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
