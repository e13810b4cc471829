"""The Decision Transformer (Chen et al. 2021), and behavioural cloning by the same network without returns.

Tokens of a step: return-to-go R, state s, action a (the clone has no R). The action of a step is predicted at
its state token. Hook points have the names of TransformerLens: `hook_embed`, `blocks.0.hook_resid_pre`,
`blocks.0.attn.hook_pattern`, `blocks.0.mlp.hook_post`, `ln_final.hook_normalized`, ...
"""

import torch
from torch import nn
from torch.nn import functional as F

from decision.config import DTConfig
from decision.dropout import Dropout
from decision.embeddings import StepEmbedding
from decision.transformer import ALL, INIT_STD, Block, HookPoint, attention_mask, init_weights, layer_norm
from decision.windows import DTBatch


class DecisionTransformer(nn.Module):
    def __init__(self, config: DTConfig):
        super().__init__()
        self.config = config
        self.embed = StepEmbedding(config)
        self.dropout = Dropout(config.dropout)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = layer_norm(config.d_model, config.layer_norm)
        self.action_head = nn.Linear(config.d_model, config.num_actions)
        init_weights(self.blocks)
        nn.init.normal_(self.action_head.weight, std=INIT_STD)
        nn.init.zeros_(self.action_head.bias)

    def __repr__(self) -> str:
        config = self.config
        count = sum(weight.numel() for weight in self.parameters())
        return (
            f"DecisionTransformer({config.model_type}, {config.n_layers} layers of width {config.d_model}, "
            f"{config.n_heads} heads, context of {config.context_length} steps, {count:,} parameters)"
        )

    def forward(self, batch: DTBatch) -> torch.Tensor:
        """Logits of the action of every step, [B, T, A]; meaningless where batch.mask is False."""
        states = slice(self.config.state_token, None, self.config.tokens_per_step)
        return self.logits(self.residual(batch, states))

    def residual(self, batch: DTBatch, queries: slice = ALL) -> torch.Tensor:
        """Residual stream after the last block, [B, Q, D]: at all tokens of each window, or at `queries`."""
        tokens = self.embed(batch.state, batch.action, batch.return_to_go, batch.timestep)
        x = torch.stack(tokens, 2).flatten(1, 2)
        position = torch.arange(x.shape[1], device=x.device)
        valid = batch.mask.repeat_interleave(self.config.tokens_per_step, 1)
        valid = valid[:1] if batch.mask.all() else valid  # one mask for all windows is faster
        return self.run_blocks(x, attention_mask(position, position, valid, self.config)[:, None], queries)

    def run_blocks(
        self, x: torch.Tensor, mask: torch.Tensor, queries: slice = ALL, caches=None
    ) -> torch.Tensor:
        """Residual stream [B, Q, D] after the last block of embedded tokens [B, S, D].

        The last block computes the Q wanted tokens alone, unless one of its hook points is in use.

        Args:
            x: embedded tokens [B, S, D].
            mask: as in Attention.
            queries: which tokens are wanted.
            caches: one KeyValueCache per layer, or None.
        """
        x = self.hook_embed(self.dropout(x))
        *blocks, last = zip(self.blocks, caches or [None] * len(self.blocks))
        for block, cache in blocks:
            x = block(x, mask, cache)
        block, cache = last
        return block(x, mask, cache)[:, queries] if block.hooked else block(x, mask, cache, queries)

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """Action logits [..., A] of the residual stream [..., D] at state tokens."""
        return self.action_head(self.ln_final(residual))

    def loss(self, batch: DTBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy in nats per step and accuracy, over the real steps of a batch."""
        logits = self(batch)[batch.mask]
        action = batch.action[batch.mask]
        return F.cross_entropy(logits, action), (logits.argmax(-1) == action).float().mean()
