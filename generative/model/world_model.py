"""The world model: encodes first frames into a latent, and rolls out states, frames, rewards and ends.

A window has L = K + S - 1 frames: K that the latent is encoded from and S simulated ones, the first of which
is the last initialising frame. Simulated state i (0 .. S - 1) decodes frame K - 1 + i; the action taken there
leads to state i + 1. Reward and done of an action are read from the prior of the state it leads to. So there
are S frames but states 0 .. S: an action that ends its episode leads to a state with an outcome and no frame.
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
from generative.model.categorical import sample_categorical
from generative.model.config import WorldModelConfig, as_values, model_config
from generative.model.frames import FrameDecoder, FrameEncoder, PatchEncoder, round_frames
from generative.model.latent import LatentHead, StartHead
from generative.model.layers import mlp
from generative.model.motion import MAX_MOTION, estimate_motion, warp_frame
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
"""Optional entries of a checkpoint's description besides the model's config, with their types."""
OUTCOME_MODULES = ("outcome_encoder.", "outcome_head.", "done_calibration")
"""Prefixes of the parameters that only the prediction of reward and done uses."""


class Latent(NamedTuple):
    """q(z | first frames): mean and log-variance of a diagonal Gaussian, [B, Z] each.

    On the sphere the mean is z, and log_variance is None.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor | None = None

    def sample(self, noise: torch.Tensor | None) -> torch.Tensor:
        """z [B, Z] from standard normal noise [B, Z]; the mean without noise, and on the sphere."""
        if noise is None or self.log_variance is None:
            return self.mean
        return self.mean + (0.5 * self.log_variance).exp() * noise


class Start(NamedTuple):
    """What a latent describes: the step at which the last initialising frame is shown.

    env: the environment's state, with that frame. hidden [B, D]: the agent's hidden state before it sees the
    frame. action_logits [B, A]: of the action that led to the frame.
    """

    env: EnvState
    hidden: torch.Tensor
    action_logits: torch.Tensor


class Outcome(NamedTuple):
    """Predicted reward and done of the action that led to a state.

    reward_logits [..., bins]: two-hot. uncalibrated_done_logit [...]: log-odds of an end among the training
    windows, in which deaths are oversampled. done_logit [...]: calibrated to the recorded steps.
    """

    reward_logits: torch.Tensor
    uncalibrated_done_logit: torch.Tensor
    done_logit: torch.Tensor


