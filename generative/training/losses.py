"""The terms of the world model's loss, each masked after the end of its episode and each in its own units."""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F

from common.policy import Policy
from generative.model import twohot
from generative.model.categorical import balanced_kl, kl
from generative.model.config import LossScales, WorldModelConfig
from generative.model.frames import round_frames
from generative.model.latent import agent_burn_in
from generative.model.motion import estimate_motion, in_view
from generative.model.rssm import EnvState
from generative.model.world_model import Latent, Outcome, Start, WorldModel
from generative.training.small_object_weights import detail
from rollouts.segment import Segment

SCALE_OF = {
    "recon": "loss_scale_obs",
    "small_objects": "loss_scale_small_objects",
    "start_recon": "loss_scale_start_recon",
    "start_small_objects": "loss_scale_start_small_objects",
    "self_conditioned_recon": "loss_scale_self_conditioned_recon",
    "deterministic_recon": "loss_scale_deterministic_rollout",
    "motion": "loss_scale_motion",
    "deterministic_motion": "loss_scale_motion",
    "reward": "loss_scale_reward",
    "done": "loss_scale_done",
    "uncalibrated_done": "loss_scale_done",
    "deterministic_reward": "loss_scale_reward",
    "deterministic_done": "loss_scale_done",
    "deterministic_uncalibrated_done": "loss_scale_done",
    "kl_balanced": "loss_scale_kl",
    "overshooting_kl": "loss_scale_overshooting",
    "bottleneck": "loss_scale_bottleneck",
    "init_hidden": "loss_scale_init",
    "init_action": "loss_scale_init",
    "hx": "loss_scale_hx",
    "act_log_probs": "loss_scale_act_log_probs",
    "value": "loss_scale_value",
}
"""Which flag weights which term."""
TERMS = (*SCALE_OF, "kl", "overshooting_recon")
"""Reported beside them: the plain KL, without free nats, and the error of the picture at the end of a free
run. As a loss, the latter drew all futures towards their mean: at weight 1, a toy world was foreseen 73% of
the time instead of 99%.
"""

NEW = 0.1
"""Weight of pixels that have come into view since a blind run began: most of its error, and none of it
anything that could be known.
"""


class Noise(NamedTuple):
    """The random numbers of one pass.

    z [N, B, Z] standard normal and first [N, B, G, C] Gumbel: of each window's own start, and of N - 1
    further ones, at [N - 1, B] uniform. state (states 1 .. S-1) and prior (1 .. S) [.., B, G, C] Gumbel. For
    the free runs of H steps, R from each window: when [R, B] uniform, where they begin, and free [H, R * B,
    G, C] Gumbel. blind [B] uniform: where the blind runs begin.
    """

    z: torch.Tensor
    first: torch.Tensor
    at: torch.Tensor
    state: torch.Tensor
    prior: torch.Tensor
    when: torch.Tensor
    free: torch.Tensor
    blind: torch.Tensor

    def windows(self, chosen: slice) -> "Noise":
        """The numbers of some of the windows."""
        free = self.free.unflatten(1, self.when.shape)[:, :, chosen].flatten(1, 2)
        others = (x[:, chosen] for x in (self.z, self.first, self.at, self.state, self.prior, self.when))
        return Noise(*others, free, self.blind[chosen])


def draw_noise(
    config: WorldModelConfig,
    steps: int,
    batch: int,
    generator: torch.Generator,
    overshooting_steps: int = 0,
    overshooting_runs: int = 0,
    extra_starts: int = 0,
) -> Noise:
    """Noise for S = steps simulated steps of B = batch windows, for overshooting_runs runs of overshooting_steps steps each
    and for extra_starts starts beside each window's own, on the generator's device.
    """
    device = generator.device
    categorical = config.stoch_shape

    def gumbel(*shape: int) -> torch.Tensor:
        return -torch.empty(*shape, *categorical, device=device).exponential_(generator=generator).log()

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    z = torch.randn(1 + extra_starts, batch, config.latent_size, generator=generator, device=device)
    first = gumbel(1 + extra_starts, batch)
    at = uniform(extra_starts, batch)
    state = gumbel(steps - 1, batch)
    prior = gumbel(steps, batch)
    when = uniform(overshooting_runs, batch)
    return Noise(
        z,
        first,
        at,
        state,
        prior,
        when,
        gumbel(overshooting_steps, overshooting_runs * batch),
        uniform(batch),
    )


