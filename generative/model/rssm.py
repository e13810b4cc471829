"""The recurrent state-space model: what is certain is kept in h, what is not in groups of categorical
variables.

After Hafner et al. 2023 (DreamerV3). h has two parts: a vector, kept by a block-diagonal GRU, and a map of
cells that lie where the picture shows them, kept by generative/model/warped_conv_gru.py. The categorical
variables belong to cells too. The prior guesses them from h alone; the posterior has also seen the frame. The
vector foretells how far the picture moves, too: its measured motion takes the place of that one where there
are frames. Only this core walks through time.
"""

from typing import NamedTuple

import torch
from torch import nn

from common.precision import autocast_context
from generative.model.categorical import draw, with_uniform
from generative.model.config import WorldModelConfig
from generative.model.layers import BlockLinear, FiLM, as_flat, as_map, dense, downsample, mlp
from generative.model.motion import REACH
from generative.model.warped_conv_gru import WarpedConvGRU


class EnvState(NamedTuple):
    """The environment's state at one step (or, time-major, at many).

    deter [..., Dh]: h, in (-1, 1), the vector and then the map, cell by cell. logits [..., G, C]:
    log-probabilities of the categorical part. sample [..., G, C]: the draw from them (one-hot, or the
    probabilities in relaxed mode). motion [..., 2]: pixels, down and right, by which the picture moved to get
    here. picture [..., H, W, C]: as painted, about [0, 1], or of no size where it has not been.
    """

    deter: torch.Tensor
    logits: torch.Tensor
    sample: torch.Tensor
    motion: torch.Tensor
    picture: torch.Tensor

    def features(self) -> torch.Tensor:
        """h and the draw side by side: [..., Dh + G * C]."""
        return torch.cat([self.deter, self.sample.flatten(-2)], -1)


def stack_states(states: list[EnvState]) -> EnvState:
    """States of successive steps as one time-major state."""
    return EnvState(*(torch.stack(parts) for parts in zip(*states)))


PROJ_CHANNELS = 16
"""Channels of the coarse views, of the map and of the picture shown last, that dense layers read."""


class BlockGRU(nn.Module):
    """The vector of h from the last one and what there is to know: every block has its own recurrent weights
    and sees all inputs.

    The update gate has a bias of -1: at first, states change slowly.
    """

    def __init__(self, config: WorldModelConfig, sizes: tuple[int, ...]):
        super().__init__()
        self.blocks = config.blocks
        width = config.vector_size // config.blocks
        self.input_layers = nn.ModuleList(dense(size, config.units) for size in (config.vector_size, *sizes))
        self.mix = BlockLinear(config.blocks, width + len(self.input_layers) * config.units, width)
        self.norm = nn.Sequential(nn.LayerNorm(config.vector_size), nn.SiLU())
        self.gates = BlockLinear(config.blocks, width, 3 * width)

    def forward(self, vector, *others):
        """vector [B, V] and further inputs [B, size] each -> [B, V]."""
        shared = torch.cat([layer(x) for layer, x in zip(self.input_layers, (vector, *others))], -1)
        own = vector.unflatten(-1, (self.blocks, -1))
        mixed = self.mix(torch.cat([own, shared[:, None].expand(-1, self.blocks, -1)], -1)).flatten(1)
        reset, candidate, update = self.gates(self.norm(mixed).unflatten(-1, (self.blocks, -1))).chunk(3, -1)
        update = torch.sigmoid(update - 1)
        return (update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * own).flatten(1)


class EmbeddingProjection(nn.Module):
    """A coarse view of an embedding [..., E], for dense layers: [..., GLANCE * cells]."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.linear = nn.Linear(config.depth, PROJ_CHANNELS)

    def forward(self, embedding):
        return self.linear(embedding.unflatten(-1, (-1, self.linear.in_features))).flatten(-2)


class MotionHead(nn.Module):
    """How the picture moves next: a share of the motion before, and a push. Where feet meet a floor is a
    matter of a fraction of a pixel, so it has a look of its own at the picture shown last.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.projection = EmbeddingProjection(config)
        self.input_layers = nn.ModuleList(
            dense(size, config.units)
            for size in (config.vector_size, config.num_actions + 2, PROJ_CHANNELS * config.cells)
        )
        self.out = mlp(3 * config.units, config.units, 4)

    def forward(self, vector, doing, embedding, before):
        """New vector [B, V], action and last motion [B, A + 2], embedding [B, E], last motion in pixels [B,
        2] -> motion in pixels [B, 2].
        """
        known = vector, doing, self.projection(embedding)
        keep, push = self.out(torch.cat([layer(x) for layer, x in zip(self.input_layers, known)], -1)).chunk(
            2, -1
        )
        return torch.sigmoid(keep) * before + REACH * torch.tanh(push / REACH)


