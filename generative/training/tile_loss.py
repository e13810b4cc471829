"""The losses of what comes into view: on the true canvas (tiles stage), and with rewards and ends on the
model's own rollouts (joint stage).
"""

import torch

from common.policy import Policy
from generative.model.canvas import KNOWN, base_tile, read_window
from generative.model.categorical import balanced_kl, kl
from generative.model.state import EnvState
from generative.model.tile_dynamics import BORDER, TileFeatures
from generative.model.world_model import View, WorldModel
from generative.training.errors import importance_weights, leading, masked_means, outcome_errors
from generative.training.motion_loss import LOST
from generative.training.teacher_forcing import (
    Noise,
    Recording,
    frame_of,
    observed_start,
    read_windows,
    sample_posterior,
)
from rollouts.segment import Segment

OPEN_COST = 0.3
"""Added to the squared error of a known tile's code as far as its gate is open: it opens where the code
changes, and not where a new code would be as good as the old one.
"""


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
    draws = noise.tiles[: len(actions)].flatten(0, 1)
    errors = _tile_errors(model, tiles, torch.cat(targets), draws)
    return masked_means((errors, segment.mask[k:].flatten()))


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


def _tile_errors(
    model: WorldModel,
    tiles: TileFeatures,
    target: torch.Tensor,
    noise: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Errors [N] of the tiles in view of N states, for the terms codes, kl_balanced and kl.

    Args:
        model: the world model.
        tiles: what they are predicted from, [N, h, w, ...].
        target: true codes and weights [N, h, w, K + 1].
        noise: Gumbel [N, columns, C].
    """
    codes, weight = target[..., :-KNOWN], target[..., -1]
    prior = model.tile_dynamics.prior(tiles)
    posterior, sample = sample_posterior(model, tiles, codes, noise)
    predicted = model.tile_dynamics.apply_sample(tiles, sample, "relaxed")[..., :-KNOWN]
    known = tiles.before[..., -1]
    cost = OPEN_COST * known * model.tile_dynamics.gate(tiles).squeeze(-1)
    error = (((predicted - codes).square().sum(-1) + cost) * weight).sum((1, 2))
    counts = weight.flatten(1)[..., None] > 0
    prior, posterior = (torch.where(counts, x, prior.detach()) for x in (prior, posterior))
    return {
        "codes": error,
        "kl_balanced": balanced_kl(posterior, prior, 0.0),
        "kl": kl(posterior, prior).detach(),
    }


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
    drawn = _tile_errors(
        model,
        TileFeatures(*(torch.cat(parts) for parts in zip(*tiles))),
        torch.cat(targets),
        noise.tiles[: len(tiles)].flatten(0, 1),
    )
    outcome = outcome_errors(model, model.outcome(torch.stack(outcomes)), *truth)
    return masked_means((drawn, (exists[:-1] & segment.mask[k:]).flatten()), (outcome, exists))


def _own_or_observed_start(model: WorldModel, recording: Recording) -> EnvState:
    """Starts as the latents of the first half of the windows describe them, and as the true frames of the
    others show them.
    """
    decoded, observed = recording.start.env, observed_start(model, recording)
    own = leading(len(recording.z), 0.5, recording.z.device)
    parts = {
        name: torch.where(own.view(-1, *[1] * (getattr(decoded, name).dim() - 1)), getattr(decoded, name), x)
        for name, x in observed._asdict().items()
        if name in ("canvas", "position", "motion", "pose")
    }
    return decoded._replace(**parts)
