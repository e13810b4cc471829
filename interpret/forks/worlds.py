"""Worlds with one face: forks of the real game, the simulator, and the game watched by the simulator. Each
plays fork points on and gives back a Segment.

All draw the agent's actions from the same keyed noise, so runs of one fork point in two worlds stay paired. In
all, extra["done_prob"] is the probability that an action ended the episode and extra["reward_prob"] that it
then had earned a reward; in forks of the game these are 0 or 1.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch

from common.policy import Policy
from common.policy import step as policy_step
from generative.model.motion import estimate_motion
from generative.simulator import NoiseKeys, Simulator
from interpret.forks.fork_points import ForkPoints
from rollouts.segment import Segment


class World(Protocol):
    """What can play on from fork points."""

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        """Plays B fork points on for `steps` steps. actions [steps, B]: taken in place of the agent's own."""


class RealWorld:
    """Forks in the real game. env: a VecEnv with restore, of the game that the fork points are from; its slots
    are used up.
    """

    def __init__(self, env, policy: Policy, device: torch.device | str = "cpu"):
        self.env = env
        self.policy = policy
        self.device = device

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        """Steps after an end are masked. B may not exceed the environment's slots."""
        return _segment(
            fork(self.env, self.policy, points, steps, keys, actions, self.device),
            self.env,
            self.policy,
            points,
            steps,
        )


class SimulatedWorld:
    """The simulator, which begins from the fork points' frames and from nothing else. Its episodes run on past
    their ends: what counts of them is done_prob (see `interpret.forks.world_comparison.events`).
    """

    def __init__(self, simulator: Simulator):
        self.simulator = simulator

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        with torch.no_grad():
            latent = self.simulator.encode(torch.from_numpy(points.frames).to(self._device))
            z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
        given = None if actions is None else torch.from_numpy(np.asarray(actions, np.int64)).to(self._device)
        return self.simulator.simulate(z, steps, keys, actions=given, ends=False).to("cpu")

    @property
    def _device(self) -> torch.device:
        return next(self.simulator.model.parameters()).device


class TeacherForcedWorld:
    """The real game, watched by the simulator, which is shown every frame and foretells what each action will
    bring. What it says of a thing in the picture then owes nothing to pictures of its own. Nothing is drawn:
    every variable of its state is the likeliest.
    """

    def __init__(self, real: RealWorld, simulator: Simulator):
        self.real = real
        self.simulator = simulator

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        segment = self.real.run(points, steps, keys, actions)
        segment.extra |= self._predicted_outcomes(torch.from_numpy(points.frames), segment)
        return segment

    @torch.no_grad()
    def _predicted_outcomes(self, first: torch.Tensor, segment: Segment) -> dict[str, torch.Tensor]:
        """done_prob and reward_prob [T, B] of the segment's actions, 0 after an end; first [K, B, H, W, C]:
        the frames up to its first.
        """
        model = self.simulator.model
        device = next(model.parameters()).device
        obs = segment.obs.to(device)
        start = model.start(self.simulator.encode(first.to(device)).mean).env
        motion = estimate_motion(obs).to(model.bins.dtype)
        taken = model.action_weights(segment.action.to(device))
        deter, ahead, _ = model.observe(start, taken, model.embed(obs), motion, [None] * len(motion))
        outcome = model.outcome(deter, ahead, obs.to(model.bins.dtype) / 255)
        found = {
            "done_prob": torch.sigmoid(outcome.done_logit),
            "reward_prob": model.reward_probability(outcome),
        }
        return {name: torch.where(segment.mask, x.float().cpu(), 0.0) for name, x in found.items()}


class ForkStep(NamedTuple):
    """One time step of those forks that still run: arrays [n, ...] over them. slot: which of the B fork points
    each one is.

    action [n], logits [n, A], value [n] (NaN without a value head), hidden [n, D] after the observation,
    log_prob [n]; reward, terminated, truncated and complete [n] of the action.
    """

    t: int
    slot: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    logits: torch.Tensor
    value: torch.Tensor
    hidden: torch.Tensor
    log_prob: torch.Tensor
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    complete: np.ndarray


