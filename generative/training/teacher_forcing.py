"""What recorded windows show, and the world model run along them with every true frame."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from common.policy import Policy
from generative.model.canvas import base_tile, tile_phase
from generative.model.categorical import sample_categorical
from generative.model.config import WorldModelConfig
from generative.model.latent import agent_burn_in
from generative.model.painter import EncodedFrame
from generative.model.state import EnvState
from generative.model.world_model import Latent, Start, View, WorldModel
from rollouts.segment import Segment


class Noise(NamedTuple):
    """Random numbers of one forward pass over B windows of S simulated steps; None where none were drawn.

    tiles [S, B, columns, C]: Gumbel, for the tiles of states 1 .. S (`WorldModel.tile_noise`).
    z [B, Z]: standard normal, for the latents.
    codes [F, B, h, w, K]: standard normal, added to the codes of F frames that the painter draws.
    times [F, B]: uniform.
    """

    tiles: torch.Tensor | None = None
    z: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    times: torch.Tensor | None = None

    def windows(self, chosen: slice) -> "Noise":
        """The random numbers of some of the windows."""
        z = None if self.z is None else self.z[chosen]
        of_steps = {name: x[:, chosen] for name, x in self._asdict().items() if x is not None and name != "z"}
        return Noise(z=z, **of_steps)


PAINTED_FRAMES = 4
"""F: frames per window that the painter's stage looks at."""


def draw_noise(
    config: WorldModelConfig,
    steps: int,
    batch: int,
    generator: torch.Generator,
    names: Sequence[str] = Noise._fields,
) -> Noise:
    """Draws the random numbers of one forward pass on the generator's device.

    Args:
        config: shapes of latent and categorical variables.
        steps: simulated steps S per window.
        batch: windows B.
        generator: source of the numbers; the order of the draws is that of Noise's fields.
        names: the fields that are drawn.
    """
    device = generator.device

    def gumbel(*shape: int) -> torch.Tensor:
        return -torch.empty(shape, device=device).exponential_(generator=generator).log()

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, device=device)

    draws = {
        "tiles": (gumbel, steps, batch, *config.noise_shape),
        "z": (normal, batch, config.latent_size),
        "codes": (normal, PAINTED_FRAMES, batch, *config.view_shape, config.code_size),
        "times": (uniform, PAINTED_FRAMES, batch),
    }
    return Noise(**{name: draw(*shape) for name, (draw, *shape) in draws.items() if name in names})


def true_view(model: WorldModel, segment: Segment) -> View:
    """Where the frames of windows [L, B] lie: from labels where the segment has them, else from the frames.

    The last initialising frame lies in tile 0, 0. After an end the last frame's place is repeated.
    """
    tile = model.config.tile_pixels
    if "position" in segment.extra:
        position = _hold_after_end(segment.extra["position"], segment.mask)
    else:
        with torch.no_grad():
            position = _hold_after_end(model.locate(segment.obs).position, segment.mask)
    origin = position[model.config.num_initializing_steps - 1]
    position = (position - base_tile(origin, tile) * tile).to(model.bins.dtype)
    return View(tile_phase(position, tile), position[:-1] - position[1:], position)


