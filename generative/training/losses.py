"""The terms of the world model's loss by stage, each in its own units and masked after the end of its
episode.

painter: tiles and player are drawn from recorded frames, also as seen from later places. latent: the start
is encoded and decoded. motion: the player's motion, pose, rewards and ends, on the true canvas. tiles: what
comes into view. joint: rewards, ends and what comes into view, on the model's own rollouts.
"""

import torch
from torch.nn import functional as F

from common.policy import Policy
from generative.model.canvas import KNOWN, base_tile, read_window
from generative.model.categorical import balanced_kl, kl
from generative.model.config import LossScales
from generative.model.phase_head import phase_loss
from generative.model.player import NEIGHBOURHOOD, Surroundings, centre_of, surroundings_of
from generative.model.state import EnvState
from generative.model.tile_dynamics import BORDER, TileFeatures
from generative.model.world_model import View, WorldModel
from generative.training.errors import (
    bottleneck,
    image_error,
    importance_weights,
    masked_mean,
    outcome_errors,
    squared_error,
)
from generative.training.motion_data import MARGIN, MotionBatch, take_window
from generative.training.teacher_forcing import (
    Noise,
    Recording,
    frame_of,
    observed_start,
    read_windows,
    sample_posterior,
    true_view,
)
from rollouts.segment import Segment

SCALE_OF = {
    "recon": "loss_scale_obs",
    "phase": "loss_scale_phase",
    "tile_types": "loss_scale_tile_types",
    "codes": "loss_scale_codes",
    "pose": "loss_scale_codes",
    "kl_balanced": "loss_scale_kl",
    "motion": "loss_scale_motion",
    "init_hidden": "loss_scale_init",
    "init_action": "loss_scale_init",
    "init_place": "loss_scale_init",
    "bottleneck": "loss_scale_bottleneck",
    "reward": "loss_scale_reward",
    "done": "loss_scale_done",
    "uncalibrated_done": "loss_scale_done",
}
"""The weight (a field of LossScales and a flag) of each term."""
TERMS = (*SCALE_OF, "kl", "motion_error")
"""Logged besides the terms with a weight: the KL without free nats, and the mean error of the motion in
pixels.
"""
TRAINED = {
    "painter": ("encoder", "painter", "phase_head", "tile_types"),
    "latent": ("latent_head", "start_head", "start_hidden_head", "start_action_head"),
    "motion": ("motion_head", "vector_gru", "outcome_head", "done_calibration"),
    "tiles": ("tile_dynamics",),
    "joint": ("tile_dynamics", "outcome_head", "done_calibration"),
}
"""Prefixes of the parameters that each stage trains."""
CODE_NOISE = 0.05
"""Standard deviation of the noise on codes while the painter learns, so that near codes look alike."""
MOTION_SCALE = 0.05
"""Scale in pixels of the Laplace distribution of each motion outcome."""
PLACE_WEIGHT = 40.0
"""Weight of the Huber loss of the start's place and motion, in pixels, against the other terms of the start.
"""
PLACE_OUTLIER = 0.3
"""Pixels beyond which an error of the start's place counts linearly: sometimes frames are located wrongly."""
LOST = 1.5
"""Pixels off the true place beyond which a rollout teaches neither motion nor pixels."""
INNER_WALL, OUTSIDE = 2, 9
"""Labelled kinds of tiles (rollouts/labels.py)."""
RARE_KINDS = (3, 5, 6, 7, 8)
RARE_WEIGHT = 10.0
"""Labelled kinds of tiles that count more: lava surface, coin, crate, saw and enemy."""


