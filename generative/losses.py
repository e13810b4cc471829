"""The terms of the world model's loss, each masked after the end of its episode and each in its own units."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from common.policy import Policy
from generative import twohot
from generative.categorical import balanced_kl, kl
from generative.config import LossScales, WorldModelConfig
from generative.frames import round_frames
from generative.model import Latent, Outcome, Start, WorldModel
from generative.rssm import EnvState
from rollouts.segment import Segment

SCALE_OF = {
    "image": "loss_scale_obs",
    "reward": "loss_scale_reward",
    "done": "loss_scale_done",
    "kl_balanced": "loss_scale_kl",
    "bottleneck": "loss_scale_bottleneck",
    "init_hidden": "loss_scale_init",
    "init_action": "loss_scale_init",
    "hx": "loss_scale_hx",
    "act_log_probs": "loss_scale_act_log_probs",
}
"""Which flag weights which term. `kl` is reported beside them: the plain KL, without free nats."""
TERMS = (*SCALE_OF, "kl")


class Noise(NamedTuple):
    """The random numbers of one pass. z [B, Z] standard normal; state (states 0 .. S-1) and prior (1 .. S) [S, B, G, C] Gumbel."""

    z: torch.Tensor
    state: torch.Tensor
    prior: torch.Tensor


def draw_noise(config: WorldModelConfig, steps: int, batch: int, generator: torch.Generator) -> Noise:
    """Noise for S = steps simulated steps of B = batch windows, on the generator's device."""
    device, shape = generator.device, (2, steps, batch, config.groups, config.classes)
    gumbel = -torch.empty(shape, device=device).exponential_(generator=generator).log()
    return Noise(torch.randn(batch, config.latent_size, generator=generator, device=device), *gumbel)


class Prediction(NamedTuple):
    """One teacher-forced pass over a window. n counts the frames that exist, in the order of mask [S, B].

    states: 0 .. S-1, those after the first corrected by their frames. prior: 1 .. S. frames [n, H, W, C]
    as decoded, neither clipped nor rounded.
    """

    latent: Latent
    start: Start
    states: EnvState
    prior: EnvState
    outcome: Outcome
    frames: torch.Tensor


def predict(model: WorldModel, segment: Segment, noise: Noise) -> Prediction:
    """Runs a window [L, B] through the model along its recorded actions; frames that do not exist are neither read nor drawn."""
    k = model.config.num_initializing_steps
    embedded = model.encoder(segment.obs[segment.mask])
    embeddings = embedded.new_zeros(*segment.mask.shape, embedded.shape[-1]).masked_scatter(segment.mask[..., None], embedded)
    latent = model.latent(embeddings[:k])
    start = model.start(latent.sample(noise.z), noise.state[0])
    deter, states = model.rssm.observe(start.env, model.action_weights(segment.action[k - 1 :]), embeddings[k:], noise.state[1:])
    prior = model.rssm.prior(deter, noise.prior)
    frames = model.decoder(states.features()[segment.mask[k - 1 :]])
    return Prediction(latent, start, states, prior, model.outcome(prior), frames)


def loss_terms(
    model: WorldModel, segment: Segment, noise: Noise, agent: Policy | None, agent_windows: int | None = None, free_nats: float = 1.0
) -> dict[str, torch.Tensor]:
    """Every term of the loss as a scalar: means over existing steps or frames, and over windows for what a window has once.

    agent: the frozen agent; without it the two terms of its view are left out. agent_windows: it is shown the first so many
    windows' frames only. A step exists where segment.mask says so; it has a frame, an action and an outcome, so one mask
    serves all three. The KL compares states that have both a prior and a frame.
    """
    k = model.config.num_initializing_steps
    made, mask = predict(model, segment, noise), segment.mask[k - 1 :]
    posterior, prior = made.states.logits[1:], made.prior.logits[:-1]
    reward = twohot.cross_entropy(made.outcome.reward_logits, segment.reward[k - 1 :].to(model.bins.dtype), model.bins)
    done = F.binary_cross_entropy_with_logits(made.outcome.done_logit, segment.terminated[k - 1 :].to(reward.dtype), reduction="none")
    terms = {
        "image": image_error(made.frames, segment.obs[k - 1 :][mask]).mean(),
        "reward": reward[mask].mean(),
        "done": done[mask].mean(),
        "kl_balanced": masked_mean(balanced_kl(posterior, prior, free_nats), mask[1:]),
        "kl": masked_mean(kl(posterior, prior), mask[1:]),
        "bottleneck": kl_to_standard_normal(made.latent).mean(),
        "init_hidden": (made.start.hidden - segment.hidden[k - 1]).square().sum(-1).mean(),
        "init_action": F.cross_entropy(made.start.action_logits, segment.action[k - 2]),
    }
    return terms if agent is None else terms | agent_terms(agent, made.frames, segment, k, agent_windows)


def agent_terms(agent: Policy, frames: torch.Tensor, segment: Segment, k: int, windows: int | None = None) -> dict[str, torch.Tensor]:
    """The agent shown the decoded frames [n, H, W, C] of the existing steps, with the hidden state it really had before each."""
    exists = segment.mask[k - 1 :]
    kept = exists.clone()
    if windows is not None:
        kept[:, windows:] = False
    frames = frames[kept[exists]]
    came_with = torch.where(segment.first, 0.0, segment.reward.roll(1, 0))[k - 1 :]  # the reward of the action before
    before, after, logits = (x[kept] for x in (segment.hidden[k - 1 : -1], segment.hidden_after()[k - 1 :], segment.logits[k - 1 :]))
    state = agent.advance(round_frames(frames), before, segment.first[k - 1 :][kept], came_with[kept])
    now, then = torch.log_softmax(agent.heads(state)[0], -1), torch.log_softmax(logits, -1)
    return {"hx": (state - after).square().sum(-1).mean(), "act_log_probs": (then.exp() * (then - now)).sum(-1).mean()}


def image_error(frames: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """Squared error per frame, summed over pixels and channels: [n, H, W, C] float in [0, 1] and uint8 -> [n]."""
    return (frames - obs.to(frames.dtype) / 255).square().flatten(1).sum(1)


def psnr(image: float, obs_shape: tuple[int, int, int]) -> float:
    """Peak signal-to-noise ratio in dB of a mean summed squared error per frame."""
    height, width, channels = obs_shape
    return -10 * torch.log10(torch.tensor(image / (height * width * channels))).item()


def kl_to_standard_normal(latent: Latent) -> torch.Tensor:
    """KL(q(z) || N(0, I)) in nats: [B]."""
    return 0.5 * (latent.mean.square() + latent.log_variance.exp() - 1 - latent.log_variance).sum(-1)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of x where mask is True; 0 where it is True nowhere."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def total_loss(terms: dict[str, torch.Tensor], scales: LossScales) -> torch.Tensor:
    """The weighted sum. Terms of weight 0 do not enter."""
    weighted = [getattr(scales, flag) * terms[name] for name, flag in SCALE_OF.items() if name in terms and getattr(scales, flag)]
    return torch.stack(weighted).sum()