class WorldModel(nn.Module):
    """All trained parts; the agent is not one of them (see generative/simulator.py)."""

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
        self.outcome_head = mlp(
            c.vector_size + c.depth // 2 * c.num_cells, c.units, c.reward_bins + 1, zero=True
        )
        self.done_calibration = nn.Parameter(torch.zeros(2))
        self.register_buffer("bins", twohot.make_bins(c.reward_bins, c.reward_range), persistent=False)

    @property
    def spherical(self) -> bool:
        """Whether latents lie on the unit sphere."""
        return self.config.latent == "sphere"

    def embed(self, obs: torch.Tensor) -> torch.Tensor:
        """Embeddings [..., E] of frames [..., H, W, C], uint8 or float in [0, 1]."""
        return self.encoder(obs)

    def encode(self, frames: torch.Tensor, hidden: torch.Tensor) -> Latent:
        """q(z | frames [K, B, H, W, C]), given the agent's hidden state [B, D] before the last of them."""
        return self.latent(self.embed(frames), estimate_motion(frames), hidden)

    def latent(self, embeddings: torch.Tensor, motion: torch.Tensor, hidden: torch.Tensor) -> Latent:
        """q(z) from embeddings [K, B, E], motion [K - 1, B, 2] and the agent's hidden state [B, D]."""
        parameters = self.latent_head(embeddings, motion, hidden)
        return Latent(F.normalize(parameters[0], dim=-1)) if self.spherical else Latent(*parameters)

    def random_latent(self, noise: torch.Tensor) -> torch.Tensor:
        """z [B, Z] from standard normal noise [B, Z]: from N(0, I), or uniform on the sphere."""
        return F.normalize(noise, dim=-1) if self.spherical else noise

    def start(
        self,
        z: torch.Tensor,
        noise: torch.Tensor | None = None,
        mode: str = "hard",
        detach_agent: bool = True,
    ) -> Start:
        """The start that z describes, with its frame.

        Args:
            z: latents [B, Z].
            noise: Gumbel noise [B, G, C], or None for the mode of the distribution.
            mode: gradient mode, see `sample_categorical`.
            detach_agent: no gradient reaches z through the agent's hidden state and previous action.
        """
        deter, raw = self.start_head(z)
        logits = self.rssm.distribution(raw)
        sample = sample_categorical(logits, noise, mode)
        motion = MAX_MOTION * torch.tanh(self.start_motion_head(z) / MAX_MOTION)
        agent_z = z.detach() if detach_agent else z
        hidden = self.start_hidden_head(agent_z)
        return Start(
            EnvState(deter, logits, sample, motion, self.decoder(deter, sample)),
            torch.tanh(hidden) if self.config.bounded_hidden else hidden,
            self.start_action_head(agent_z),
        )

    def step(
        self, state: EnvState, action: torch.Tensor, noise: torch.Tensor | None = None, mode: str = "hard"
    ) -> EnvState:
        """The prior state after an action, decoded on its own last frame.

        Args:
            state: decoded states [B, ...].
            action: [B] integers, or [B, A] weights with gradients.
            noise: Gumbel noise [B, G, C], or None for the mode of the distribution.
            mode: gradient mode, see `sample_categorical`.
        """
        deter, motion = self.transition(state, self.embed(state.frame), self.action_weights(action))
        return self.decode_next(self.prior(deter, motion, noise, mode), state.frame)

    def transition(
        self, state: EnvState, embedding: torch.Tensor, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """h [B, Dh] and predicted motion [B, 2] after an action.

        Args:
            state: states [B, ...]; their frames are not read.
            embedding: of the frames that were shown in them, [B, E].
            action: weights [B, A].
        """
        return self.rssm.core(state.deter, state.sample, state.motion, embedding, action)

    def prior(
        self,
        deter: torch.Tensor,
        motion: torch.Tensor,
        noise: torch.Tensor | None = None,
        mode: str = "hard",
    ) -> EnvState:
        """The state of h [..., Dh] before it sees its frame (`RSSM.prior`); not decoded."""
        return self.rssm.prior(deter, motion, noise, mode)

    def posterior(
        self,
        deter: torch.Tensor,
        motion: torch.Tensor,
        embedding: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> EnvState:
        """The state of h [B, Dh] corrected by its frame (`RSSM.posterior`); not decoded."""
        return self.rssm.posterior(deter, motion, embedding, noise)

    def observe(
        self,
        start: EnvState,
        action: torch.Tensor,
        embeddings: torch.Tensor,
        motion: torch.Tensor,
        noise: torch.Tensor | list[None],
    ) -> tuple[torch.Tensor, torch.Tensor, EnvState]:
        """Filters along recorded actions, every state corrected by its true frame (`RSSM.observe`)."""
        return self.rssm.observe(start, action, embeddings, motion, noise)

    def decode_next(self, state: EnvState, prev_frame: torch.Tensor) -> EnvState:
        """The states [N, ...] with their frames, decoded on the warped previous frames [N, H, W, C]."""
        warped = warp_frame(prev_frame, state.motion)
        return state._replace(frame=self.decoder(state.deter, state.sample, warped))

    def action_weights(self, action: torch.Tensor) -> torch.Tensor:
        """Integer actions [...] as one-hot weights [..., A]; weights are returned unchanged."""
        if action.is_floating_point():
            return action
        return F.one_hot(action, self.config.num_actions).to(self.bins.dtype)

    def decode(self, state: EnvState, mode: str = "hard") -> torch.Tensor:
        """Frames [..., H, W, C] of decoded states.

        In hard mode they are rounded to 8 bits in [0, 1] with a straight-through gradient.
        """
        return round_frames(state.frame) if mode == "hard" else state.frame

    def outcome(self, deter: torch.Tensor, motion: torch.Tensor, prev_frame: torch.Tensor) -> Outcome:
        """Predicted reward and done of the action that led to h.

        An encoder of its own reads the warped previous frame, for what the player is about to touch.

        Args:
            deter: h [..., Dh], which has not seen its frame.
            motion: predicted motion [..., 2].
            prev_frame: frame in which the action was taken, [..., H, W, C] float.
        """
        lead = motion.shape[:-1]
        vector = deter[..., : self.config.vector_size]
        warped = warp_frame(prev_frame.reshape(-1, *prev_frame.shape[-3:]), motion.reshape(-1, 2))
        features = self.outcome_encoder(warped.permute(0, 3, 1, 2)).reshape(*lead, -1)
        logits = self.outcome_head(torch.cat([vector, features], -1))
        reward_logits, done_logit = logits.split([self.config.reward_bins, 1], -1)
        done_logit = done_logit.squeeze(-1)
        return Outcome(reward_logits, done_logit, self.calibrate_done(done_logit))

    def calibrate_done(self, uncalibrated_done_logit: torch.Tensor) -> torch.Tensor:
        """Log-odds of an end among the recorded steps, by Platt scaling (1999) of those among the training
        windows.

        The two parameters are a tenth of log-scale and bias, so that they learn as fast as the weights.
        """
        log_scale, bias = 10 * self.done_calibration
        return log_scale.exp() * uncalibrated_done_logit + bias

    def reward(self, outcome: Outcome) -> torch.Tensor:
        """Expected reward [...] in the game's units."""
        return twohot.mean(outcome.reward_logits, self.bins)

    def reward_probability(self, outcome: Outcome) -> torch.Tensor:
        """Probability [...] that the reward is positive."""
        return torch.softmax(outcome.reward_logits, -1)[..., self.bins > 0].sum(-1)

    def select_trainable(self, outcome_only: bool) -> list[nn.Parameter]:
        """Freezes all but the outcome prediction where asked; returns the parameters to train."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not outcome_only or name.startswith(OUTCOME_MODULES))
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def save_world_model(path: Path, model: WorldModel, meta: dict) -> None:
    """Writes weights and description of a model; meta names its agent, data and training."""
    save_checkpoint(
        path,
        with_prefix("model", model.state_dict()),
        {"kind": "world model", "model": as_values(model.config), **meta},
    )


def read_world_model(path: Path) -> tuple[WorldModel, dict[str, torch.Tensor], dict]:
    """Reads a checkpoint: a model of its config, its weights (not loaded into the model), its description.

    Raises BadCheckpoint for anything that `save_world_model` did not write.
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
    """Loads a checkpoint: the model in evaluation mode, and its description.

    It runs in the precision that suits this machine (`set_precision` changes it); its config holds the one it
    was trained in. Raises BadCheckpoint for anything that `save_world_model` did not write.
    """
    model, weights, meta = read_world_model(path)
    load_module(model, weights, str(path))
    set_precision("auto", model)
    return model.to(device).eval(), meta
