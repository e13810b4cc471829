"""The teacher-forced forward pass of the world model, on which all its losses are computed."""

from typing import NamedTuple

import torch

from common.policy import Policy
from generative.model.config import WorldModelConfig
from generative.model.latent import agent_burn_in
from generative.model.motion import estimate_motion
from generative.model.rssm import EnvState
from generative.model.world_model import Latent, Outcome, Start, WorldModel
from rollouts.segment import Segment


class Noise(NamedTuple):
    """All random numbers of one forward pass over B windows of S simulated steps.

    z [N, B, Z]: standard normal, for the latents of N starts per window (its own, then the extra ones).
    start [N, B, G, C]: Gumbel, for the start states. start_times [N - 1, B]: uniform, where the extra starts
    lie. posterior [S - 1, B, G, C] and prior [S, B, G, C]: Gumbel, for states 1 .. S - 1 and 1 .. S.
    overshooting_times [R, B]: uniform, where the R overshooting rollouts begin. overshooting [H, R * B, G,
    C]: Gumbel, for their H steps. rollout_times [B]: uniform, where the deterministic rollout begins.
    """

    z: torch.Tensor
    start: torch.Tensor
    start_times: torch.Tensor
    posterior: torch.Tensor
    prior: torch.Tensor
    overshooting_times: torch.Tensor
    overshooting: torch.Tensor
    rollout_times: torch.Tensor

    def windows(self, chosen: slice) -> "Noise":
        """The random numbers of some of the windows."""
        overshooting = self.overshooting.unflatten(1, self.overshooting_times.shape)[:, :, chosen]
        return Noise(
            self.z[:, chosen],
            self.start[:, chosen],
            self.start_times[:, chosen],
            self.posterior[:, chosen],
            self.prior[:, chosen],
            self.overshooting_times[:, chosen],
            overshooting.flatten(1, 2),
            self.rollout_times[chosen],
        )


def draw_noise(
    config: WorldModelConfig,
    steps: int,
    batch: int,
    generator: torch.Generator,
    overshooting_steps: int = 0,
    overshooting_runs: int = 0,
    extra_starts: int = 0,
) -> Noise:
    """Draws the random numbers of one forward pass on the generator's device.

    Args:
        config: shapes of latent and categorical variables.
        steps: simulated steps S per window.
        batch: windows B.
        generator: source of the numbers; the order of the draws is fixed.
        overshooting_steps: length H of each overshooting rollout.
        overshooting_runs: overshooting rollouts R per window.
        extra_starts: start states per window besides its own.
    """
    device = generator.device

    def gumbel(*shape: int) -> torch.Tensor:
        uniform_shape = (*shape, *config.stoch_shape)
        return -torch.empty(uniform_shape, device=device).exponential_(generator=generator).log()

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    return Noise(
        z=torch.randn(1 + extra_starts, batch, config.latent_size, generator=generator, device=device),
        start=gumbel(1 + extra_starts, batch),
        start_times=uniform(extra_starts, batch),
        posterior=gumbel(steps - 1, batch),
        prior=gumbel(steps, batch),
        overshooting_times=uniform(overshooting_runs, batch),
        overshooting=gumbel(overshooting_steps, overshooting_runs * batch),
        rollout_times=uniform(batch),
    )


class StartFrames(NamedTuple):
    """The K frames that each of N starts of B windows is encoded from, as indices into a segment [L, B].

    steps [K, N * B] and window [N * B]; the windows' own starts come first.
    """

    steps: torch.Tensor
    window: torch.Tensor


def start_frames(segment: Segment, noise: Noise, k: int) -> StartFrames:
    """A window's own start is at frame K - 1, the extra ones anywhere from there to its last frame."""
    length = segment.mask.sum(0)
    extra = k - 1 + (noise.start_times * (length - k + 1)).long()
    last_frame = torch.cat([torch.full_like(length[None], k - 1), extra])
    steps = last_frame.flatten() - torch.arange(k - 1, -1, -1, device=length.device)[:, None]
    window = torch.arange(last_frame.shape[1], device=length.device).repeat(len(last_frame))
    return StartFrames(steps, window)


