"""The world model: encodes first frames into a latent, and rolls out states, frames, rewards and ends.

A window has L = K + S - 1 frames: K that the latent is encoded from and S simulated ones, the first of which
is the last initialising frame. Simulated state i (0 .. S - 1) decodes frame K - 1 + i; the action taken there
leads to state i + 1, which also holds the reward and end of that action. So there are S frames but states
0 .. S: an action that ends its episode leads to a state with an outcome and no frame.

Three things take turns in a step: the player's motion (player.py) moves the view over the canvas (canvas.py),
tiles that come into view are drawn from a categorical variable each (tile_dynamics.py), and the painter
(painter.py) turns the tiles in view into a frame.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from generative.model import twohot
from generative.model.canvas import (
    KNOWN,
    base_tile,
    read_window,
    tile_phase,
    visible_share,
    write_window,
)
from generative.model.categorical import sample_categorical
from generative.model.config import WorldModelConfig
from generative.model.frames import round_frames
from generative.model.latent import LatentHead, StartHead
from generative.model.layers import mlp
from generative.model.motion import estimate_motion
from generative.model.motion_head import MotionHead, MotionOutcomes
from generative.model.painter import EncodedFrame, Painter, TileEncoder
from generative.model.phase_head import PhaseHead, align_motion
from generative.model.player import OutcomeHead, Surroundings, VectorGRU, surroundings
from generative.model.state import EnvState, as_coordinates, no_frame
from generative.model.texture_cache import TextureCache
from generative.model.tile_dynamics import BORDER, TileDynamics, TileFeatures

LAST_PHASE = 0.9999
"""Largest phase of a start: its codes belong to the tiles from its first one on."""
UNKNOWN_PHASE = 0.5
"""Phase of the last initialising frame for a model that knows no phases: where tiles begin is then a matter
of definition, and in the middle of a tile a still camera stays clear of their edges.
"""
KNOWN_SHARE = 0.5
"""A tile is known once this share of it has been seen."""
TILE_KINDS = 10
"""Kinds of tiles in a store's labels (rollouts/labels.py)."""


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


class View(NamedTuple):
    """Where frames [L, B] lie: phase [L, B, 2] in tiles, motion [L - 1, B, 2] between them in pixels, and
    position [L, B, 2] in pixels of a world in whose tile 0, 0 one of the frames lies (see `locate`).
    """

    phase: torch.Tensor
    motion: torch.Tensor
    position: torch.Tensor


class Step(NamedTuple):
    """A prior step: the state after it, the possible motions, and what its tiles were predicted from."""

    state: EnvState
    outcomes: MotionOutcomes
    tiles: TileFeatures


