"""The simulator as an environment with the same protocol as the game (envs/vecenv.py)."""

from dataclasses import dataclass

import numpy as np
import torch

from common.noise import uniform_noise
from envs.procgen_state import BadState
from envs.vecenv import ActionSpace
from generative.model.frames import frames_to_bytes
from generative.model.state import EnvState
from generative.model.texture_cache import TextureCache
from generative.noise_keys import NoiseKeys
from generative.simulator import END_NOISE, Simulator
from generative.starts import Starts

_SLOT_REPEAT = 0x53494D53
"""Keys the draw of a slot's next starting point, apart from other noise."""


@dataclass(frozen=True)
class SimSnapshot:
    """The saved state of one slot.

    env: an EnvState without its batch axis. hidden [D]: the agent's hidden
    state at the start of its episode. queued: the next starting point, or -1.
    """

    env: EnvState
    hidden: torch.Tensor
    level: int
    step: int
    episode: int
    queued: int


class SimVecEnv:
    """N simulated episodes stepped together, as a VecEnv; level i is starting point i of `starts`.

    Seed and level fix every random number of an episode, whichever slot plays it: its frames are those of
    `Simulator.simulate` under NoiseKeys(seed, [i]) and the same actions. Episodes are complete as in
    generative/record.py.

    Args:
        simulator: steps the episodes.
        starts: starting points.
        num: slots N.
        actions: names and effects of the actions.
        seed: of all noise.
        horizon: steps after which an episode is truncated; it terminates where the model says so.
        use_mode: take the mode of the states, and end episodes where done is above 0.5, instead of sampling.
    """

    def __init__(
        self,
        simulator: Simulator,
        starts: Starts,
        num: int,
        actions: ActionSpace,
        seed: int = 0,
        horizon: int = 64,
        use_mode: bool = False,
    ):
        config = simulator.model.config
        self.simulator = simulator
        self.starts = starts
        self.num = num
        self.seed = seed
        self.timeout = horizon
        self.use_mode = use_mode
        self.obs_shape = config.obs_shape
        self.num_actions = config.num_actions
        self.action_names = actions.names
        self.noop = actions.noop
        self.effect_classes = actions.effect_classes
        self._like = simulator.model.bins
        self._level, self._step, self._episode = (np.zeros(num, np.int64) for _ in range(3))
        self._queued = np.full(num, -1)
        self._prev_level = np.zeros(num, np.int64)
        self._env = EnvState(*(self._like.new_zeros(num, *shape) for shape in simulator.model.state_shapes()))
        self._textures = TextureCache(config, num, self._like.device)
        self._hidden = self._like.new_zeros(num, config.hidden_size)
        self._outcome = np.zeros((3, num), np.float32)
        self._terminated = np.zeros(num, bool)
        self._truncated = np.zeros(num, bool)
        self._start_next(np.arange(num))
        self._render()

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._outcome[0].copy(), self._obs, self._step == 0

    @torch.no_grad()
    def act(self, action: np.ndarray) -> None:
        action = np.asarray(action)
        if action.shape != (self.num,) or not ((action >= 0) & (action < self.num_actions)).all():
            raise ValueError(f"need {self.num} actions from 0 to {self.num_actions - 1}")
        keys = NoiseKeys(self.seed, self._level, 0, self._step)
        noise = None if self.use_mode else self.simulator.state_noise(keys, 0, self._like)
        self._env = self.simulator.step(
            self._env,
            torch.from_numpy(action.astype(np.int64)).to(self._like.device),
            noise,
            textures=self._textures,
        )
        outcome = self.simulator.outcome(self._env)
        self._terminated = (
            (outcome[1] > (0.5 if self.use_mode else keys.uniform(END_NOISE, 0, self._like))).cpu().numpy()
        )
        self._outcome = torch.stack(outcome).cpu().numpy()
        self._step, self._prev_level = self._step + 1, self._level.copy()
        self._truncated = ~self._terminated & (self._step >= self.timeout)
        self._start_next(np.flatnonzero(self._terminated | self._truncated))
        self._render()

    def info(self) -> dict[str, np.ndarray]:
        """The last transition's terminated, truncated, level_complete, done_prob and reward_prob, and the
        level seeds, [N] each.
        """
        _, done, rewarded = self._outcome.copy()
        return {
            "terminated": self._terminated.copy(),
            "truncated": self._truncated.copy(),
            "level_complete": self._terminated & (rewarded > 0.5),
            "level_seed": self._level.copy(),
            "prev_level_seed": self._prev_level.copy(),
            "done_prob": done,
            "reward_prob": rewarded,
        }

    def arriving_state(self) -> np.ndarray | None:
        """The agent's hidden state [N, D] before the first frame of each slot's episode; None for an agent
        that the model was not trained with.
        """
        return self._hidden.cpu().numpy() if self.simulator.own_agent else None

    def snapshot(self, slots=None) -> list[SimSnapshot]:
        """The saved states of the given slots (default: all)."""
        counters = self._level, self._step, self._episode, self._queued
        return [
            SimSnapshot(
                EnvState(*(part[slot].clone() for part in self._env)),
                self._hidden[slot].clone(),
                *(int(c[slot]) for c in counters),
            )
            for slot in self._slots(slots)
        ]

    def restore(self, snapshots: list[SimSnapshot], slots=None) -> None:
        """Restores saved states into the given slots (default: all).

        Raises BadState, changing nothing, for states of another model.
        """
        slots = self._slots(slots)
        if len(snapshots) != len(slots):
            raise ValueError(f"there are {len(snapshots)} snapshots for {len(slots)} slots")
        for saved in snapshots:
            if any(part.shape != own.shape[1:] for part, own in zip(saved.env, self._env)):
                raise BadState("the saved state is from a world model of another shape")
        for slot, saved in zip(slots, snapshots):
            self._set_slots([slot], EnvState(*(part[None] for part in saved.env)), saved.hidden[None])
            self._level[slot], self._step[slot] = saved.level, saved.step
            self._episode[slot], self._queued[slot] = saved.episode, saved.queued
            self._clear_outcome(slot)
        self._render()

    def queue_level(self, slot: int, seed: int) -> None:
        """Starts the slot's next episode at starting point `seed`; after that, they are random again."""
        self._queued[slot] = self._check_starts(seed)

    def open_level(self, slot: int, seed: int) -> None:
        """Starts an episode in the slot at starting point `seed`; the other slots are unchanged."""
        self.open_levels([slot], [seed])

    def open_levels(self, slots, seeds) -> None:
        """`open_level` for several slots at once."""
        slots, seeds = np.asarray(slots, np.int64), np.asarray(seeds, np.int64)
        self._check_starts(seeds)
        self._start_episodes(slots, seeds)
        self._clear_outcome(slots)
        self._render()

    def close(self) -> None:
        """Nothing to free."""

    def _slots(self, slots) -> list[int]:
        return list(range(self.num)) if slots is None else list(slots)

    def _check_starts(self, indices):
        if np.any(np.asarray(indices) < 0) or np.any(np.asarray(indices) >= self.starts.count):
            raise ValueError(
                f"starting points are numbered 0 to {self.starts.count - 1}; found {np.max(indices)}"
            )
        return indices

    def _clear_outcome(self, slots) -> None:
        """Clears the outcome of the last transition in these slots."""
        self._outcome[:, slots], self._terminated[slots], self._truncated[slots] = 0, False, False

    def _start_next(self, slots: np.ndarray) -> None:
        """Starts the next episode in these slots: at the queued starting point, or one drawn by (seed, slot,
        number of the draw).
        """
        drawn = np.floor(
            uniform_noise(self.seed, slots, _SLOT_REPEAT, self._episode[slots], 1)[:, 0] * self.starts.count
        )
        indices = np.where(self._queued[slots] >= 0, self._queued[slots], drawn.astype(np.int64))
        self._episode[slots] += 1
        self._queued[slots] = -1
        self._start_episodes(slots, indices)

    @torch.no_grad()
    def _start_episodes(self, slots: np.ndarray, indices: np.ndarray) -> None:
        if not len(slots):
            return
        keys = NoiseKeys(self.seed, indices)
        z = self.starts.latents(indices, keys, self._like.device)
        start = self.simulator.start(z)
        self._level[slots], self._step[slots] = indices, 0
        self._set_slots(slots, start.env, start.hidden)

    def _set_slots(self, slots, env: EnvState, hidden: torch.Tensor) -> None:
        index = torch.as_tensor(slots, device=self._like.device)
        self._env = EnvState(*(own.index_copy(0, index, new) for own, new in zip(self._env, env)))
        if self.simulator.own_agent:
            self._hidden = self._hidden.index_copy(0, index, hidden)

    @torch.no_grad()
    def _render(self) -> None:
        self._obs = frames_to_bytes(self._env.frame).cpu().numpy()
