"""The recurrent state-space model: a block-diagonal GRU for what is certain, groups of categoricals for what is not.

After Hafner et al. 2023 (DreamerV3). The prior guesses the categorical part from h alone; the posterior has also seen the
frame. Only this core walks through time.
"""

from typing import NamedTuple

import torch
from torch import nn

from generative.categorical import draw, with_uniform
from generative.config import WorldModelConfig
from generative.layers import BlockLinear, dense, mlp


class EnvState(NamedTuple):
    """The environment's state at one step (or, time-major, at many).

    deter [..., Dh]: h, in (-1, 1). logits [..., G, C]: log-probabilities of the categorical part. sample [..., G, C]: the draw
    from them (one-hot, or the probabilities in relaxed mode).
    """

    deter: torch.Tensor
    logits: torch.Tensor
    sample: torch.Tensor

    def features(self) -> torch.Tensor:
        """h and the draw side by side: [..., Dh + G * C]."""
        return torch.cat([self.deter, self.sample.flatten(-2)], -1)


def stack_states(states: list[EnvState]) -> EnvState:
    """States of successive steps as one time-major state."""
    return EnvState(*(torch.stack(parts) for parts in zip(*states)))


class BlockGRU(nn.Module):
    """h' from h, the categorical draw and the action: every block has its own recurrent weights and sees all inputs.

    The update gate has a bias of -1: at first, states change slowly.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.blocks, width = config.blocks, config.deter_size // config.blocks
        sizes = (config.deter_size, config.stoch_size, config.num_actions)
        self.inputs = nn.ModuleList(dense(size, config.units) for size in sizes)
        self.mix = BlockLinear(config.blocks, width + len(sizes) * config.units, width)
        self.norm = nn.Sequential(nn.LayerNorm(config.deter_size), nn.SiLU())
        self.gates = BlockLinear(config.blocks, width, 3 * width)

    def forward(self, deter, sample, action):
        """deter [B, Dh], sample [B, G, C], action [B, A] (one-hot or soft) -> [B, Dh]."""
        shared = torch.cat([layer(x) for layer, x in zip(self.inputs, (deter, sample.flatten(-2), action))], -1)
        own = deter.unflatten(-1, (self.blocks, -1))
        mixed = self.mix(torch.cat([own, shared[:, None].expand(-1, self.blocks, -1)], -1)).flatten(1)
        reset, candidate, update = self.gates(self.norm(mixed).unflatten(-1, (self.blocks, -1))).chunk(3, -1)
        update = torch.sigmoid(update - 1)
        return (update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * own).flatten(1)


class RSSM(nn.Module):
    """The core with its prior and posterior heads."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.core = BlockGRU(config)
        self.prior_head = mlp(config.deter_size, config.units, config.stoch_size)
        self.posterior_head = mlp(config.deter_size + config.embed_size, config.units, config.stoch_size)

    def distribution(self, raw: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [..., G, C], uniform mixed in, of raw outputs [..., G * C]."""
        return with_uniform(raw.unflatten(-1, (self.config.groups, self.config.classes)), self.config.uniform_mix)

    def prior(self, deter, noise=None, mode: str = "hard") -> EnvState:
        """The state [..., Dh] that no frame has been shown to; noise [..., G, C] or None for the likeliest."""
        logits = self.distribution(self.prior_head(deter))
        return EnvState(deter, logits, draw(logits, noise, mode))

    def posterior(self, deter, embedding, noise=None) -> EnvState:
        """The state that has seen its frame, as an embedding [..., E]."""
        logits = self.distribution(self.posterior_head(torch.cat([deter, embedding], -1)))
        return EnvState(deter, logits, draw(logits, noise))

    def observe(self, start: EnvState, action, embeddings, noise) -> tuple[torch.Tensor, EnvState]:
        """Walks along recorded actions, each new state corrected by its frame.

        start: state 0. action [S, B, A]: of states 0 .. S - 1. embeddings [S - 1, B, E] and noise [S - 1, B, G, C]: of
        states 1 .. S - 1; the state after the last action has no frame in the window.
        Returns h of states 1 .. S, [S, B, Dh], and the states 0 .. S - 1 that frames are decoded from.
        """
        states, deters = [start], []
        for i, taken in enumerate(action):
            deters.append(self.core(states[-1].deter, states[-1].sample, taken))
            if i < len(embeddings):
                states.append(self.posterior(deters[-1], embeddings[i], noise[i]))
        return torch.stack(deters), stack_states(states)