def fork(
    env,
    policy: Policy,
    points: ForkPoints,
    steps: int,
    keys: NoiseKeys,
    actions: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[ForkStep]:
    """Restores the fork points into an environment's slots and plays each one on, to its end or for `steps`
    steps.

    keys: of the agent's noise. actions [S, B]: taken in the first S steps; after them, and without them, the
    agent acts for itself. It sees every frame either way. policy: one whose state is a tensor [B, D]. Raises
    ValueError for more fork points than slots.
    """
    count = len(points)
    if count > env.num:
        raise ValueError(f"{count} fork points do not fit into {env.num} environments: give fewer at a time")
    env.restore(points.snapshots, range(count))
    obs = env.observe()[1]
    state = points.hidden.to(device)
    slot = np.arange(count)
    reward = np.zeros(count, np.float32)
    for t in range(steps):
        noise = keys.gumbel(0, t, (env.num_actions,), torch.zeros(1, device=device))[slot]
        with torch.inference_mode():
            seen = torch.from_numpy(obs[slot]).to(device)
            earned = torch.from_numpy(reward).to(device)
            taken = policy_step(
                policy, seen, state, torch.zeros(len(slot), dtype=torch.bool, device=device), earned, noise
            )
            chosen = (
                taken.action
                if actions is None or t >= len(actions)
                else torch.as_tensor(actions[t], device=device)[slot]
            )
            log_prob = policy.log_prob(taken.logits, chosen)
        action = np.full(env.num, env.noop)
        action[slot] = chosen.cpu().numpy()
        shown = obs[slot]
        env.act(action)
        came, obs, _ = env.observe()
        info = env.info()
        outcome = {name: info[name][slot] for name in ("terminated", "truncated", "level_complete")}
        value = torch.full((len(slot),), torch.nan) if taken.value is None else taken.value
        yield ForkStep(
            t,
            slot,
            shown,
            action[slot],
            taken.logits,
            value,
            policy.hidden(taken.state),
            log_prob,
            came[slot],
            *outcome.values(),
        )
        going = ~(outcome["terminated"] | outcome["truncated"])
        slot, state, reward = (
            slot[going],
            taken.state[torch.from_numpy(going).to(device)],
            came[slot[going]].astype(np.float32),
        )
        if not len(slot):
            return


def run_in_batches(
    world: World,
    points: ForkPoints,
    steps: int,
    seed: int,
    draws: int,
    batch: int,
    keep: Callable[[Segment], dict],
    actions=None,
    bar=None,
) -> dict[str, np.ndarray]:
    """Plays every fork point on `draws` times and keeps `keep(segment)`, arrays [T, B, ...]; returns them as [T,
    fork points, draws, ...].

    Draw d of a fork point has the same noise in any world. batch: how many forks run at a time. actions [T,
    fork points]: taken in all of a fork point's forks.
    """
    index, draw = (x.ravel() for x in np.meshgrid(np.arange(len(points)), np.arange(draws), indexing="ij"))
    parts = []
    for at in range(0, len(index), batch):
        here = index[at : at + batch]
        which = draw[at : at + batch]
        some = points.take(here)
        parts.append(
            keep(
                world.run(some, steps, some.keys(seed, which), None if actions is None else actions[:, here])
            )
        )
        if bar is not None:
            bar.update(len(here))
    whole = {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}
    return {name: x.reshape(len(x), len(points), draws, *x.shape[2:]) for name, x in whole.items()}


def _segment(steps: Iterator[ForkStep], env, policy: Policy, points: ForkPoints, length: int) -> Segment:
    """Forks as a Segment: [T, B, ...], blank after an end."""
    shape = (length, len(points))
    start = policy.hidden(points.hidden)
    false = torch.zeros(shape, dtype=torch.bool)
    out = {name: torch.zeros(shape) for name in ("reward", "value", "log_prob", "done_prob", "reward_prob")}
    out |= {name: false.clone() for name in ("terminated", "truncated", "mask")}
    out |= {
        "action": torch.full(shape, env.noop),
        "obs": torch.zeros(*shape, *env.obs_shape, dtype=torch.uint8),
    }
    out |= {"logits": torch.zeros(*shape, env.num_actions), "hidden": torch.zeros(length + 1, *start.shape)}
    out["hidden"][0] = start
    for now in steps:
        at = now.t
        slot = torch.from_numpy(now.slot)
        for name in ("obs", "action", "logits", "value", "log_prob", "reward", "terminated", "truncated"):
            out[name][at, slot] = torch.as_tensor(getattr(now, name)).cpu().to(out[name].dtype)
        out["hidden"][at + 1, slot] = now.hidden.cpu()
        out["mask"][at, slot] = True
        out["done_prob"][at, slot] = torch.from_numpy(now.terminated.astype(np.float32))
        out["reward_prob"][at, slot] = torch.from_numpy(now.complete.astype(np.float32))
    extra = {name: out.pop(name) for name in ("done_prob", "reward_prob")}
    where = {
        "episode": torch.from_numpy(points.episode.copy()),
        "start": torch.from_numpy(points.step.copy()),
    }
    return Segment(first=false, extra=extra, **where, **out)
