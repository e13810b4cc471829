"""Recorded moments, seen as a simulation sees its start: q(z) of the first frames, what the agent did in the
real game from there on, and the nearest moment to a simulated one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from common.errors import UsageError
from common.words import counted
from generative.model.world_model import Latent, WorldModel
from generative.simulator import Simulator
from interpret.attribution.trace import Trace, recorded_trace
from interpret.targets.latent_prior import Prior, SphericalPrior, recorded_prior, standard_prior
from interpret.targets.target_rollouts import Reading
from interpret.targets.targets import Target
from rollouts.segment import Segment
from rollouts.store import Rollouts
from rollouts.windows import Windows

REFERENCE = 500
"""Recorded moments whose own nearest neighbours say how near two moments usually are."""
_TRACED = ("hidden", "logits", "value")


@dataclass(frozen=True)
class RecordedMoments:
    """M moments; a moment is the recorded frame at which a simulation from its latent begins.

    episode, step, level [M]. latent: q(z) of the frames up to the moment, [M, Z]. trace: the agent on the T
    recorded frames from the moment on; length [M] says how many of them the episode has.
    """

    episode: np.ndarray
    step: np.ndarray
    level: np.ndarray
    latent: Latent
    trace: Trace
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.level)

    def values(self, target: Target, reading: Reading) -> np.ndarray | None:
        """The function on the real frames [M], read as in a simulation; NaN where the episode has ended by
        then. None for functions that only the simulator predicts.
        """
        if target.function.needs_simulator:
            return None
        values = target.function.compute(self.trace)[: len(self.trace.value)]
        ahead = len(self.trace.value) - len(values)  # frames that a value needs beyond its own
        if reading.step == "sum":
            read, needed = values[: reading.steps - ahead].sum(0), reading.steps
        else:
            read, needed = values[reading.step], reading.step + 1 + ahead
        return np.where(self.length >= needed, read.detach().cpu().numpy(), np.nan)

    def hidden_at(self, reading: Reading) -> np.ndarray:
        """The agent's hidden state after the last frame that is read [M, D]; NaN after the end."""
        hidden = self.trace.hidden[reading.last + 1].cpu().numpy()
        return np.where((self.length > reading.last)[:, None], hidden, np.nan)


def moment_windows(windows: Windows, count: int, seed: int) -> Windows:
    """`count` of the windows, drawn at random; all where there are fewer."""
    order = np.random.default_rng([seed, 31]).permutation(len(windows))[:count]
    return Windows(windows.rollouts, windows.length, windows.table[np.sort(order)])


def recorded_windows(rollouts: Rollouts, model: WorldModel, steps: int, count: int, seed: int) -> Windows:
    """Windows of `count` recorded moments with up to `steps` frames from each on, drawn at random; those near
    the end of their episode are among them. Raises UsageError if no episode is long enough to encode.
    """
    k = model.config.num_initializing_steps
    windows = rollouts.windows(k - 1 + steps, anchor="start", pad="right", min_steps=k)
    if not len(windows):
        raise UsageError(f"{rollouts.path} has no episode of {counted(k, 'step')}; give another --data_dir")
    return moment_windows(windows, count, seed)


def make_prior(kind: str, moments: RecordedMoments, model: WorldModel, seed: int) -> Prior:
    """The prior by its name, "recorded" or "standard"; on the sphere there is only the uniform one."""
    if model.spherical:
        return SphericalPrior()
    latent, split = moments.latent, model.config.latent_global
    if kind == "standard":
        return standard_prior(latent.mean.shape[1], split, seed).to(latent.mean.device)
    return recorded_prior(latent.mean, latent.log_variance, moments.level, split, seed)


def read_moments(
    simulator: Simulator,
    windows: Windows,
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], object] = lambda count: None,
) -> RecordedMoments:
    """Encodes and traces moments.

    Args:
        simulator: encodes; its agent is traced.
        windows: of K - 1 + T frames, the K-th of which is the moment.
        batch_size: windows at a time.
        device: of the simulator.
        advance: called with the number of windows that were just finished.
    """
    k = simulator.model.config.num_initializing_steps
    parts: dict[str, list] = {name: [] for name in ("mean", "log_variance", "taken", "length", *_TRACED)}
    for begin in range(0, len(windows), batch_size):
        segment = windows.batch(np.arange(begin, min(begin + batch_size, len(windows)))).to(device)
        with torch.no_grad():
            latent = simulator.encode(segment.obs[:k])
        seen = tail(segment, k - 1)
        trace = recorded_trace(simulator.agent, seen, grad_steps=0)
        parts["mean"].append(latent.mean)
        parts["log_variance"].append(latent.log_variance)
        parts["taken"].append(trace.taken)
        parts["length"].append(seen.mask.sum(0).cpu().numpy())
        for name in _TRACED:
            parts[name].append([x.detach() for x in getattr(trace, name)])
        advance(segment.mask.shape[1])
    episode, start = windows.table.T
    log_variance = None if parts["log_variance"][0] is None else torch.cat(parts["log_variance"])
    return RecordedMoments(
        episode,
        start + k - 1,
        windows.rollouts.episodes["level_seed"][episode],
        Latent(torch.cat(parts["mean"]), log_variance),
        Trace([], actions=[], taken=torch.cat(parts["taken"], 1), **_steps(parts)),
        np.concatenate(parts["length"]),
    )


