"""Worlds with one interface: forks of the real game, the simulator, and the real game as the simulator
predicts it.

All draw the agent's actions from the same keyed noise, so runs from one fork point in two worlds stay paired.
In all, extra["done_prob"] is the probability that an action ended the episode and extra["reward_prob"] the
probability that it then earned a reward; in the real game these are 0 or 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch

from common.policy import Policy
from common.policy import step as policy_step
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.training.teacher_forcing import predict
from interpret.forks.fork_points import ForkPoints
from rollouts.segment import Segment


class World(Protocol):
    """A world that can play on from fork points."""

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        """Plays B fork points on for up to `steps` steps.

        Args:
            points: B fork points.
            steps: T.
            keys: of the noise.
            actions: [T, B], taken in place of the agent's own.
        """


class RealWorld:
    """Forks of the real game.

    Args:
        env: a VecEnv with `restore`, of the game the points are from; its slots are overwritten.
        policy: acts.
        device: of the policy.
    """

    def __init__(self, env, policy: Policy, device: torch.device | str = "cpu"):
        self.env = env
        self.policy = policy
        self.device = device

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        """See `World.run`. Steps after an end are masked. B may not exceed the environment's slots."""
        return _segment(
            fork(self.env, self.policy, points, steps, keys, actions, self.device),
            self.env,
            self.policy,
            points,
            steps,
        )


class SimulatedWorld:
    """The simulator, started from the fork points' frames alone.

    Its runs continue past their ends: done_prob says how much of them counts
    (`world_comparison.survival_weight`). policy: acts instead of the simulator's agent.
    """

    def __init__(self, simulator: Simulator, policy: Policy | None = None):
        self.simulator = simulator
        self.policy = policy

    def run(
        self, points: ForkPoints, steps: int, keys: NoiseKeys, actions: np.ndarray | None = None
    ) -> Segment:
        with torch.no_grad():
            latent = self.simulator.encode(torch.from_numpy(points.frames).to(self._device))
            z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
        given = None if actions is None else torch.from_numpy(np.asarray(actions, np.int64)).to(self._device)
        played = self.simulator.simulate(z, steps, keys, policy=self.policy, actions=given, ends=False)
        return played.to("cpu")

    @property
    def _device(self) -> torch.device:
        return next(self.simulator.model.parameters()).device


class TeacherForcedWorld:
    """The real game, with outcomes predicted by the simulator while it is shown every real frame (teacher
    forcing).

    Its predictions do not depend on frames of its own. It samples nothing: every variable takes its mode.
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
        """done_prob and reward_prob [T, B] of the segment's actions, 0 after an end.

        first: [K, B, H, W, C], the frames up to the segment's first.
        """
        model = self.simulator.model
        device = next(model.parameters()).device
        window = _with_frames_before(segment, first[:-1]).to(device)
        modes = [None] * len(segment.mask)
        predicted = predict(model, window, self.simulator.agent, None, modes)
        outcome = model.outcome(predicted.outcome)
        outcomes = {
            "done_prob": torch.sigmoid(outcome.done_logit),
            "reward_prob": model.reward_probability(outcome),
        }
        return {name: torch.where(segment.mask, x.float().cpu(), 0.0) for name, x in outcomes.items()}


def _with_frames_before(segment: Segment, earlier: torch.Tensor) -> Segment:
    """The window that also holds the frames [K - 1, B, H, W, C] before a segment, for `predict`; other
    columns than obs, action and mask stay those of the segment.
    """
    lead = earlier.shape[:2]
    return replace(
        segment,
        obs=torch.cat([earlier, segment.obs]),
        action=torch.cat([segment.action.new_zeros(lead), segment.action]),
        mask=torch.cat([segment.mask.new_ones(lead), segment.mask]),
    )


class ForkStep(NamedTuple):
    """One time step of the n forks that still run."""

    t: int
    slot: np.ndarray
    """[n]: which of the B fork points each fork belongs to."""
    obs: np.ndarray
    action: np.ndarray
    logits: torch.Tensor
    """[n, A]."""
    value: torch.Tensor
    """[n], NaN without a value head."""
    hidden: torch.Tensor
    """[n, D], after the observation."""
    log_prob: torch.Tensor
    """[n], of the action."""
    reward: np.ndarray
    """[n], of the action, as `terminated`, `truncated` and `complete` (level completed) are."""
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
    """Restores fork points into an environment's slots and plays each to its end, or for `steps` steps.

    Args:
        env: a VecEnv with `restore` and at least B slots.
        policy: acts; its state is a tensor [B, D].
        points: B fork points.
        steps: the most steps played.
        keys: of the agent's action noise.
        actions: [S, B], taken in the first S steps; afterwards, and by default, the agent acts itself. It
            sees every frame either way.
        device: of the policy.

    Yields:
        A ForkStep for each time step.

    Raises:
        ValueError: if there are more fork points than slots.
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
        frames = obs[slot]
        env.act(action)
        rewards, obs, _ = env.observe()
        info = env.info()
        outcome = {name: info[name][slot] for name in ("terminated", "truncated", "level_complete")}
        value = torch.full((len(slot),), torch.nan) if taken.value is None else taken.value
        yield ForkStep(
            t,
            slot,
            frames,
            action[slot],
            taken.logits,
            value,
            policy.hidden(taken.state),
            log_prob,
            rewards[slot],
            *outcome.values(),
        )
        running = ~(outcome["terminated"] | outcome["truncated"])
        slot, state, reward = (
            slot[running],
            taken.state[torch.from_numpy(running).to(device)],
            rewards[slot[running]].astype(np.float32),
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
    """Plays every fork point on `draws` times; draw d of a point has the same noise in every world.

    Args:
        world: plays.
        points: M fork points.
        steps: T.
        seed: of the noise.
        draws: D, runs per fork point.
        batch: runs at a time.
        keep: what is kept of a Segment: {name: [T, B, ...]}.
        actions: [T, M], taken in all runs of a point.
        bar: a progress bar, updated by runs.

    Returns:
        {name: [T, M, D, ...]}.
    """
    index, draw = (x.ravel() for x in np.meshgrid(np.arange(len(points)), np.arange(draws), indexing="ij"))
    parts = []
    for at in range(0, len(index), batch):
        rows = index[at : at + batch]
        draws_here = draw[at : at + batch]
        batch_points = points.take(rows)
        parts.append(
            keep(
                world.run(
                    batch_points,
                    steps,
                    batch_points.keys(seed, draws_here),
                    None if actions is None else actions[:, rows],
                )
            )
        )
        if bar is not None:
            bar.update(len(rows))
    whole = {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}
    return {name: x.reshape(len(x), len(points), draws, *x.shape[2:]) for name, x in whole.items()}


def _segment(steps: Iterator[ForkStep], env, policy: Policy, points: ForkPoints, length: int) -> Segment:
    """Fork steps as a Segment [T, B, ...], blank after an end."""
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
