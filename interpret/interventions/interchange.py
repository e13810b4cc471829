"""Interchange patching (Vig et al. 2020, Geiger et al. 2021): which activation carries an object into a
decision?

An agent watches the same scenes twice from the same memory: clean, with an object, and corrupt, without it.
In the corrupt run one activation at one step is replaced by its value from the clean run. How much of the
difference between the runs in what the agent decides at the last step does that restore?
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from common.runs import UsageError
from common.stats import ratio
from interpret.directions.directions import Directions

STATE = "state"
ENCODER = "encoder"
CHANNEL = "channel"
DIRECTION = "direction"


class Site(NamedTuple):
    """What is patched: the whole recurrent state, the encoder's output, one channel of its last stage, or the
    state along one direction.
    """

    kind: str
    index: int = 0

    def label(self, directions: Directions | None = None) -> str:
        """The site in words."""
        if self.kind == DIRECTION:
            return directions.names[self.index] if directions else f"direction {self.index}"
        return f"channel {self.index}" if self.kind == CHANNEL else self.kind


def site_of(name: str, directions: Directions | None = None) -> Site:
    """The site of a name: state, encoder, a channel such as "channel 3", or a direction's name. Raises
    UsageError for an unknown one.
    """
    kind, _, number = name.partition(" ")
    if name in (STATE, ENCODER):
        return Site(name)
    if kind == CHANNEL and number.isdecimal():
        return Site(CHANNEL, int(number))
    if directions is None:
        raise UsageError(
            f"no site {name!r}: take state, encoder, a channel such as 'channel 3', or give directions"
        )
    return Site(DIRECTION, directions.index(name))


class Activations(NamedTuple):
    """What an agent computes from K frames of B scenes: maps [K, B, C, h, w] of the encoder's last stage, its
    features [K, B, F], and the states [K, B, D] after each frame.
    """

    maps: torch.Tensor
    features: torch.Tensor
    states: torch.Tensor


@torch.no_grad()
def record_activations(agent: ActorCritic, frames: torch.Tensor, hidden: torch.Tensor) -> Activations:
    """The agent's activations while it watches frames [K, B, H, W, C] from states `hidden` [B, D]."""
    maps = torch.stack([agent.encoder.maps(frame) for frame in frames])
    features = torch.stack([agent.encoder.features_of(one) for one in maps])
    not_first = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
    return Activations(maps, features, agent.core.unroll(features, hidden, not_first))


def all_sites(activations: Activations, directions: Directions | None) -> list[Site]:
    """The state, the encoder, every direction and every channel."""
    named = [Site(DIRECTION, i) for i in range(len(directions) if directions else 0)]
    channels = [Site(CHANNEL, i) for i in range(activations.maps.shape[2])]
    return [Site(STATE), Site(ENCODER), *named, *channels]


@torch.no_grad()
def patched_state(
    agent: ActorCritic,
    corrupt: Activations,
    clean: Activations,
    hidden: torch.Tensor,
    site: Site,
    step: int,
    directions: Directions | None = None,
) -> torch.Tensor:
    """The last states [B, D] of the corrupt run with one site at one step as in the clean run.

    Args:
        agent: the agent.
        corrupt: of the run that is patched.
        clean: of the run that patches come from, scene by scene.
        hidden: [B, D], before the first frame.
        site: what is patched.
        step: 0 to K - 1, when.
        directions: of the hidden state, for sites along them.

    Raises:
        UsageError: no such step or site.
    """
    count = len(corrupt.states)
    if not 0 <= step < count:
        raise UsageError(f"there is no step {step}: the scenes have steps 0 to {count - 1}")
    before = corrupt.states[step - 1] if step else hidden
    state = _patched_at(agent, corrupt, clean, before, site, step, directions)
    not_first = torch.zeros(len(state), dtype=torch.bool, device=state.device)
    for features in corrupt.features[step + 1 :]:
        state = agent.core.step(features, state, not_first)
    return state


def _patched_at(agent, corrupt, clean, before, site: Site, step: int, directions) -> torch.Tensor:
    """The corrupt run's states [B, D] after `step`, patched there."""
    if site.kind == STATE:
        return clean.states[step]
    if site.kind == DIRECTION:
        if directions is None:
            raise UsageError("a site along a direction needs directions: give a file of them")
        return with_score_of(corrupt.states[step], clean.states[step], directions, site.index)
    features = clean.features[step]
    if site.kind == CHANNEL:
        if site.index >= corrupt.maps.shape[2]:
            raise UsageError(f"no channel {site.index}: the encoder's last stage has {corrupt.maps.shape[2]}")
        maps = corrupt.maps[step].clone()
        maps[:, site.index] = clean.maps[step][:, site.index]
        features = agent.encoder.features_of(maps)
    elif site.kind != ENCODER:
        kinds = ", ".join((STATE, ENCODER, CHANNEL, DIRECTION))
        raise UsageError(f"there is no site {site.kind!r}: choose one of {kinds}")
    not_first = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    return agent.core.step(features, before, not_first)


def with_score_of(x: torch.Tensor, other: torch.Tensor, directions: Directions, index: int) -> torch.Tensor:
    """States x [B, D] moved along the written direction until its score is that of `other` [B, D]."""
    read, write = directions.read[index].to(x.device), directions.write[:, index].to(x.device)
    change = (other - x).double() @ read / (read @ write)
    return (x.double() + change[:, None] * write).to(x.dtype)


def decisions(agent: ActorCritic, state: torch.Tensor, jumps: Sequence[int]) -> dict[str, np.ndarray]:
    """Decisions [B] in states [B, D]: the log-odds of the actions `jumps`, and the value."""
    with torch.no_grad():
        logits, value = agent.heads(state)
    log_probs = torch.log_softmax(logits.double(), -1)
    chosen = torch.zeros(logits.shape[-1], dtype=torch.bool)
    chosen[list(jumps)] = True
    odds = log_probs[:, chosen].logsumexp(-1) - log_probs[:, ~chosen].logsumexp(-1)
    return {"jump": odds.cpu().numpy(), "value": value.double().cpu().numpy()}


def recovered(change: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share [R] of the difference between the runs that patching restores: the slope, through zero, of the
    change that the patch makes on the whole difference, over scenes. 1: all of it; 0: nothing that has to do
    with it. NaN if there is no difference.

    Args:
        change: [B], patched less unpatched. Of a patch from other scenes: patched from their clean run less
            patched from their corrupt run, so that what the object adds there is what counts.
        whole: [B], clean less corrupt.
        weights: [R, B].
    """
    return ratio(weights, change * whole, whole**2)


def of_scenes(activations: Activations, index: np.ndarray) -> Activations:
    """The activations of scenes `index` [B], which may repeat: donors for other scenes."""
    return Activations(*(x[:, index] for x in activations))