class Given(NamedTuple):
    """The K frames that each of N starts of B windows is read from: steps [K, N * B] and window [N * B] of a
    segment [L, B], each window's own first.
    """

    steps: torch.Tensor
    window: torch.Tensor


def given(segment: Segment, noise: Noise, k: int) -> Given:
    """A window's own start is at frame K - 1, further ones anywhere from there to its last frame."""
    length = segment.mask.sum(0)
    at = torch.cat([torch.full_like(length[None], k - 1), k - 1 + (noise.at * (length - k + 1)).long()])
    steps = at.flatten() - torch.arange(k - 1, -1, -1, device=at.device)[:, None]
    return Given(steps, torch.arange(at.shape[1], device=at.device).repeat(len(at)))


class Prediction(NamedTuple):
    """One teacher-forced pass over a window. n counts the frames that exist, in the order of mask [S, B].

    actions [S, B, A]: taken in states 0 .. S-1. states: those after the first corrected by their frames;
    their pictures are `frames`, black where there is none. prior: 1 .. S, not painted. frames [n, H, W, C] as
    decoded, neither clipped nor rounded, each on the real frame before, moved. moved [S, B, 2]: measured, on
    the way to states 0 .. S-1. foretold [S, B, 2]: by h, of the same. latent and start: of all starts
    `given`, [N * B, ...], each window's own first.
    """

    given: Given
    latent: Latent
    start: Start
    actions: torch.Tensor
    states: EnvState
    prior: EnvState
    outcome: Outcome
    frames: torch.Tensor
    moved: torch.Tensor
    foretold: torch.Tensor


def predict(model: WorldModel, segment: Segment, noise: Noise, agent: Policy) -> Prediction:
    """Runs a window [L, B] through the model along its recorded actions; frames that do not exist are neither
    read nor drawn. agent: the frozen agent.
    """
    k = model.config.num_initializing_steps
    batch = segment.mask.shape[1]
    steps, window = starts = given(segment, noise, k)
    embedded = model.encoder(segment.obs[segment.mask])
    embeddings = embedded.new_zeros(*segment.mask.shape, embedded.shape[-1]).masked_scatter(
        segment.mask[..., None], embedded
    )
    motion = estimate_motion(segment.obs).to(embeddings.dtype)
    latent = model.latent(
        embeddings[steps, window],
        motion[steps[:-1], window],
        agent_burn_in(agent, segment.obs[steps, window]),
    )
    start = model.start(latent.sample(noise.z.flatten(0, 1)), noise.first.flatten(0, 1), detach_agent=False)
    own = EnvState(*(part[:batch] for part in start.env))
    actions = model.action_weights(segment.action[k - 1 :])
    deter, ahead, states = model.rssm.observe(own, actions, embeddings[k - 1 :], motion[k - 1 :], noise.state)
    prior = model.rssm.prior(deter, ahead, noise.prior)
    mask = segment.mask[k - 1 :]
    later = segment.mask[k:]
    before = segment.obs[k - 1 : -1][later].to(embeddings.dtype) / 255
    on = model.decode_next(EnvState(*(part[1:][later] for part in states)), before).picture
    frames = torch.cat(
        [own.picture, on]
    )  # the first initialising frames of a window exist: its first simulated one does
    pictures = frames.new_zeros(*mask.shape, *frames.shape[1:]).masked_scatter(
        mask[..., None, None, None], frames
    )
    foretold = torch.cat([own.motion[None], ahead[:-1]])
    outcome = model.outcome(deter, ahead, segment.obs[k - 1 :].to(embeddings.dtype) / 255)
    return Prediction(
        starts,
        latent,
        start,
        actions,
        states._replace(picture=pictures),
        prior,
        outcome,
        frames,
        motion[k - 2 :],
        foretold,
    )