def loss_terms(
    stage: str, model: WorldModel, segment: Segment, noise: Noise, agent: Policy
) -> dict[str, torch.Tensor]:
    """Computes every term of a stage as a scalar: a mean over existing steps, frames or starts.

    A step exists where segment.mask is True; it then has a frame, an action and an outcome.

    Args:
        stage: one of STAGES but motion, which has `motion_terms`.
        model: the world model.
        segment: recorded windows [L, B], with labels in `extra` where there are some.
        noise: see `draw_noise`.
        agent: the frozen agent.

    Returns:
        Terms by name, a subset of TERMS.
    """
    if stage == "painter":
        return painter_terms(model, segment, noise)
    view = true_view(model, segment)
    if stage == "joint":
        return joint_terms(model, segment, noise, agent, view)
    if stage == "latent":
        k = model.config.num_initializing_steps
        with torch.no_grad():
            seen = model.locate(segment.obs[:k])  # as in a simulation, where there are no labels
        return start_terms(model, segment, read_windows(model, segment, agent, noise.z, seen), view)
    with torch.no_grad():
        recording = read_windows(model, segment, agent, noise.z, view)
    return tile_terms(model, segment, noise, recording)


def painter_terms(model: WorldModel, segment: Segment, noise: Noise) -> dict[str, torch.Tensor]:
    """Draws frames from the codes of earlier ones: of F frames of each window, frames i and i + 1 are drawn
    from a canvas of frames 0 .. i. Only pixels that one of those showed count.
    """
    view = true_view(model, segment)
    steps = (noise.times.sort(0).values * segment.mask.sum(0)).long()
    window = torch.arange(steps.shape[1], device=steps.device)
    frames, position = segment.obs[steps, window], view.position[steps, window]
    encoded = model.encode_frames(frames, position)
    encoded = encoded._replace(codes=encoded.codes + CODE_NOISE * noise.codes)
    canvas = model.blank_canvas(len(window))
    codes, drawn = [], []
    for i in range(len(steps) - 1):
        canvas = model.add_frame(canvas, frame_of(encoded, i), position[i])
        codes += [model.codes_in_view(canvas, position[j]) for j in (i, i + 1)]
        drawn += [i, i + 1]
    images = model.painter(torch.cat(codes), position[drawn].flatten(0, 1), encoded.pose[drawn].flatten(0, 1))
    shown = torch.cat([shown_before(position[: i + 1], position[j], model.config.obs_shape)
                       for i in range(len(steps) - 1) for j in (i, i + 1)])  # fmt: skip
    error = squared_error(images, frames[drawn].flatten(0, 1)) * shown
    terms = {"recon": error.sum((1, 2)).mean()}
    if "position" in segment.extra and model.config.knows_phase:
        logits = model.phase_head(segment.obs[segment.mask])
        terms["phase"] = phase_loss(logits, view.phase[segment.mask]).sum(-1).mean()
    if "tiles" in segment.extra:
        rows, columns = model.config.view_shape
        kinds = segment.extra["tiles"][steps, window][..., :rows, :columns].long()
        kinds = torch.where(kinds == OUTSIDE, INNER_WALL, kinds)  # they look alike
        weight = torch.ones(model.tile_types.out_features, device=kinds.device)
        weight[list(RARE_KINDS)] = RARE_WEIGHT
        each = F.cross_entropy(
            model.tile_types(encoded.codes).flatten(0, -2), kinds.flatten(), weight, reduction="none"
        )
        terms["tile_types"] = masked_mean(each, encoded.share.flatten() >= 0.5)
    return terms


def shown_before(earlier: torch.Tensor, later: torch.Tensor, obs_shape) -> torch.Tensor:
    """Which pixels of frames at positions [B, 2] were in any frame at `earlier` [n, B, 2]: [B, H, W]."""
    inside = []
    for axis, size in enumerate(obs_shape[:2]):
        pixel = torch.arange(size, device=later.device) + 0.5 + (later - earlier)[..., axis, None]
        inside.append((pixel >= 0) & (pixel < size))
    return (inside[0][..., :, None] & inside[1][..., None, :]).any(0)


