"""The recurrent state-space model (RSSM, after DreamerV3: Hafner et al. 2023).

The deterministic state h has two parts: a vector, updated by a block-diagonal GRU, and a map aligned with the
frame, updated by a warped convolutional GRU (warped_conv_gru.py). The stochastic state is a set of
categorical variables, one group per cell of the frame. The prior predicts them from h, the posterior also
from the embedding of the frame. The vector also predicts the motion of the frame; where there are true
frames, the motion estimated between them replaces it. This is the only module with a loop over time.
"""

from typing import NamedTuple

import torch
from torch import nn

from common.precision import autocast_context
from generative.model.categorical import sample_categorical, unimix
from generative.model.config import WorldModelConfig
from generative.model.layers import BlockLinear, FiLM, as_flat, as_map, dense, downsample, mlp
from generative.model.motion import MAX_MOTION
from generative.model.warped_conv_gru import WarpedConvGRU

PROJ_CHANNELS = 16
"""Channels per cell of the low-dimensional projections that dense layers read, of the map and of the
embedding.
"""


class EnvState(NamedTuple):
    """The environment's state at one step, or time-major at many.

    deter [..., Dh]: h in (-1, 1), the vector, then the map in row-major order. logits [..., G, C]:
    log-probabilities of the categorical variables. sample [..., G, C]: a sample of them (one-hot; the
    probabilities in relaxed mode). motion [..., 2]: pixels, down and right, by which the frame moved on the
    way to this state. frame [..., H, W, C]: decoded, around [0, 1]; of size 0 where it is not decoded.
    """

    deter: torch.Tensor
    logits: torch.Tensor
    sample: torch.Tensor
    motion: torch.Tensor
    frame: torch.Tensor

    def features(self) -> torch.Tensor:
        """h and the sample, concatenated: [..., Dh + G * C]."""
        return torch.cat([self.deter, self.sample.flatten(-2)], -1)


def stack_states(states: list[EnvState]) -> EnvState:
    """States of successive steps as one time-major state."""
    return EnvState(*(torch.stack(parts) for parts in zip(*states)))


def no_frame(like: torch.Tensor) -> torch.Tensor:
    """The `frame` of states that are not decoded: [..., 0] for motions [..., 2]."""
    return like.new_zeros(*like.shape[:-1], 0)