def _steps(parts: dict[str, list]) -> dict[str, list[torch.Tensor]]:
    """Traced tensors, step by step, of all batches."""
    return {name: [torch.cat(batches) for batches in zip(*parts[name])] for name in _TRACED}


def tail(segment: Segment, begin: int) -> Segment:
    """The steps of a segment from `begin` on."""
    steps = ("obs", "action", "reward", "terminated", "truncated", "first", "mask", "value", "logits")
    cut = {name: getattr(segment, name)[begin:] for name in (*steps, "log_prob", "hidden")}
    return replace(segment, **cut, start=segment.start + begin, extra={})


class Matches(NamedTuple):
    """The nearest recorded moment of each of N simulated ones, [N] each.

    percentile: share, in percent, of recorded moments that are nearer to their own nearest moment of another
    level. 95 and less is as near as recorded moments are to each other.
    """

    moment: np.ndarray
    distance: np.ndarray
    percentile: np.ndarray


def nearest_states(hidden: np.ndarray, levels: np.ndarray, states: np.ndarray, own: np.ndarray) -> Matches:
    """Matches of hidden states [N, D] in standardised units.

    Args:
        hidden: of the simulated moments.
        levels: that each of them may not be matched with, because its latent began there; -1 for none [N].
        states: of the recorded moments [M, D]; NaN where there is none.
        own: level of each recorded moment [M].
    """
    known = np.flatnonzero(np.isfinite(states).all(1))
    mean, std = states[known].mean(0), states[known].std(0) + 1e-6
    clouds = [((x - mean) / std).astype(np.float64) for x in (hidden, states[known])]
    return _nearest(clouds[0], levels, clouds[1], own[known], _euclidean, known)


def nearest_latents(z: np.ndarray, levels: np.ndarray, latent: Latent, own: np.ndarray, seed: int) -> Matches:
    """Matches of latents [N, Z] with the moment of whose q(z) they are most likely a sample.

    Arguments as in `nearest_states`; the distance is -log q(z | moment), up to a constant, in nats. On the
    sphere it is the Euclidean distance.
    """
    mean = latent.mean.double().cpu().numpy()
    every = np.arange(len(mean))
    if latent.log_variance is None:
        return _nearest(z.astype(np.float64), levels, mean, own, _euclidean, every)
    variance = latent.log_variance.double().exp().cpu().numpy()
    offset = np.log(variance).sum(1) / 2
    noise = np.random.default_rng([seed, 37]).standard_normal(mean.shape)

    def negative_log_density(points: np.ndarray, _: np.ndarray) -> np.ndarray:
        square = points**2 @ (1 / variance).T - 2 * points @ (mean / variance).T + (mean**2 / variance).sum(1)
        return square / 2 + offset

    sampled = mean + np.sqrt(variance) * noise
    return _nearest(z.astype(np.float64), levels, sampled, own, negative_log_density, every)


def _nearest(points, levels, cloud, own, distance, numbers) -> Matches:
    """Matches of points [N, D] in a cloud [M, D] with these numbers [M], and how near its own members are."""
    found = [_other_levels(part, mine, cloud, own, distance) for part, mine in _blocks(points, levels)]
    usual = [_other_levels(part, mine, cloud, own, distance) for part, mine in _blocks(cloud, own, REFERENCE)]
    place, near = (np.concatenate(part) for part in zip(*found))
    reference = np.sort(np.concatenate([distances for _, distances in usual]))
    below = np.searchsorted(reference, near, side="left")
    return Matches(numbers[place], near, 100 * below / len(reference))


def _other_levels(points, levels, cloud, own, distance) -> tuple[np.ndarray, np.ndarray]:
    """Place in the cloud of the nearest point of another level, and its distance."""
    distances = np.where(levels[:, None] == own, np.inf, distance(points, cloud))
    place = distances.argmin(1)
    return place, distances[np.arange(len(points)), place]


def _blocks(points: np.ndarray, levels: np.ndarray, most: int | None = None) -> Iterator[tuple]:
    """Points and levels, in blocks that keep distance tables small; `most` of them, evenly spread."""
    count = len(points)
    rows = np.arange(count) if most is None else np.unique(np.linspace(0, count - 1, most).astype(int))
    for at in range(0, len(rows), 256):
        yield points[rows[at : at + 256]], levels[rows[at : at + 256]]


def _euclidean(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    square = (points**2).sum(1)[:, None] + (cloud**2).sum(1) - 2 * points @ cloud.T
    return np.sqrt(np.maximum(square, 0))