def loss_terms(
    model: WorldModel,
    segment: Segment,
    noise: Noise,
    agent: Policy,
    agent_windows: int | None = None,
    free_nats: float = 1.0,
    deterministic_rollout_steps: int = 0,
) -> dict[str, torch.Tensor]:
    """Every term of the loss as a scalar: means over existing steps or frames, and over windows for what a
    window has once.

    agent: the frozen agent. agent_windows: it is shown the decoded frames of the first so many windows only;
    the terms of its view are left out where these are none. deterministic_rollout_steps: the length of the blind runs. A step
    exists where segment.mask says so; it has a frame, an action and an outcome, so one mask serves all three.
    The KL compares states that have both a prior and a frame.
    """
    k = model.config.num_initializing_steps
    made = predict(model, segment, noise, agent)
    mask = segment.mask[k - 1 :]
    steps, window = made.given
    posterior = made.states.logits[1:]
    prior = made.prior.logits[:-1]
    obs = segment.obs[k - 1 :][mask]
    outcome = outcome_errors(
        model, made.outcome, segment.reward[k - 1 :], segment.terminated[k - 1 :], drawn_weight(segment)
    )
    error = squared_error(made.frames, obs)
    shown = segment.obs[steps[-1], window]
    first = squared_error(made.start.env.picture, shown)
    terms = {
        "recon": error.sum((1, 2)).mean(),
        "small_objects": (error * detail(obs)).sum((1, 2)).mean(),
        "start_recon": first.sum((1, 2)).mean(),
        "start_small_objects": (first * detail(shown)).sum((1, 2)).mean(),
        "self_conditioned_recon": self_conditioned_recon_loss(model, made, segment.obs[k - 1 :], mask),
        "motion": masked_mean(F.huber_loss(made.foretold, made.moved, reduction="none").sum(-1), mask),
        **{name: error[mask].mean() for name, error in outcome.items()},
        "kl_balanced": masked_mean(balanced_kl(posterior, prior, free_nats), mask[1:]),
        "kl": masked_mean(kl(posterior, prior), mask[1:]),
        "bottleneck": bottleneck(made.latent),
        "init_hidden": (made.start.hidden - segment.hidden[steps[-1], window]).square().sum(-1).mean(),
        "init_action": F.cross_entropy(made.start.action_logits, segment.action[steps[-2], window]),
    }
    terms |= overshooting_loss(model, made, segment.obs[k - 1 :], mask, noise) | deterministic_rollout_loss(
        model, made, segment, mask, noise, deterministic_rollout_steps
    )
    return terms if agent_windows == 0 else terms | agent_terms(agent, made.frames, segment, k, agent_windows)


