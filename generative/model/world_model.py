"""The world model: first frames to a Gaussian latent, the latent to a state, states through time, states to
frames and outcomes.

A window has L = K + S - 1 frames: K to read the latent from, S simulated, the first of which is the last
initialising one. Simulated state i (0 .. S - 1) decodes frame K - 1 + i; the action taken there leads to
state i + 1. Reward and end of an action are read from the prior of the state it led to. So there are S frames
but states 0 .. S: an action that ends its episode leads to a state that has an outcome and never a frame.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from common.checkpoints import (
    BadCheckpoint,
    build,
    load_checkpoint,
    load_module,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.descriptions import check_entries, described
from common.integrity import check_finite
from common.precision import set_precision
from generative.model import twohot
from generative.model.categorical import draw
from generative.model.config import WorldModelConfig, as_values, model_config
from generative.model.frames import FrameDecoder, FrameEncoder, PatchEncoder, round_frames
from generative.model.latent import LatentHead, StartHead
from generative.model.layers import mlp
from generative.model.motion import REACH, estimate_motion, warp_frame
from generative.model.rssm import RSSM, EnvState

_ENTRIES = {
    "env": dict | None,
    "agent": dict,
    "action_names": list[str],
    "noop": int,
    "batches": int,
    "data": str,
    "seed": int,
    "train": dict,
    "loss_scales": dict,
}
"""What a world model's description may say beside its shape, and of what kind that is."""