class CellHead(nn.Module):
    """Raw outputs [N, G * C] for the categorical variables of every cell, from vector, map and, for the
    posterior, an embedding [N, E].
    """

    def __init__(self, config: WorldModelConfig, seen: int = 0):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.downsample = downsample(config.map_channels, d)
        self.conv = nn.Conv2d(d + seen, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.out = nn.Conv2d(d, config.groups * config.classes, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, vector, cells, embedding=None):
        with autocast_context(self.precision, vector.device.type):
            x = self.downsample(cells)
            if embedding is not None:
                x = torch.cat([x, as_map(embedding, self.config.coarse).to(x.dtype)], 1)
            return as_flat(self.out(self.film(self.conv(x), vector))).to(vector.dtype)


class RSSM(nn.Module):
    """The core with its prior and posterior heads."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.map_projection = nn.Sequential(downsample(config.map_channels, PROJ_CHANNELS), nn.Flatten()).to(
            memory_format=torch.channels_last
        )
        self.embedding_projection = nn.Sequential(nn.Conv2d(config.depth, PROJ_CHANNELS, 1), nn.Flatten()).to(
            memory_format=torch.channels_last
        )
        self.vector_gru = BlockGRU(
            config,
            (
                config.stoch_size,
                config.num_actions + 2,
                PROJ_CHANNELS * config.cells,
                PROJ_CHANNELS * config.cells,
            ),
        )
        self.map_gru = WarpedConvGRU(config)
        self.motion_head = MotionHead(config)
        self.prior_head = CellHead(config)
        self.posterior_head = CellHead(config, config.depth)

    def parts(self, deter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h [N, Dh] as its vector [N, V] and its map [N, M, H / 4, W / 4]."""
        vector, cells = deter.split(
            [self.config.vector_size, self.config.deter_size - self.config.vector_size], -1
        )
        return vector, as_map(cells, self.config.fine)

    def core(self, deter, sample, motion, embedding, action) -> tuple[torch.Tensor, torch.Tensor]:
        """h after an action, and the motion it foretells: deter [B, Dh], sample [B, G, C], the last motion
        [B, 2], the embedding [B, E] of the picture that was shown, action [B, A] (one-hot or soft) -> [B,
        Dh], [B, 2].
        """
        (vector, cells), shown = self.parts(deter), as_map(embedding, self.config.coarse)
        doing = torch.cat([action, motion / REACH], -1)
        vector = self.vector_gru(
            vector, sample.flatten(1), doing, self.map_projection(cells), self.embedding_projection(shown)
        )
        motion = self.motion_head(vector, doing, embedding, motion)
        known = torch.cat([as_map(sample.flatten(1), self.config.coarse), shown], 1)
        return torch.cat([vector, as_flat(self.map_gru(cells, known, vector, motion))], -1), motion

    def distribution(self, raw: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [..., G, C], uniform mixed in, of raw outputs [..., G * C]."""
        return with_uniform(raw.unflatten(-1, self.config.stoch_shape), self.config.uniform_mix)

    def prior(self, deter, motion, noise=None, mode: str = "hard") -> EnvState:
        """The state [..., Dh] that no frame has been shown to, not painted; noise [..., G, C] or None for the
        likeliest.
        """
        raw = self.prior_head(*self.parts(deter.reshape(-1, deter.shape[-1])))
        logits = self.distribution(raw.reshape(*deter.shape[:-1], -1))
        return EnvState(deter, logits, draw(logits, noise, mode), motion, unpainted(motion))

    def posterior(self, deter, motion, embedding, noise=None) -> EnvState:
        """The state [B, Dh] that has seen its frame, as a measured motion [B, 2] and an embedding [B, E]; not
        painted.
        """
        logits = self.distribution(self.posterior_head(*self.parts(deter), embedding))
        return EnvState(deter, logits, draw(logits, noise), motion, unpainted(motion))

    def observe(
        self, start: EnvState, action, embeddings, motion, noise
    ) -> tuple[torch.Tensor, torch.Tensor, EnvState]:
        """Walks along recorded actions, each new state corrected by its frame.

        start: state 0. action [S, B, A] and embeddings [S, B, E]: of states 0 .. S - 1. motion [S - 1, B, 2],
        measured, and noise [S - 1, B, G, C]: of states 1 .. S - 1; the state after the last action has no
        frame in the window. Returns h [S, B, Dh] and the foretold motion [S, B, 2] of states 1 .. S, and the
        states 0 .. S - 1 that frames are decoded from, not painted.
        """
        states = [start._replace(picture=unpainted(start.motion))]
        deters = []
        foretold = []
        for i, taken in enumerate(action):
            now = states[-1]
            deter, ahead = self.core(now.deter, now.sample, now.motion, embeddings[i], taken)
            deters.append(deter)
            foretold.append(ahead)
            if i < len(motion):
                states.append(self.posterior(deter, motion[i], embeddings[i + 1], noise[i]))
        return torch.stack(deters), torch.stack(foretold), stack_states(states)


def unpainted(like: torch.Tensor) -> torch.Tensor:
    """The picture of states that have none: [..., 0] for motions [..., 2]."""
    return like.new_zeros(*like.shape[:-1], 0)
