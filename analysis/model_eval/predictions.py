"""What a simulator makes of recorded windows, under two protocols that are never mixed.

Open loop: it sees the first K frames and follows the recorded actions, which may betray what comes.
Teacher-forced: each state is corrected by its frame before the next is predicted; `posterior` frames are
drawn after the correction.
"""

from typing import NamedTuple

import torch

from generative.model.frames import frames_to_bytes
from generative.model.rssm import EnvState
from generative.simulator import NoiseKeys, Simulator
from generative.training.data import seeded_generator
from generative.training.teacher_forcing import draw_noise, predict
from rollouts.segment import Segment


class TeacherForced(NamedTuple):
    """Frames [S, B, H, W, C] uint8, black where there is no step, and the outcome of each step's action, [S,
    B].

    posterior: of states that have seen them. one_step[s]: predicted from all frames before it (one_step[0] is
    posterior[0]).
    """

    posterior: torch.Tensor
    one_step: torch.Tensor
    done_prob: torch.Tensor
    reward_prob: torch.Tensor


@torch.no_grad()
def open_loop(
    simulator: Simulator,
    segment: Segment,
    seed: int = 0,
    actions: torch.Tensor | None = None,
    modal: bool = False,
) -> Segment:
    """One rollout from the first K frames of windows [L, B] along the recorded actions, or others [S, B],
    whatever ends: S steps.

    A window's noise is keyed by seed, episode and start, so it is the same in any batch; modal: the likeliest
    throughout.
    """
    k = simulator.model.config.num_initializing_steps
    keys = NoiseKeys(seed, segment.episode.cpu().numpy(), 0, segment.start.cpu().numpy())
    latent = simulator.encode(segment.obs[:k])
    z = latent.sample(None if modal else keys.normal(latent.mean.shape[1], latent.mean))
    actions = segment.action[k - 1 :] if actions is None else actions
    return simulator.simulate(z, len(actions), keys, actions=actions, modal=modal, ends=False)


@torch.no_grad()
def teacher_forced(simulator: Simulator, segment: Segment, seed: int = 0) -> TeacherForced:
    """One pass over windows [L, B] in which every state sees its frame."""
    model = simulator.model
    device = segment.obs.device
    k = model.config.num_initializing_steps
    mask = segment.mask[k - 1 :]
    noise = draw_noise(model.config, *mask.shape, seeded_generator(device, seed))
    made = predict(model, segment, noise, simulator.agent)
    posterior = torch.zeros_like(segment.obs[k - 1 :])
    posterior[mask] = frames_to_bytes(made.frames)
    one_step = posterior.clone()
    later = mask[1:]
    before = segment.obs[k - 1 : -1][later].to(made.frames.dtype) / 255
    one_step[1:][later] = frames_to_bytes(
        model.decode_next(EnvState(*(part[:-1][later] for part in made.prior)), before).frame
    )
    return TeacherForced(
        posterior, one_step, torch.sigmoid(made.outcome.done_logit), model.reward_probability(made.outcome)
    )


def other_actions(actions: torch.Tensor, effect_classes, seed: int = 0) -> torch.Tensor:
    """For each recorded action one drawn uniformly from those of another effect; any shape."""
    effects = torch.as_tensor(effect_classes, device=actions.device)
    other = (effects[actions][..., None] != effects).float()
    drawn = torch.multinomial(
        other.flatten(0, -2).cpu(), 1, generator=seeded_generator(torch.device("cpu"), seed)
    )
    return drawn.to(actions.device).reshape(actions.shape)