def start_terms(
    model: WorldModel, segment: Segment, recording: Recording, truth: View
) -> dict[str, torch.Tensor]:
    """How well the latent's start describes the last initialising frame.

    truth: where the frames really lie; the recording may have its view from the frames, which is off by a
    fraction of a pixel that the latent can make up for.
    """
    step = model.config.num_initializing_steps - 1
    view, start = recording.view, recording.start
    off = truth.phase[step] - view.phase[step]
    position = model.config.tile_pixels * (view.phase[step] + off - torch.round(off))
    true_codes = model.codes_in_view(recording.canvases[step], view.position[step]).detach()
    codes = model.codes_in_view(start.env.canvas, torch.zeros_like(start.env.position))
    error = (codes - true_codes).square().sum(-1) * recording.encoded.share[step]
    place = F.huber_loss(
        torch.stack([start.env.motion, start.env.position]),
        torch.stack([truth.motion[step - 1], position]),
        reduction="none",
        delta=PLACE_OUTLIER,
    ).sum((0, -1))
    return {
        "recon": image_error(start.env.frame, segment.obs[step]).mean(),
        "codes": error.sum((1, 2)).mean(),
        "pose": (start.env.pose - recording.encoded.pose[step].detach()).square().sum(-1).mean(),
        "init_hidden": (start.hidden - segment.hidden[step]).square().sum(-1).mean(),
        "init_action": F.cross_entropy(start.action_logits, segment.action[step - 1]),
        "init_place": PLACE_WEIGHT * place.mean(),
        "bottleneck": bottleneck(recording.latent),
    }


