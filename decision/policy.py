"""A Decision Transformer as a Policy (common/policy.py): one step at a time, with cached keys and values."""

import torch

from common.policy import CategoricalPolicy
from decision.config import DTConfig
from decision.model import DecisionTransformer
from decision.transformer import attention_mask


class KeyValueCache:
    """Keys and values of one layer for the last context_length + 1 steps, one slot per token.

    Step t overwrites step t - context_length - 1, which no token attends to any more.

    Args:
        stored: [N, 2, C, D], keys and values.
        slots: [N, S], where the S new tokens go.
    """

    def __init__(self, stored: torch.Tensor, slots: torch.Tensor):
        self.stored = stored
        self.slots = slots

    def update(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds keys and values [N, S, heads, D / heads]; returns all of them, [N, C, heads, D / heads].

        Writes into `stored`, unless gradients are recorded, which need the former values.
        """
        new = torch.stack([k.flatten(2), v.flatten(2)], 1)
        index = self.slots[:, None, :, None].expand(new.shape)
        write = self.stored.scatter if torch.is_grad_enabled() else self.stored.scatter_
        self.stored = write(2, index, new)
        keys, values = self.stored.unflatten(-1, k.shape[2:]).unbind(1)
        return keys, values


class DTPolicy(CategoricalPolicy):
    """Acts by a Decision Transformer that is asked for `target_return` in every episode (a clone ignores it).

    The state is one tensor [N, S]: target, return-to-go, time, last action, the residual stream at the state
    token, and the cached keys and values. `hidden` is that residual stream.
    """

    _COLUMNS = 4  # target, return-to-go, time, last action

    def __init__(self, model: DecisionTransformer, target_return: float = 0.0):
        self.model = model
        self.target_return = target_return
        self.num_actions = model.config.num_actions

    @property
    def config(self) -> DTConfig:
        return self.model.config

    @property
    def _cache_shape(self) -> tuple[int, int, int, int]:
        """Layers, keys and values, slots, width."""
        c = self.config
        return c.n_layers, 2, (c.context_length + 1) * c.tokens_per_step, c.d_model

    def initial_state(self, n: int, target_return: float | None = None) -> torch.Tensor:
        target = self.target_return if target_return is None else target_return
        layers, two, slots, width = self._cache_shape
        weight = self.model.action_head.weight
        state = weight.new_zeros(n, self._COLUMNS + width + layers * two * slots * width)
        state[:, 0] = state[:, 1] = target
        state[:, 2] = -1
        state[:, 3] = self.num_actions
        return state

    def advance(self, obs, state, first, reward):
        c = self.config
        state = state if torch.is_grad_enabled() else state.clone()  # the caller's own stays
        target, rtg, time, action, cache = self._unpack(state)
        time = torch.where(first, 0, time + 1)
        opens = time == 0
        rtg = torch.where(opens, target, (rtg - reward) / c.gamma)
        action = torch.where(opens, self.num_actions, action)
        tokens = self._embed(obs, rtg, time, action)
        m = c.tokens_per_step
        query = m * time[:, None] + torch.arange(-1, m - 1, device=time.device)  # from the last action on
        steps = self._cache_shape[2] // m
        slots = query % (steps * m)
        key, valid = self._slot_positions(time, steps)
        mask = attention_mask(query, key, valid, c)[:, None]
        caches = [KeyValueCache(layer, slots) for layer in cache.unbind(1)]
        residual = self.model.run_blocks(tokens, mask, slice(-1, None), caches)[:, 0]
        columns = torch.stack([target, rtg, time.float(), torch.full_like(rtg, self.num_actions)], 1)
        if torch.is_grad_enabled():
            return torch.cat([columns, residual, *(layer.stored.flatten(1) for layer in caches)], 1)
        state[:, : self._COLUMNS + c.d_model] = torch.cat([columns, residual], 1)
        return state

    def with_action(self, state, action):
        """The state after the action was taken, which the next step embeds."""
        state = state.clone() if torch.is_grad_enabled() else state
        state[:, 3] = action
        return state

    def heads(self, state):
        return self.model.logits(self.hidden(state)), None

    def hidden(self, state):
        return state[:, self._COLUMNS : self._COLUMNS + self.config.d_model]

    def _unpack(self, state: torch.Tensor):
        """target, return-to-go [N] float; time, last action [N] int64; cache [N, layers, 2, C, D]."""
        target, rtg, time, action = state[:, : self._COLUMNS].unbind(1)
        cache = state[:, self._COLUMNS + self.config.d_model :].unflatten(1, self._cache_shape)
        return target, rtg, time.round().long(), action.round().long(), cache

    def _embed(self, obs, rtg, time, action) -> torch.Tensor:
        """Tokens [N, S, D]: the last action with its own step's time, then those of this step up to the
        state.
        """
        embed = self.model.embed
        *own, _ = embed(obs, torch.zeros_like(action), rtg, time)
        last = embed.action(action) + embed.embed_time((time - 1).clamp(min=0)) + embed.kind.weight[-1]
        return torch.stack([last, *own], 1)

    def _slot_positions(self, time: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Position [N, C] of the newest token that each slot may hold, and whether it is a real one."""
        m = self.config.tokens_per_step
        residue = torch.arange(steps, device=time.device)
        step = time[:, None] - (time[:, None] - residue) % steps  # [N, steps]
        key = (m * step[..., None] + torch.arange(m, device=time.device)).flatten(1)
        return key, key >= 0
