"""A simulator's predictions of recorded windows under two protocols that are never mixed.

Open loop: the simulator sees the first K frames and follows the recorded actions, which may reveal what
comes.
Teacher-forced: each state is corrected by its frame before the next one is predicted; `posterior` frames are
decoded after the correction.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from generative.model.frames import frames_to_bytes
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.training.data import seeded_generator
from generative.training.teacher_forcing import draw_noise, predict
from rollouts.segment import Segment


class TeacherForced(NamedTuple):
    """Teacher-forced predictions of windows; frames [S, B, H, W, C] uint8, black where there is no step."""

    posterior: torch.Tensor
    """Frames decoded from states that have seen them."""
    one_step: torch.Tensor
    """Frames predicted from all frames before them; one_step[0] is posterior[0]."""
    done_prob: torch.Tensor
    """[S, B]: probability that the step's action ends the episode."""
    reward_prob: torch.Tensor
    """[S, B]: probability that the step's action is rewarded."""
    motion: torch.Tensor
    """[S, B, 2]: pixels, down and right, by which the picture moves on the way to each step's frame,
    predicted from states that have seen the true frames before it; of the first frame, the start's own."""


@torch.no_grad()
def open_loop(
    simulator: Simulator,
    segment: Segment,
    seed: int = 0,
    actions: torch.Tensor | None = None,
    use_mode: bool = False,
) -> Segment:
    """One rollout of S steps from the first K frames of windows, continued past predicted ends.

    Args:
        simulator: the world model with its agent.
        segment: windows [L, B].
        seed: of the noise, which is keyed by seed, episode and start, and so the same in any batch.
        actions: [S, B], instead of the recorded ones.
        use_mode: take the mode of every distribution instead of sampling.
    """
    k = simulator.model.config.num_initializing_steps
    keys = NoiseKeys(seed, segment.episode.cpu().numpy(), 0, segment.start.cpu().numpy())
    latent = simulator.encode(segment.obs[:k])
    z = latent.sample(None if use_mode else keys.normal(latent.mean.shape[1], latent.mean))
    actions = segment.action[k - 1 :] if actions is None else actions
    return simulator.simulate(z, len(actions), keys, actions=actions, use_mode=use_mode, ends=False)


@torch.no_grad()
def teacher_forced(simulator: Simulator, segment: Segment, seed: int = 0) -> TeacherForced:
    """Predictions of windows [L, B] by a forward pass in which every state sees its frame."""
    model = simulator.model
    k = model.config.num_initializing_steps
    steps = len(segment.mask) - k + 1
    noise = draw_noise(model.config, steps, segment.mask.shape[1], seeded_generator(segment.obs.device, seed))
    predicted = predict(model, segment, simulator.agent, noise.z, list(noise.tiles))
    exists = segment.mask[k - 1 :, :, None, None, None]
    outcome = model.outcome(predicted.outcome)
    return TeacherForced(
        frames_to_bytes(predicted.posterior) * exists,
        frames_to_bytes(predicted.one_step) * exists,
        torch.sigmoid(outcome.done_logit),
        model.reward_probability(outcome),
        predicted.motion,
    )


def other_actions(actions: torch.Tensor, effect_classes: Sequence[int], seed: int = 0) -> torch.Tensor:
    """For each recorded action, one drawn uniformly from the actions with another effect; any shape."""
    effects = torch.as_tensor(effect_classes, device=actions.device)
    candidates = (effects[actions][..., None] != effects).float()
    generator = seeded_generator(torch.device("cpu"), seed)
    drawn = torch.multinomial(candidates.flatten(0, -2).cpu(), 1, generator=generator)
    return drawn.to(actions.device).reshape(actions.shape)