class WorldModel(nn.Module):
    """All trained parts; the agent is not one of them (see generative/simulator.py)."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        c = config
        self.encoder = TileEncoder(c)
        self.painter = Painter(c)
        self.phase_head = PhaseHead(c)
        self.tile_types = nn.Linear(c.code_size, TILE_KINDS)
        self.motion_head = MotionHead(c)
        self.vector_gru = VectorGRU(c)
        self.outcome_head = OutcomeHead(c)
        self.tile_dynamics = TileDynamics(c)
        self.latent_head = LatentHead(c)
        self.start_head = StartHead(c)
        self.start_hidden_head = mlp(c.latent_global, c.units, c.hidden_size)
        self.start_action_head = mlp(c.latent_global, c.units, c.num_actions)
        self.done_calibration = nn.Parameter(torch.zeros(2))
        self.register_buffer("bins", twohot.make_bins(c.reward_bins, c.reward_range), persistent=False)

    @property
    def spherical(self) -> bool:
        """Whether latents lie on the unit sphere."""
        return self.config.latent == "sphere"

    def encode(self, frames: torch.Tensor, hidden: torch.Tensor) -> Latent:
        """q(z | frames [K, B, H, W, C]), given the agent's hidden state [B, D] before the last of them."""
        view = self.locate(frames)
        encoded = self.encode_frames(frames, view.position)
        return self.latent(self.fuse(encoded, view.position), view, encoded.pose[-1], hidden)

    def locate(self, frames: torch.Tensor) -> View:
        """Where frames [L, B, H, W, C], uint8 or float, lie: motion by registration, phase by its head.

        A model that knows no phases puts the last initialising frame (of fewer frames, the last one) in the
        middle of its tile, where its starts are.
        """
        motion = estimate_motion(frames).to(self.bins.dtype)
        if not self.config.knows_phase:
            last = min(self.config.num_initializing_steps, len(frames)) - 1
            return self.view_of(motion, motion.new_full((frames.shape[1], 2), UNKNOWN_PHASE), last)
        phase = self.phase_head.phase(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        motion = align_motion(motion, phase[:-1], phase[1:], self.config.tile_pixels)
        return self.view_of(motion, phase[0])

    def view_of(self, motion: torch.Tensor, phase: torch.Tensor, frame: int = 0) -> View:
        """The view of frames with motion [L - 1, B, 2] between them, one of which is at a phase [B, 2]."""
        tile = self.config.tile_pixels
        moved = torch.cat([torch.zeros_like(phase)[None], motion]).cumsum(0)
        position = phase * tile - (moved - moved[frame])
        return View(tile_phase(position, tile), motion, position)

    def encode_frames(self, frames: torch.Tensor, position: torch.Tensor) -> EncodedFrame:
        """Encodes frames [..., H, W, C] at positions [..., 2] in one call."""
        lead = position.shape[:-1]
        encoded = self.encoder(frames.flatten(0, len(lead) - 1), position.flatten(0, -2))
        return EncodedFrame(*(part.unflatten(0, lead) for part in encoded))

    def blank_canvas(self, batch: int) -> torch.Tensor:
        """A canvas [B, G, G, K + 1] of which nothing is known."""
        c = self.config
        return self.bins.new_zeros(batch, c.canvas_tiles, c.canvas_tiles, c.code_size + KNOWN)

    def fuse(self, encoded: EncodedFrame, position: torch.Tensor) -> torch.Tensor:
        """The canvas [B, G, G, K + 1] after frames [L, B, ...] at positions [L, B, 2]."""
        canvas = self.blank_canvas(position.shape[1])
        for i, at in enumerate(position):
            canvas = self.add_frame(canvas, EncodedFrame(*(part[i] for part in encoded)), at)
        return canvas

    def add_frame(self, canvas: torch.Tensor, encoded: EncodedFrame, position: torch.Tensor) -> torch.Tensor:
        """The canvas after one frame [B, ...]: its tiles replace what was known as far as their gates say.

        A tile of which less than half has been seen is not known yet: its code is a first guess.
        """
        base = base_tile(position, self.config.tile_pixels)
        window = read_window(canvas, base, self.config.view_shape)
        old, known = window.split([self.config.code_size, KNOWN], -1)
        share = encoded.share[..., None]
        write = torch.where(known > 0, torch.sigmoid(encoded.gate)[..., None], 1.0) * (share > 0)
        codes = old + write * (encoded.codes - old)
        return write_window(
            canvas, base, torch.cat([codes, torch.maximum(known, (share >= KNOWN_SHARE).float())], -1)
        )

    def latent(self, canvas: torch.Tensor, view: View, pose: torch.Tensor, hidden: torch.Tensor) -> Latent:
        """q(z) from the canvas after K frames, their view, the last pose [B, P] and the agent's hidden state
        [B, D].
        """
        codes = self.codes_in_view(canvas, view.position[-1])
        parameters = self.latent_head(codes, view.phase[-1], view.motion, pose, hidden)
        return Latent(F.normalize(parameters[0], dim=-1)) if self.spherical else Latent(*parameters)

    def codes_in_view(self, canvas: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Codes [B, h, w, K] of the tiles in view."""
        base = base_tile(position, self.config.tile_pixels)
        return read_window(canvas, base, self.config.view_shape)[..., : self.config.code_size]

    def random_latent(self, noise: torch.Tensor) -> torch.Tensor:
        """z [B, Z] from standard normal noise [B, Z]: from N(0, I), or uniform on the sphere."""
        return F.normalize(noise, dim=-1) if self.spherical else noise

    def start(
        self,
        z: torch.Tensor,
        mode: str = "hard",
        detach_agent: bool = True,
        textures: TextureCache | None = None,
    ) -> Start:
        """The start that z describes, with its frame.

        Args:
            z: latents [B, Z].
            mode: gradient mode, see `sample_categorical`.
            detach_agent: no gradient reaches z through the agent's hidden state and previous action.
            textures: of these samples, see `paint`.
        """
        c = self.config
        codes, phase, motion, pose = self.start_head(z)
        if c.knows_phase:
            phase = phase + (phase.clamp(0, LAST_PHASE) - phase).detach()  # a clamp with a gradient
        else:
            phase = torch.full_like(phase, UNKNOWN_PHASE)
        position = phase * c.tile_pixels
        share = visible_share(position.detach(), c.tile_pixels, c.view_shape, c.obs_shape[:2])
        tiles = torch.cat([codes, (share >= KNOWN_SHARE).to(codes.dtype)[..., None]], -1)
        first_tile = torch.zeros_like(position, dtype=torch.int64)
        canvas = write_window(self.blank_canvas(len(z)), first_tile, tiles)
        uniform = z.new_full((len(z), *c.stoch_shape), 1 / c.classes)
        state = EnvState(
            z.new_zeros(len(z), c.vector_size),
            canvas,
            position,
            motion,
            pose,
            uniform.log(),
            uniform,
            z.new_zeros(len(z), c.reward_bins + 1),
            no_frame(motion),
        )
        agent_part = (z.detach() if detach_agent else z)[:, : c.latent_global]
        hidden = self.start_hidden_head(agent_part)
        return Start(
            self.paint(state, mode, textures),
            torch.tanh(hidden) if c.bounded_hidden else hidden,
            self.start_action_head(agent_part),
        )

    def step(
        self,
        state: EnvState,
        action: torch.Tensor,
        noise: torch.Tensor | None = None,
        mode: str = "hard",
        textures: TextureCache | None = None,
    ) -> EnvState:
        """The prior state after an action, with its frame.

        Args:
            state: states [B, ...].
            action: [B] integers, or [B, A] weights with gradients.
            noise: Gumbel noise [B, columns, C], or None for the mode of the distribution.
            mode: gradient mode, see `sample_categorical`.
            textures: of these samples, see `paint`.
        """
        moved, _ = self.move(state, self.action_weights(action), mode)
        tiles = self.tiles_ahead(moved)
        logits = self.tile_dynamics.prior(tiles)
        noise = None if noise is None else self.tile_noise(noise)
        sample = sample_categorical(logits, noise, mode)
        filled = self.fill(moved, tiles, logits, sample, mode)
        return self.paint(as_coordinates(filled) if torch.is_grad_enabled() else filled, mode, textures)

    def tile_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Noise [..., G, C] of all tiles in view from that of their columns [..., columns, C].

        The tiles of a column share it. Each is distributed as if it had its own, but together they agree on
        what comes: ground up to one height, say, and not a wall with holes.
        """
        rows, _ = self.config.view_shape
        return noise[..., None, :, :].expand(*noise.shape[:-2], rows, -1, -1).flatten(-3, -2)

    def move(
        self,
        state: EnvState,
        action: torch.Tensor,
        mode: str = "hard",
    ) -> tuple[EnvState, MotionOutcomes]:
        """The state after the player has moved, before new tiles are drawn, and the motions it chose from.

        Args:
            state: states [B, ...].
            action: weights [B, A].
            mode: gradient mode.
        """
        around = surroundings(state.canvas, state.position, self.config)
        moved, outcomes = self.move_among(around, state, action, mode)
        outcome = self.outcome_head(state, around, moved.motion, action)
        return moved._replace(outcome=outcome), outcomes

    def move_among(
        self, around: Surroundings, state: EnvState, action: torch.Tensor, mode: str = "hard"
    ) -> tuple[EnvState, MotionOutcomes]:
        """`move` with given surroundings, and without the outcome of the action."""
        outcomes = self.motion_head(state.vector, around, state.motion, action)
        motion = outcomes.choose(mode)
        vector, pose = self.vector_gru(state, around, motion, action)
        moved = state._replace(
            vector=vector,
            pose=pose,
            motion=motion,
            position=state.position - motion,
            frame=no_frame(motion),
        )
        return moved, outcomes

    def tiles_ahead(self, moved: EnvState) -> TileFeatures:
        """What the tiles in view are drawn from."""
        base = base_tile(moved.position, self.config.tile_pixels) - BORDER
        window = read_window(moved.canvas, base, self.tile_dynamics.window_shape)
        return self.tile_dynamics(window, moved.vector)

    def fill(
        self,
        moved: EnvState,
        tiles: TileFeatures,
        logits: torch.Tensor,
        sample: torch.Tensor,
        mode: str = "hard",
    ) -> EnvState:
        """The state with the tiles in view drawn from a sample [B, G, C] of `logits`."""
        window = self.tile_dynamics.apply_sample(tiles, sample, mode)
        base = base_tile(moved.position, self.config.tile_pixels)
        canvas = write_window(moved.canvas, base, window)
        return moved._replace(canvas=canvas, logits=logits, sample=sample)

    def observe(
        self,
        prior: EnvState,
        canvas: torch.Tensor,
        encoded: EncodedFrame,
        position: torch.Tensor,
        motion: torch.Tensor,
    ) -> EnvState:
        """The state corrected by its true frame.

        Args:
            prior: the state before it saw the frame.
            canvas: of the state before that, so that nothing the prior made up stays.
            encoded: the frame [B, ...].
            position: where the frame lies, [B, 2].
            motion: that led there, [B, 2].
        """
        return prior._replace(
            canvas=self.add_frame(canvas, encoded, position),
            position=position,
            motion=motion,
            pose=encoded.pose,
            frame=no_frame(motion),
        )

    def paint(self, state: EnvState, mode: str = "hard", textures: TextureCache | None = None) -> EnvState:
        """The states [B, ...] with their frames.

        textures: of earlier steps of these samples, updated here; in hard mode without gradients.
        """
        codes = self.codes_in_view(state.canvas, state.position)
        frame = self.painter(codes, state.position, state.pose, mode, cache=textures)
        return state._replace(frame=frame)

    def flat_state(self, state: EnvState) -> torch.Tensor:
        """The deterministic state as one vector [B, Dh]: recurrent vector, pose, motion and phase in tiles,
        and the codes of the tiles in view, row by row.
        """
        tile = self.config.tile_pixels
        parts = [state.vector, state.pose, state.motion / tile, tile_phase(state.position, tile)]
        return torch.cat([*parts, self.codes_in_view(state.canvas, state.position).flatten(1)], -1)

    def state_shapes(self) -> EnvState:
        """Shapes of one sample's state with its frame."""
        c = self.config
        canvas = (c.canvas_tiles, c.canvas_tiles, c.code_size + KNOWN)
        return EnvState(
            (c.vector_size,), canvas, (2,), (2,), (c.pose_size,), c.stoch_shape, c.stoch_shape,
            (c.reward_bins + 1,), c.obs_shape,
        )  # fmt: skip

    def action_weights(self, action: torch.Tensor) -> torch.Tensor:
        """Integer actions [...] as one-hot weights [..., A]; weights are returned unchanged."""
        if action.is_floating_point():
            return action
        return F.one_hot(action, self.config.num_actions).to(self.bins.dtype)

    def decode(self, state: EnvState, mode: str = "hard") -> torch.Tensor:
        """Frames [..., H, W, C] of painted states.

        In hard mode they are rounded to 8 bits in [0, 1] with a straight-through gradient.
        """
        return round_frames(state.frame) if mode == "hard" else state.frame

    def outcome(self, logits: torch.Tensor) -> Outcome:
        """Predicted reward and end of the action that led to a state, from its `outcome` [..., bins + 1]."""
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