class Prediction(NamedTuple):
    """The result of one teacher-forced pass. n counts existing frames, in the order of mask [S, B].

    start_frames, latent, start: of all N * B starts, the windows' own first. actions [S, B, A]: one-hot,
    taken in states 0 .. S - 1. states: 0 .. S - 1, all but the first posterior; their frames are `frames`,
    zero where none exists. prior: states 1 .. S, not decoded. outcome [S, B, ...]: of the actions, read from
    the prior. frames [n, H, W, C]: decoded on the warped true frame before, neither clipped nor rounded.
    estimated_motion and predicted_motion [S, B, 2]: on the way to states 0 .. S - 1, between the true frames
    and from h.
    """

    start_frames: StartFrames
    latent: Latent
    start: Start
    actions: torch.Tensor
    states: EnvState
    prior: EnvState
    outcome: Outcome
    frames: torch.Tensor
    estimated_motion: torch.Tensor
    predicted_motion: torch.Tensor


def predict(model: WorldModel, segment: Segment, noise: Noise, agent: Policy) -> Prediction:
    """Runs windows [L, B] through the model along their recorded actions.

    Every state after the first is corrected by its true frame. Frames that do not exist (after the end of an
    episode) are neither encoded nor decoded.

    Args:
        model: the world model.
        segment: recorded windows of L = K + S - 1 frames.
        noise: as `draw_noise` gives it for S steps and B windows.
        agent: the frozen agent, whose hidden state before the start is an input of the latent.
    """
    k = model.config.num_initializing_steps
    mask = segment.mask[k - 1 :]
    embeddings = embed_existing(model, segment)
    motion = estimate_motion(segment.obs).to(embeddings.dtype)
    starts = start_frames(segment, noise, k)
    latent, start = _start_states(model, segment, noise, agent, starts, embeddings, motion)
    own_start = EnvState(*(part[: mask.shape[1]] for part in start.env))
    actions = model.action_weights(segment.action[k - 1 :])
    deter, next_motion, states = model.observe(
        own_start, actions, embeddings[k - 1 :], motion[k - 1 :], noise.posterior
    )
    prior = model.prior(deter, next_motion, noise.prior)
    frames = _decode_existing(model, own_start, states, segment.obs[k - 1 :], mask)
    all_frames = frames.new_zeros(*mask.shape, *frames.shape[1:]).masked_scatter(
        mask[..., None, None, None], frames
    )
    outcome = model.outcome(deter, next_motion, segment.obs[k - 1 :].to(embeddings.dtype) / 255)
    return Prediction(
        starts,
        latent,
        start,
        actions,
        states._replace(frame=all_frames),
        prior,
        outcome,
        frames,
        motion[k - 2 :],
        torch.cat([own_start.motion[None], next_motion[:-1]]),
    )


def embed_existing(model: WorldModel, segment: Segment) -> torch.Tensor:
    """Embeddings [L, B, E] of the frames of a segment, encoded in one call; 0 where no frame exists."""
    embedded = model.embed(segment.obs[segment.mask])
    return embedded.new_zeros(*segment.mask.shape, embedded.shape[-1]).masked_scatter(
        segment.mask[..., None], embedded
    )


def _start_states(
    model: WorldModel,
    segment: Segment,
    noise: Noise,
    agent: Policy,
    starts: StartFrames,
    embeddings: torch.Tensor,
    motion: torch.Tensor,
) -> tuple[Latent, Start]:
    """Latents and start states of all starts."""
    steps, window = starts
    latent = model.latent(
        embeddings[steps, window],
        motion[steps[:-1], window],
        agent_burn_in(agent, segment.obs[steps, window]),
    )
    z = latent.sample(noise.z.flatten(0, 1))
    return latent, model.start(z, noise.start.flatten(0, 1), detach_agent=False)


def _decode_existing(
    model: WorldModel, start: EnvState, states: EnvState, obs: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Frames [n, H, W, C] of the existing states, in the order of mask [S, B].

    The start state's frame is decoded already; it exists in every window. The others are decoded on the
    warped true frame before.
    """
    later = mask[1:]
    prev_frame = obs[:-1][later].to(start.frame.dtype) / 255
    decoded = model.decode_next(EnvState(*(part[1:][later] for part in states)), prev_frame)
    return torch.cat([start.frame, decoded.frame])
