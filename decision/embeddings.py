"""Embeddings of returns-to-go, states, actions and times as tokens."""

import torch
from torch import nn
from torch.nn import functional as F

from agents.encoders import Encoder
from common.policy import frames_to_float
from decision.config import DTConfig
from decision.transformer import INIT_STD


class PatchEncoder(nn.Module):
    """Frames [..., H, W, C] as activations of one convolution on patches that do not overlap, [..., F]."""

    def __init__(self, config: DTConfig):
        super().__init__()
        size = config.patch_size
        height, width, channels = config.obs_shape
        self.conv = nn.Conv2d(channels, config.patch_channels, size, stride=size)
        self.feature_size = config.patch_channels * (height // size) * (width // size)

    def forward(self, obs):
        features = F.gelu(self.conv(frames_to_float(obs))).flatten(1)
        return features.reshape(*obs.shape[:-3], -1)


class StateEmbedding(nn.Module):
    """Frames or features to tokens: an encoder (frozen if it is the agent's), standardisation, a linear map.

    Features are standardised by the mean and standard deviation of the training data where the encoder is
    frozen (`set_statistics`).
    """

    def __init__(self, config: DTConfig):
        super().__init__()
        self.obs_shape = config.obs_shape
        if config.state_embedding == "patches":
            self.encoder = PatchEncoder(config)
            size = self.encoder.feature_size
        else:
            size = config.feature_size
            self.encoder = Encoder(
                config.architecture, config.obs_shape, size, config.precision, config.normalize_features
            )
        self.frozen = config.state_embedding == "agent"
        self.encoder.requires_grad_(not self.frozen)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.project = nn.Linear(size, config.d_model)

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Sets the mean and standard deviation [F] of the features; a constant feature keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, state):
        """Tokens [..., D] of frames [..., H, W, C], or of features [..., F] of the encoder."""
        features = self.encoder(state) if state.shape[-3:] == self.obs_shape else state.float()
        return self.project((features - self.mean) / self.std)


class StepEmbedding(nn.Module):
    """Tokens of steps. To each are added its kind's vector and its step's time."""

    def __init__(self, config: DTConfig):
        super().__init__()
        self.config = config
        width = config.d_model
        self.state = StateEmbedding(config)
        self.action = nn.Embedding(config.num_actions + 1, width)  # the last is the padding token
        self.return_to_go = nn.Linear(1, width, bias=False) if config.conditioned else None
        linear = config.time_embedding == "linear"
        self.time = nn.Linear(1, width) if linear else nn.Embedding(config.max_timestep + 1, width)
        self.kind = nn.Embedding(config.tokens_per_step, width)
        for module in self.children():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(self, state, action, return_to_go, timestep):
        """All tokens of steps [...]: list of tokens_per_step tensors [..., D], in order."""
        tokens = [self.state(state), self.action(action)]
        if self.return_to_go is not None:
            tokens.insert(0, self.return_to_go(return_to_go[..., None] / self.config.rtg_scale))
        time = self.embed_time(timestep)
        return [token + time + self.kind.weight[i] for i, token in enumerate(tokens)]

    def embed_time(self, timestep: torch.Tensor) -> torch.Tensor:
        """[..., D] of times [...]."""
        timestep = timestep.clamp(max=self.config.max_timestep)
        if self.config.time_embedding == "linear":
            return self.time(timestep[..., None] / self.config.max_timestep)
        return self.time(timestep)