class BlockGRU(nn.Module):
    """A GRU with block-diagonal recurrent weights, for the vector part of h; every block sees all inputs.

    The update gate has a bias of -1, so that initially the state changes slowly.
    """

    def __init__(self, config: WorldModelConfig, sizes: tuple[int, ...]):
        super().__init__()
        self.blocks = config.blocks
        width = config.vector_size // config.blocks
        self.input_layers = nn.ModuleList(dense(size, config.units) for size in (config.vector_size, *sizes))
        self.mix = BlockLinear(config.blocks, width + len(self.input_layers) * config.units, width)
        self.norm = nn.Sequential(nn.LayerNorm(config.vector_size), nn.SiLU())
        self.gates = BlockLinear(config.blocks, width, 3 * width)

    def forward(self, vector: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """The last vector [B, V] and inputs [B, size] -> the next vector [B, V]."""
        shared = torch.cat([layer(x) for layer, x in zip(self.input_layers, (vector, *inputs))], -1)
        own = vector.unflatten(-1, (self.blocks, -1))
        mixed = self.mix(torch.cat([own, shared[:, None].expand(-1, self.blocks, -1)], -1)).flatten(1)
        gates = self.gates(self.norm(mixed).unflatten(-1, (self.blocks, -1)))
        reset, candidate, update = gates.chunk(3, -1)
        update = torch.sigmoid(update - 1)
        return (update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * own).flatten(1)


class EmbeddingProjection(nn.Module):
    """Projects every cell of an embedding [..., E] to PROJ_CHANNELS: [..., PROJ_CHANNELS * cells]."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.linear = nn.Linear(config.depth, PROJ_CHANNELS)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.linear(embedding.unflatten(-1, (-1, self.linear.in_features))).flatten(-2)


class MotionHead(nn.Module):
    """Predicts the next motion as a fraction of the last one plus an impulse.

    It reads the last frame through a projection of its own: whether feet meet a floor is a matter of a
    fraction of a pixel.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.projection = EmbeddingProjection(config)
        sizes = (config.vector_size, config.num_actions + 2, PROJ_CHANNELS * config.num_cells)
        self.input_layers = nn.ModuleList(dense(size, config.units) for size in sizes)
        self.out = mlp(3 * config.units, config.units, 4)

    def forward(
        self,
        vector: torch.Tensor,
        action_motion: torch.Tensor,
        embedding: torch.Tensor,
        prev_motion: torch.Tensor,
    ) -> torch.Tensor:
        """The next motion in pixels, [B, 2].

        Args:
            vector: new vector part of h, [B, V].
            action_motion: action and scaled last motion, [B, A + 2].
            embedding: of the last frame, [B, E].
            prev_motion: last motion in pixels, [B, 2].
        """
        inputs = vector, action_motion, self.projection(embedding)
        hidden = torch.cat([layer(x) for layer, x in zip(self.input_layers, inputs)], -1)
        keep, impulse = self.out(hidden).chunk(2, -1)
        return torch.sigmoid(keep) * prev_motion + MAX_MOTION * torch.tanh(impulse / MAX_MOTION)


class CategoricalHead(nn.Module):
    """Raw logits [N, G * C] of the categorical variables of every cell."""

    def __init__(self, config: WorldModelConfig, embedding_channels: int = 0):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.downsample = downsample(config.map_channels, d)
        self.conv = nn.Conv2d(d + embedding_channels, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.out = nn.Conv2d(d, config.groups * config.classes, 1)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, vector: torch.Tensor, cells: torch.Tensor, embedding: torch.Tensor | None = None
    ) -> torch.Tensor:
        """From vector [N, V], map [N, M, H, W] and, for the posterior, an embedding [N, E]."""
        with autocast_context(self.precision, vector.device.type):
            x = self.downsample(cells)
            if embedding is not None:
                x = torch.cat([x, as_map(embedding, self.config.grid_shape).to(x.dtype)], 1)
            return as_flat(self.out(self.film(self.conv(x), vector))).to(vector.dtype)


class RSSM(nn.Module):
    """The recurrent core with its prior and posterior heads."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        projected = PROJ_CHANNELS * config.num_cells
        self.map_projection = nn.Sequential(downsample(config.map_channels, PROJ_CHANNELS), nn.Flatten()).to(
            memory_format=torch.channels_last
        )
        self.embedding_projection = nn.Sequential(nn.Conv2d(config.depth, PROJ_CHANNELS, 1), nn.Flatten()).to(
            memory_format=torch.channels_last
        )
        self.vector_gru = BlockGRU(config, (config.stoch_size, config.num_actions + 2, projected, projected))
        self.map_gru = WarpedConvGRU(config)
        self.motion_head = MotionHead(config)
        self.prior_head = CategoricalHead(config)
        self.posterior_head = CategoricalHead(config, config.depth)

    def split(self, deter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h [N, Dh] as its vector [N, V] and its map [N, M, H / 4, W / 4]."""
        vector, cells = deter.split(
            [self.config.vector_size, self.config.deter_size - self.config.vector_size], -1
        )
        return vector, as_map(cells, self.config.map_shape)

    def core(
        self,
        deter: torch.Tensor,
        sample: torch.Tensor,
        motion: torch.Tensor,
        embedding: torch.Tensor,
        action: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """h after an action [B, Dh], and the motion it predicts [B, 2].

        Args:
            deter: h [B, Dh].
            sample: of the categorical variables, [B, G, C].
            motion: the last motion in pixels, [B, 2].
            embedding: of the frame that the agent saw, [B, E].
            action: one-hot or soft, [B, A].
        """
        vector, cells = self.split(deter)
        frame_features = as_map(embedding, self.config.grid_shape)
        action_motion = torch.cat([action, motion / MAX_MOTION], -1)
        vector = self.vector_gru(
            vector,
            sample.flatten(1),
            action_motion,
            self.map_projection(cells),
            self.embedding_projection(frame_features),
        )
        motion = self.motion_head(vector, action_motion, embedding, motion)
        map_inputs = torch.cat([as_map(sample.flatten(1), self.config.grid_shape), frame_features], 1)
        cells = self.map_gru(cells, map_inputs, vector, motion)
        return torch.cat([vector, as_flat(cells)], -1), motion

    def distribution(self, raw: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [..., G, C], uniform mixed in, of raw logits [..., G * C]."""
        return unimix(raw.unflatten(-1, self.config.stoch_shape), self.config.uniform_mix)

    def prior(
        self,
        deter: torch.Tensor,
        motion: torch.Tensor,
        noise: torch.Tensor | None = None,
        mode: str = "hard",
    ) -> EnvState:
        """The prior state of h [..., Dh], which has not seen its frame; not decoded.

        Args:
            deter: h [..., Dh].
            motion: predicted motion [..., 2].
            noise: Gumbel noise [..., G, C], or None for the mode of the distribution.
            mode: gradient mode, see `sample_categorical`.
        """
        raw = self.prior_head(*self.split(deter.reshape(-1, deter.shape[-1])))
        logits = self.distribution(raw.reshape(*deter.shape[:-1], -1))
        return EnvState(deter, logits, sample_categorical(logits, noise, mode), motion, no_frame(motion))

    def posterior(
        self,
        deter: torch.Tensor,
        motion: torch.Tensor,
        embedding: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> EnvState:
        """The posterior state of h [B, Dh], which has seen its frame; not decoded.

        Args:
            deter: h [B, Dh].
            motion: estimated between the true frames, [B, 2].
            embedding: of the state's frame, [B, E].
            noise: Gumbel noise [B, G, C], or None for the mode of the distribution.
        """
        logits = self.distribution(self.posterior_head(*self.split(deter), embedding))
        return EnvState(deter, logits, sample_categorical(logits, noise), motion, no_frame(motion))

    def observe(
        self,
        start: EnvState,
        action: torch.Tensor,
        embeddings: torch.Tensor,
        motion: torch.Tensor,
        noise: torch.Tensor | list[None],
    ) -> tuple[torch.Tensor, torch.Tensor, EnvState]:
        """Filters along recorded actions: every new state is corrected by its true frame.

        Args:
            start: state 0.
            action: [S, B, A], taken in states 0 .. S - 1.
            embeddings: [S, B, E], of the frames of states 0 .. S - 1.
            motion: [S - 1, B, 2], estimated, of states 1 .. S - 1.
            noise: Gumbel [S - 1, B, G, C], for states 1 .. S - 1; None each for the mode.

        Returns:
            h [S, B, Dh] and predicted motion [S, B, 2] of states 1 .. S before they see their frames, and
            the states 0 .. S - 1, not decoded. State S has no frame in the window.
        """
        states = [start._replace(frame=no_frame(start.motion))]
        deters = []
        motions = []
        for i, step_action in enumerate(action):
            state = states[-1]
            deter, next_motion = self.core(
                state.deter, state.sample, state.motion, embeddings[i], step_action
            )
            deters.append(deter)
            motions.append(next_motion)
            if i < len(motion):
                states.append(self.posterior(deter, motion[i], embeddings[i + 1], noise[i]))
        return torch.stack(deters), torch.stack(motions), stack_states(states)