def _hold_after_end(position: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Positions [L, B, 2] with those after the end of an episode replaced by its last one."""
    steps = torch.arange(len(mask), device=mask.device)[:, None].minimum(mask.sum(0) - 1)
    return position.gather(0, steps[..., None].expand_as(position))


class Recording(NamedTuple):
    """Windows as the model sees them: where their frames lie, their encoding [L, B, ...], the canvas
    [L, B, G, G, K + 1] after each frame, and at the last initialising frame the latent, its sample z [B, Z]
    and the start it describes.
    """

    view: View
    encoded: EncodedFrame
    canvases: torch.Tensor
    latent: Latent
    z: torch.Tensor
    start: Start


def read_windows(
    model: WorldModel,
    segment: Segment,
    agent: Policy,
    z_noise: torch.Tensor | None,
    view: View,
) -> Recording:
    """Reads windows [L, B] with the model's encoder and bottleneck.

    Args:
        model: the world model.
        segment: recorded windows.
        agent: the frozen agent, whose hidden state before the start is an input of the latent.
        z_noise: standard normal [B, Z], or None for the mean of q(z).
        view: where the frames lie; only as many are read as it has.
    """
    k = model.config.num_initializing_steps
    steps = len(view.position)
    encoded = model.encode_frames(segment.obs[:steps], view.position)
    canvas = model.blank_canvas(segment.mask.shape[1])
    canvases = []
    for i, exists in enumerate(segment.mask[:steps]):
        after = model.add_frame(canvas, frame_of(encoded, i), view.position[i])
        canvas = torch.where(exists[:, None, None, None], after, canvas)
        canvases.append(canvas)
    first = View(view.phase[:k], view.motion[: k - 1], view.position[:k])
    hidden = agent_burn_in(agent, segment.obs[:k])
    latent = model.latent(canvases[k - 1], first, encoded.pose[k - 1], hidden)
    z = latent.sample(z_noise)
    return Recording(view, encoded, torch.stack(canvases), latent, z, model.start(z, detach_agent=False))


def frame_of(encoded: EncodedFrame, step: int) -> EncodedFrame:
    """One step of encoded frames [L, B, ...]."""
    return EncodedFrame(*(part[step] for part in encoded))


def observed_start(model: WorldModel, recording: Recording) -> EnvState:
    """The start state with what the true first frames show in place of what the latent kept of them."""
    step = model.config.num_initializing_steps - 1
    view = recording.view
    return recording.start.env._replace(
        canvas=recording.canvases[step],
        position=view.position[step],
        motion=view.motion[step - 1],
        pose=recording.encoded.pose[step],
    )


class Prediction(NamedTuple):
    """The result of a teacher-forced pass over S steps.

    posterior, one_step [S, B, H, W, C]: frames of states 0 .. S - 1 that have seen their true frame, and
    before they do; of state 0 both are decoded from the latent. motion [S, B, 2]: predicted on the way to
    them. outcome [S, B, bins + 1]: logits of the actions taken in them.
    """

    posterior: torch.Tensor
    one_step: torch.Tensor
    motion: torch.Tensor
    outcome: torch.Tensor


@torch.no_grad()
def predict(
    model: WorldModel, segment: Segment, agent: Policy, z_noise: torch.Tensor | None, tiles: list
) -> Prediction:
    """Runs windows [L, B] along their recorded actions; every state is corrected by its true frame.

    Args:
        model: the world model.
        segment: recorded windows of L = K + S - 1 frames; labels are not read.
        agent: the frozen agent.
        z_noise: standard normal [B, Z], or None for the mean of q(z).
        tiles: Gumbel noise [B, columns, C] of each of S steps, or None each for the mode.
    """
    k = model.config.num_initializing_steps
    recording = read_windows(model, segment, agent, z_noise, model.locate(segment.obs))
    start = recording.start.env
    posterior, one_step, motion, outcome = [start.frame], [start.frame], [start.motion], []
    state = observed_start(model, recording)
    for i, action in enumerate(model.action_weights(segment.action[k - 1 :])):
        prior = model.step(state, action, tiles[i])
        outcome.append(prior.outcome)
        t = k + i
        if t == len(segment.mask):
            break
        state = model.observe(
            prior,
            state.canvas,
            frame_of(recording.encoded, t),
            recording.view.position[t],
            recording.view.motion[t - 1],
        )
        posterior.append(model.paint(state).frame)
        one_step.append(prior.frame)
        motion.append(prior.motion)
    return Prediction(*(torch.stack(parts) for parts in (posterior, one_step, motion, outcome)))


def sample_posterior(
    model: WorldModel, tiles, codes: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the posterior given true codes [N, h, w, K], and a sample of it.

    noise: Gumbel [N, columns, C].
    """
    logits = model.tile_dynamics.posterior(tiles, codes)
    return logits, sample_categorical(logits, model.tile_noise(noise))