class Latent(NamedTuple):
    """q(z | first frames): a diagonal Gaussian, [B, Z] each, or the point `mean` of the unit sphere, which
    has no variance.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor | None = None

    def sample(self, noise: torch.Tensor | None) -> torch.Tensor:
        """z [B, Z] from standard normal noise [B, Z]; without noise, and on the sphere, the mean."""
        if noise is None or self.log_variance is None:
            return self.mean
        return self.mean + (0.5 * self.log_variance).exp() * noise


class Start(NamedTuple):
    """What a latent says of the moment at which the last initialising frame is shown.

    env: the environment's state, which decodes that frame. hidden [B, D]: the agent's state before it sees
    the frame. action_logits [B, A]: of the action that led to the frame.
    """

    env: EnvState
    hidden: torch.Tensor
    action_logits: torch.Tensor


class Outcome(NamedTuple):
    """Of the action that led to a state. reward_logits [..., bins], uncalibrated_done_logit [...]: the
    log-odds of an end among the steps that were trained on. done_logit [...]: the log-odds among those that
    were recorded; its sigmoid is the probability of an end.
    """

    reward_logits: torch.Tensor
    uncalibrated_done_logit: torch.Tensor
    done_logit: torch.Tensor


class WorldModel(nn.Module):
    """All that is trained. The agent is not part of it: see generative/simulator.py."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        c = config
        self.encoder = FrameEncoder(c)
        self.decoder = FrameDecoder(c)
        self.rssm = RSSM(c)
        self.latent_head = LatentHead(c)
        self.start_head = StartHead(c)
        self.start_hidden_head = mlp(c.latent_size, c.units, c.hidden_size)
        self.start_action_head = mlp(c.latent_size, c.units, c.num_actions)
        self.start_motion_head = mlp(c.latent_size, c.units, 2)
        self.outcome_encoder = PatchEncoder(c.obs_shape[2] + 1, c.depth // 2, c.precision)
        self.outcome_head = mlp(c.vector_size + c.depth // 2 * c.cells, c.units, c.reward_bins + 1, zero=True)
        self.done_calibration = nn.Parameter(torch.zeros(2))
        self.register_buffer("bins", twohot.make_bins(c.reward_bins, c.reward_range), persistent=False)

    @property
    def spherical(self) -> bool:
        return self.config.latent == "sphere"

    def encode(self, frames: torch.Tensor, memory: torch.Tensor) -> Latent:
        """q(z | frames [K, B, H, W, C]), of the state at the last of them; memory [B, D]: what the agent
        `remembered` before that one.
        """
        return self.latent(self.encoder(frames), estimate_motion(frames), memory)

    def latent(self, embeddings: torch.Tensor, motion: torch.Tensor, memory: torch.Tensor) -> Latent:
        """q(z) from the embeddings [K, B, E] of the first frames, the motion between them [K - 1, B, 2] and
        what the agent remembered [B, D].
        """
        read = self.latent_head(embeddings, motion, memory)
        return Latent(F.normalize(read[0], dim=-1)) if self.spherical else Latent(*read)

    def random_latent(self, noise: torch.Tensor) -> torch.Tensor:
        """z [B, Z] of no frames, from standard normal noise [B, Z]: a draw from N(0, I), or from the whole
        sphere.
        """
        return F.normalize(noise, dim=-1) if self.spherical else noise

    def start(
        self,
        z: torch.Tensor,
        noise: torch.Tensor | None = None,
        mode: str = "hard",
        detach_agent: bool = True,
    ) -> Start:
        """The state that z [B, Z] describes. noise [B, G, C] or None for the likeliest.

        detach_agent: no gradient reaches z through the agent's hidden state and previous action.
        """
        deter, raw = self.start_head(z)
        logits = self.rssm.distribution(raw)
        sample = draw(logits, noise, mode)
        motion = REACH * torch.tanh(self.start_motion_head(z) / REACH)
        source = z.detach() if detach_agent else z
        hidden = self.start_hidden_head(source)
        return Start(
            EnvState(deter, logits, sample, motion, self.decoder(deter, sample)),
            torch.tanh(hidden) if self.config.bounded_hidden else hidden,
            self.start_action_head(source),
        )

    def step(
        self, state: EnvState, action: torch.Tensor, noise: torch.Tensor | None = None, mode: str = "hard"
    ) -> EnvState:
        """The prior state after an action: [B] integers, or [B, A] weights through which gradients flow. It
        is painted on the last picture, moved.
        """
        embedding = self.encoder(state.picture)
        deter, motion = self.rssm.core(
            state.deter, state.sample, state.motion, embedding, self.action_weights(action)
        )
        return self.decode_next(self.rssm.prior(deter, motion, noise, mode), state.picture)

    def decode_next(self, state: EnvState, before: torch.Tensor) -> EnvState:
        """The state [N, ...] with its picture, painted on the one before [N, H, W, C]."""
        return state._replace(
            picture=self.decoder(state.deter, state.sample, warp_frame(before, state.motion))
        )

    def action_weights(self, action: torch.Tensor) -> torch.Tensor:
        """Integer actions [...] as one-hot weights [..., A]; weights pass."""
        if action.is_floating_point():
            return action
        return F.one_hot(action, self.config.num_actions).to(self.bins.dtype)

    def decode(self, state: EnvState, mode: str = "hard") -> torch.Tensor:
        """Frames [..., H, W, C]; in hard mode at 8 bits in [0, 1], with a straight-through gradient, in
        relaxed mode as decoded.
        """
        return round_frames(state.picture) if mode == "hard" else state.picture

    def outcome(self, deter: torch.Tensor, motion: torch.Tensor, before: torch.Tensor) -> Outcome:
        """Reward and end of the action that led to h [..., Dh], which has not seen its frame, by the motion
        [..., 2], from the picture before [..., H, W, C].

        What the player is about to touch is looked for in that picture, moved, with an eye of its own.
        """
        lead = motion.shape[:-1]
        vector = deter[..., : self.config.vector_size]
        ahead = warp_frame(before.reshape(-1, *before.shape[-3:]), motion.reshape(-1, 2)).permute(0, 3, 1, 2)
        read = torch.cat([vector, self.outcome_encoder(ahead).reshape(*lead, -1)], -1)
        reward_logits, uncalibrated_done_logit = self.outcome_head(read).split(
            [self.config.reward_bins, 1], -1
        )
        return Outcome(
            reward_logits,
            uncalibrated_done_logit.squeeze(-1),
            self.calibrate_done(uncalibrated_done_logit.squeeze(-1)),
        )

    def calibrate_done(self, uncalibrated_done_logit: torch.Tensor) -> torch.Tensor:
        """Log-odds of an end among the steps that were recorded, from those among the steps that were trained
        on: stretched and shifted (Platt 1999). The two numbers are a tenth of what they do, so that they keep
        up with the weights.
        """
        stretch, shift = 10 * self.done_calibration
        return stretch.exp() * uncalibrated_done_logit + shift

    def reward(self, outcome: Outcome) -> torch.Tensor:
        """Expected reward [...] in the game's own units."""
        return twohot.mean(outcome.reward_logits, self.bins)

    def reward_probability(self, outcome: Outcome) -> torch.Tensor:
        """Probability [...] that the reward is positive."""
        return torch.softmax(outcome.reward_logits, -1)[..., self.bins > 0].sum(-1)


def save_world_model(path: Path, model: WorldModel, meta: dict) -> None:
    """Writes weights and description: `model` is the WorldModelConfig; `meta` names the agent, data and
    training.
    """
    save_checkpoint(
        path,
        with_prefix("model", model.state_dict()),
        {"kind": "world model", "model": as_values(model.config), **meta},
    )


def read_world_model(path: Path) -> tuple[WorldModel, dict[str, torch.Tensor], dict]:
    """Of what `save_world_model` wrote: a model of its shape, its weights, which are not in it yet, and its
    description. Raises BadCheckpoint for anything else.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "world model":
        raise BadCheckpoint(
            f"{path} holds {described(meta.get('kind', 'something unnamed'))}, not a world model"
        )
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("model", tensors)
    check_finite(weights, path)
    return build(lambda: WorldModel(model_config(meta["model"])), weights, path), weights, meta


def load_world_model(path: Path, device: torch.device | str = "cpu") -> tuple[WorldModel, dict]:
    """The model that `save_world_model` wrote, and its description. Raises BadCheckpoint for anything else.

    It runs in the precision of this machine (`set_precision` changes it); its config says what it was trained
    in.
    """
    model, weights, meta = read_world_model(path)
    load_module(model, weights, str(path))
    set_precision("auto", model)
    return model.to(device).eval(), meta