def self_conditioned_recon_loss(
    model: WorldModel, made: Prediction, obs: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The error of frames painted on the model's own last picture, as in a simulation, in place of the real
    one; in the first half of the windows.

    What a painter makes of its own work it has to learn on it (scheduled sampling, Bengio et al. 2015). No
    gradient reaches the picture painted on.
    """
    again = mask[1:].clone()
    again[:, -(-mask.shape[1] // 2) :] = False
    states = EnvState(*(part[1:][again] for part in made.states))
    error = image_error(
        model.decode_next(states, made.states.picture[:-1][again].detach()).picture, obs[1:][again]
    )
    return error.sum() / again.sum().clamp(min=1)


def overshooting_loss(
    model: WorldModel, made: Prediction, obs: torch.Tensor, mask: torch.Tensor, noise: Noise
) -> dict[str, torch.Tensor]:
    """Runs of H steps along the recorded actions without a frame, from states that had seen theirs; none when
    noise has none.

    The priors are compared with the posteriors of the teacher-forced pass (latent overshooting, Hafner et al.
    2019); no gradient reaches those, nor the states that the runs begin from. The picture at step H is
    compared with the real one, without a gradient.
    """
    steps, (runs, batch) = len(noise.free), noise.when.shape
    if not steps * runs:
        return {}
    begin = (noise.when * (len(mask) - steps)).long()
    window = torch.arange(batch, device=mask.device)

    def later(x: torch.Tensor, by: int) -> torch.Tensor:
        return x[begin + by, window].flatten(0, 1)

    state = EnvState(*(later(part, 0).detach() for part in made.states))
    divergence = []
    exists = []
    for i in range(steps):
        state = model.step(state, later(made.actions, i), noise.free[i])
        divergence.append(kl(later(made.states.logits, i + 1).detach(), state.logits))
        exists.append(later(mask, i + 1))
    shown = exists[-1]
    error = image_error(state.picture.detach()[shown], later(obs, steps)[shown])
    return {
        "overshooting_kl": masked_mean(torch.stack(divergence), torch.stack(exists)),
        "overshooting_recon": error.sum() / shown.sum().clamp(min=1),
    }


def deterministic_rollout_loss(
    model: WorldModel, made: Prediction, segment: Segment, mask: torch.Tensor, noise: Noise, steps: int
) -> dict[str, torch.Tensor]:
    """Runs along the recorded actions in which no variable is drawn, each frame painted from h and the last
    picture; none for no steps.

    What h can know, where the picture moves to and what stays in it, it has to know here. What comes into
    view cannot be known; it is drawn as its mean, which harms no simulation, for there the draw says what is
    new, and its error counts NEW times. Half of the runs begin where the windows do. What comes of the
    actions is foretold there too: a hazard that touches in the model's own picture has to kill. The way that
    the picture has moved since the run began is compared with the measured one. No gradient of pictures or
    outcomes reaches the motion but through the map: it is far larger than that of the measured motion and
    nearly all noise, and drowned it.
    """
    if not steps:
        return {}
    begin = ((2 * noise.blind - 1).clamp(min=0) * (len(mask) - steps)).long()
    window = torch.arange(len(begin), device=mask.device)
    state = EnvState(*(part[begin, window] for part in made.states))
    painted = []
    there = []
    ran = []
    for i in range(steps):
        embedding = model.encoder(state.picture)
        action = made.actions[begin + i, window]
        deter, motion = model.rssm.core(state.deter, state.sample, state.motion, embedding, action)
        ran.append((deter, motion, state.picture))
        unseen = EnvState(deter, state.logits, torch.zeros_like(state.sample), motion.detach(), state.picture)
        state = model.decode_next(unseen, state.picture)
        painted.append(state.picture)
        there.append(mask[begin + i + 1, window])
    there, at = torch.stack(there), torch.arange(1, steps + 1, device=mask.device)[:, None] + begin
    since = len(segment.obs) - len(mask)
    obs = segment.obs[since:]
    acted = (at - 1 + since, window)
    deters, motions, before = (torch.stack(part) for part in zip(*ran))
    outcome = model.outcome(deters, motions.detach(), before)
    wrong = outcome_errors(
        model, outcome, segment.reward[acted], segment.terminated[acted], drawn_weight(segment)
    )
    error = squared_error(torch.stack(painted)[there], obs[at, window][there])
    weight = torch.where(in_view(made.moved[at, window], error.shape[1:])[there], 1.0, NEW)
    exists = mask[at - 1, window]
    off = F.huber_loss(motions.cumsum(0), made.moved[at, window].cumsum(0), reduction="none").sum(-1)
    return {
        "deterministic_recon": (error * weight).sum() / there.sum().clamp(min=1),
        "deterministic_motion": masked_mean(off, there),
        **{f"deterministic_{name}": masked_mean(each, exists) for name, each in wrong.items()},
    }


def agent_terms(
    agent: Policy, frames: torch.Tensor, segment: Segment, k: int, windows: int | None = None
) -> dict[str, torch.Tensor]:
    """The agent shown the decoded frames [n, H, W, C] of the existing steps, with the hidden state it really
    had before each.
    """
    exists = segment.mask[k - 1 :]
    kept = exists.clone()
    if windows is not None:
        kept[:, windows:] = False
    frames = frames[kept[exists]]
    came_with = torch.where(segment.first, 0.0, segment.reward.roll(1, 0))[
        k - 1 :
    ]  # the reward of the action before
    before, after, logits = (
        x[kept]
        for x in (segment.hidden[k - 1 : -1], segment.hidden_after()[k - 1 :], segment.logits[k - 1 :])
    )
    state = agent.advance(round_frames(frames), before, segment.first[k - 1 :][kept], came_with[kept])
    now_logits, value = agent.heads(state)
    now = torch.log_softmax(now_logits, -1)
    then = torch.log_softmax(logits, -1)
    terms = {
        "hx": (state - after).square().sum(-1).mean(),
        "act_log_probs": (then.exp() * (then - now)).sum(-1).mean(),
    }
    return (
        terms if value is None else terms | {"value": (value - segment.value[k - 1 :][kept]).square().mean()}
    )


def outcome_errors(
    model: WorldModel, outcome: Outcome, reward: torch.Tensor, ended: torch.Tensor, weight: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Cross-entropies [T, B] of foretold rewards and ends, in nats, against those that came: reward [T, B],
    ended [T, B] bool. weight [B]: of windows.

    What tells an end from a step that nearly was one is learned with every window counting the same, so from
    `uncalibrated_done_logit`: weighed back, the few windows that teach it would count for little. How likely
    ends are, `done`, is two numbers learned of that score with the weights.
    """
    ended = ended.to(outcome.uncalibrated_done_logit.dtype)
    recorded = model.calibrate_done(outcome.uncalibrated_done_logit.detach())
    return {
        "reward": weight
        * twohot.cross_entropy(outcome.reward_logits, reward.to(model.bins.dtype), model.bins),
        "done": weight * F.binary_cross_entropy_with_logits(recorded, ended, reduction="none"),
        "uncalibrated_done": F.binary_cross_entropy_with_logits(
            outcome.uncalibrated_done_logit, ended, reduction="none"
        ),
    }


def drawn_weight(segment: Segment) -> torch.Tensor:
    """What each window counts for [B], so that foretold outcomes are as likely as in the store: see
    `WindowSource`. 1 where it does not say.
    """
    return segment.extra.get("weight", torch.ones_like(segment.reward[0]))


def squared_error(frames: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """Squared error per pixel, summed over channels: [n, H, W, C] float in [0, 1] and uint8 -> [n, H, W]."""
    return (frames - obs.to(frames.dtype) / 255).square().sum(-1)


def image_error(frames: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """Squared error per frame, summed over pixels and channels: [n, H, W, C] float in [0, 1] and uint8 ->
    [n].
    """
    return squared_error(frames, obs).sum((1, 2))


def psnr(image: float, obs_shape: tuple[int, int, int]) -> float:
    """Peak signal-to-noise ratio in dB of a mean summed squared error per frame."""
    height, width, channels = obs_shape
    return -10 * torch.log10(torch.tensor(image / (height * width * channels))).item()


def bottleneck(latent: Latent) -> torch.Tensor:
    """What keeps random latents useful: the mean KL to N(0, I), or on the sphere how crowded the batch is
    there.
    """
    return (
        uniformity_loss(latent.mean) if latent.log_variance is None else kl_to_standard_normal(latent).mean()
    )


def kl_to_standard_normal(latent: Latent) -> torch.Tensor:
    """KL(q(z) || N(0, I)) in nats: [B]."""
    return 0.5 * (latent.mean.square() + latent.log_variance.exp() - 1 - latent.log_variance).sum(-1)


def uniformity_loss(points: torch.Tensor) -> torch.Tensor:
    """log mean exp(-2 |a - b|^2) over pairs of points [B, Z] of the unit sphere (Wang & Isola 2020): 0 where
    all are one, least when they are spread evenly. One point alone crowds nothing.
    """
    if len(points) < 2:
        return points.sum() * 0
    return torch.logsumexp(-2 * torch.pdist(points).square(), 0) - math.log(
        len(points) * (len(points) - 1) / 2
    )


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of x where mask is True; 0 where it is True nowhere."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def total_loss(terms: dict[str, torch.Tensor], scales: LossScales) -> torch.Tensor:
    """The weighted sum. Terms of weight 0 do not enter."""
    weighted = [
        getattr(scales, flag) * terms[name]
        for name, flag in SCALE_OF.items()
        if name in terms and getattr(scales, flag)
    ]
    return torch.stack(weighted).sum()