def motion_terms(
    model: WorldModel, batch: MotionBatch, free_running: float, code_noise: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Moves the player along recorded actions among the true tiles. The first windows of the batch run
    freely, on their own motion and pose; the others are corrected at every step.

    Args:
        model: the world model.
        batch: windows [L, B].
        free_running: the fraction that runs freely.
        code_noise: standard normal [B, SIDE, SIDE, K], added to the codes of all steps.
    """
    length, count = batch.mask.shape
    free = (torch.arange(count, device=batch.mask.device) < free_running * count)[:, None]
    true_motion = batch.position[:-1] - batch.position[1:]
    like = model.start(batch.position.new_zeros(count, model.config.latent_size)).env
    state = like._replace(
        position=batch.position[1], motion=true_motion[0], pose=batch.pose[1], canvas=like.canvas[:, :0]
    )
    losses = _StepLosses(model, batch.mask[1:], batch.reward[1:], batch.terminated[1:], batch.weight)
    for t, action in enumerate(model.action_weights(batch.action[1:]), 1):
        around = _cached_surroundings(model, batch, t, state.position, code_noise)
        moved, outcomes = model.move(state, action, around=around)
        losses.add_outcome(moved)
        if t + 1 == length:
            break
        losses.add_motion(state, outcomes, batch.position[t], batch.position[t + 1])
        losses.add_pose(moved, batch.pose[t + 1])
        state = moved._replace(
            position=torch.where(free, moved.position, batch.position[t + 1]).detach(),
            motion=torch.where(free, moved.motion, true_motion[t]).detach(),
            pose=torch.where(free, moved.pose, batch.pose[t + 1]),
        )
    return losses.means()


def _cached_surroundings(
    model: WorldModel, batch: MotionBatch, step: int, position: torch.Tensor, code_noise: torch.Tensor
) -> Surroundings:
    """Surroundings of a player at `position` [B, 2], at most a tile from the true place."""
    c = model.config
    centre = centre_of(position, c)
    true_tile = base_tile(centre_of(batch.position[step], c), c.tile_pixels)
    first = (base_tile(centre, c.tile_pixels) - true_tile).clamp(-MARGIN, MARGIN) + MARGIN
    codes = take_window(batch.codes[step] + CODE_NOISE * code_noise, first, NEIGHBOURHOOD)
    return surroundings_of(torch.cat([codes, torch.ones_like(codes[..., :KNOWN])], -1), centre, c)


def tile_terms(
    model: WorldModel, segment: Segment, noise: Noise, recording: Recording
) -> dict[str, torch.Tensor]:
    """Predicts the tiles in view after each step from the true canvas before it."""
    k = model.config.num_initializing_steps
    view = recording.view
    state = observed_start(model, recording)
    windows, vectors = [], []
    actions = model.action_weights(segment.action[k - 1 : -1])
    with torch.no_grad():
        for i, action in enumerate(actions):
            t = k + i
            moved, _ = model.move(state, action)
            moved = moved._replace(position=view.position[t])
            base = base_tile(moved.position, model.config.tile_pixels) - BORDER
            windows.append(read_window(moved.canvas, base, model.tile_dynamics.window_shape))
            vectors.append(moved.vector)
            frame = frame_of(recording.encoded, t)
            state = model.observe(moved, state.canvas, frame, view.position[t], view.motion[t - 1])
    tiles = model.tile_dynamics(torch.cat(windows), torch.cat(vectors))
    targets = [true_tiles(model, recording, t, view.position[t]) for t in range(k, len(segment.mask))]
    losses = _TileLosses(model, segment.mask[k:].flatten())
    losses.add(tiles, torch.cat(targets), noise.tiles[: len(actions)].flatten(0, 1))
    return losses.means()


def true_tiles(model: WorldModel, recording: Recording, step: int, position: torch.Tensor) -> torch.Tensor:
    """True codes and weights [B, h, w, K + 1] of the tiles in view at `position` [B, 2] and step `step`.

    A tile that is known by then has the code it has then; one that comes into view has the code that it has
    once the whole window has been seen.
    """
    base = base_tile(position, model.config.tile_pixels)
    shape = model.config.view_shape
    before, now, last = (read_window(recording.canvases[i], base, shape) for i in (step - 1, step, -1))
    known_before = before[..., -KNOWN:]
    return torch.where(known_before > 0, now, last).detach()


def joint_terms(
    model: WorldModel, segment: Segment, noise: Noise, agent: Policy, view: View
) -> dict[str, torch.Tensor]:
    """What comes into view and what actions lead to, on the model's own rollouts along recorded actions.

    The first half of the windows begins from its latent, the others from their true first frames. Tiles that
    come into view are samples of the posterior, so that they can be compared. Steps that begin off the true
    place teach nothing: what ended the recorded episode is not what the player meets there.
    """
    k = model.config.num_initializing_steps
    with torch.no_grad():
        recording = read_windows(model, segment, agent, noise.z, view)
        state = _own_or_observed_start(model, recording)
    outcomes, tiles, targets, on_track = [], [], [], []
    for i, action in enumerate(model.action_weights(segment.action[k - 1 :])):
        t = k + i
        on_track.append((state.position - view.position[t - 1]).abs().amax(-1) < LOST)
        moved, _ = model.move(state, action)
        outcomes.append(moved.outcome)
        if t == len(segment.mask):
            break
        ahead = model.tiles_ahead(moved)
        target = true_tiles(model, recording, t, moved.position)
        with torch.no_grad():
            logits, sample = sample_posterior(model, ahead, target[..., :-KNOWN], noise.tiles[i])
            state = model.fill(moved, ahead, logits, sample)
        tiles.append(ahead)
        targets.append(target)
    exists = torch.stack(on_track) & segment.mask[k - 1 :]
    truth = segment.reward[k - 1 :], segment.terminated[k - 1 :], importance_weights(segment)
    errors = outcome_errors(model, model.outcome(torch.stack(outcomes)), *truth)
    tile_losses = _TileLosses(model, (exists[:-1] & segment.mask[k:]).flatten())
    tile_losses.add(
        TileFeatures(*(torch.cat(parts) for parts in zip(*tiles))),
        torch.cat(targets),
        noise.tiles[: len(tiles)].flatten(0, 1),
    )
    return {name: masked_mean(error, exists) for name, error in errors.items()} | tile_losses.means()


def _own_or_observed_start(model: WorldModel, recording: Recording) -> EnvState:
    """Starts as the latents of the first half of the windows describe them, and as the true frames of the
    others show them.
    """
    told, shown = recording.start.env, observed_start(model, recording)
    own = torch.arange(len(recording.z), device=recording.z.device) < len(recording.z) / 2
    parts = {
        name: torch.where(own.view(-1, *[1] * (getattr(told, name).dim() - 1)), getattr(told, name), x)
        for name, x in shown._asdict().items()
        if name in ("canvas", "position", "motion", "pose")
    }
    return told._replace(**parts)


def total_loss(terms: dict[str, torch.Tensor], scales: LossScales) -> torch.Tensor:
    """The weighted sum of the terms that have a weight."""
    weighted = [getattr(scales, SCALE_OF[name]) * term for name, term in terms.items() if name in SCALE_OF]
    return torch.stack(weighted).sum()


class _StepLosses:
    """Collects the losses of successive steps.

    Args:
        model: the world model.
        mask: [S, B], steps whose action exists.
        reward, terminated: of those actions [S, B].
        weight: importance weight of each window [B].
    """

    def __init__(self, model: WorldModel, mask, reward, terminated, weight):
        self.model = model
        self.mask = mask
        self.truth = reward, terminated, weight
        self.motion, self.error, self.on_track, self.pose, self.outcome = [], [], [], [], []

    def add_outcome(self, moved: EnvState) -> None:
        self.outcome.append(moved.outcome)

    def add_motion(self, before: EnvState, outcomes, true_before: torch.Tensor, true_after: torch.Tensor):
        """A step that should lead to position `true_after` [B, 2]; it counts where it began near its true
        place.
        """
        wanted = before.position - true_after
        self.motion.append(outcomes.loss(wanted, MOTION_SCALE))
        self.error.append((outcomes.choose().detach() - wanted).abs().amax(-1))
        self.on_track.append((before.position - true_before).abs().amax(-1) < LOST)

    def add_pose(self, moved: EnvState, pose: torch.Tensor) -> None:
        self.pose.append((moved.pose - pose.detach()).square().sum(-1))

    def means(self) -> dict[str, torch.Tensor]:
        """The terms motion, motion_error, pose, reward, done and uncalibrated_done."""
        exists = self.mask[1:]
        on_track = torch.stack(self.on_track) & exists
        outcome = self.model.outcome(torch.stack(self.outcome))
        errors = outcome_errors(self.model, outcome, *self.truth)
        return {
            "motion": masked_mean(torch.stack(self.motion), on_track),
            "motion_error": masked_mean(torch.stack(self.error), on_track),
            "pose": masked_mean(torch.stack(self.pose), exists),
        } | {name: masked_mean(error, self.mask) for name, error in errors.items()}


class _TileLosses:
    """The losses of the tiles in view of N states, of which `exists` [N] bool count."""

    def __init__(self, model: WorldModel, exists: torch.Tensor):
        self.model = model
        self.exists = exists

    def add(self, tiles: TileFeatures, target: torch.Tensor, noise: torch.Tensor) -> None:
        """target: true codes and weights [N, h, w, K + 1]; noise: Gumbel [N, columns, C]."""
        dynamics = self.model.tile_dynamics
        codes, weight = target[..., :-KNOWN], target[..., -1]
        prior = dynamics.prior(tiles)
        self.posterior, sample = sample_posterior(self.model, tiles, codes, noise)
        self.prior = prior
        self.weight = weight.flatten(1)[..., None]
        predicted = dynamics.apply_sample(tiles, sample, "relaxed")[..., :-KNOWN]
        self.codes = ((predicted - codes).square().sum(-1) * weight).sum((1, 2))

    def means(self) -> dict[str, torch.Tensor]:
        """The terms codes, kl_balanced and kl."""
        prior, posterior = (torch.where(self.weight > 0, x, self.prior.detach()) for x in
                            (self.prior, self.posterior))  # fmt: skip
        return {
            "codes": masked_mean(self.codes, self.exists),
            "kl_balanced": masked_mean(balanced_kl(posterior, prior, 0.0), self.exists),
            "kl": masked_mean(kl(posterior, prior).detach(), self.exists),
        }
