"""Seven small environments with known solutions; each fails if one particular part of an agent is broken.

After the probe environments of Andy Jones ("Debugging RL, without the agonizing pain", 2021), plus one for
memory. They show images, so that agents for Procgen run on them.
"""

import itertools
import json
from dataclasses import dataclass

import numpy as np

from common.noise import uniform_noise
from envs.vecenv import BadState, Snapshot

_LEVEL_REPEAT = 0x4C45564C  # keep the draws apart from each other and from action noise
_SLOT_REPEAT = 0x534C4F54


@dataclass(frozen=True)
class DiagnosticEnv:
    """Definition of one environment. A symbol is one of `symbols` vertical bands on a black frame."""

    tests: str
    length: int
    symbols: int
    optimal_return: float
    """Mean episode return of the optimal policy."""
    random_return: float
    """Mean episode return of uniformly random actions."""
    action_matters: bool = True


DIAGNOSTIC_ENVS: dict[str, DiagnosticEnv] = {
    "constant": DiagnosticEnv("the value head learns a constant: reward 1, always", 1, 1, 1.0, 1.0, False),
    "sign": DiagnosticEnv(
        "the value head reads the observation: reward +1 or -1, as shown", 1, 2, 0.0, 0.0, False
    ),
    "delayed": DiagnosticEnv(
        "value travels back one step: reward 1 after the second of two steps", 2, 2, 1.0, 1.0, False
    ),
    "choice": DiagnosticEnv("the policy learns: action 1 gives +1, action 0 gives -1", 1, 1, 1.0, 0.0),
    "match": DiagnosticEnv(
        "the policy reads the observation: +1 for the action that equals what is shown, else -1",
        1,
        2,
        1.0,
        0.0,
    ),
    "counter": DiagnosticEnv(
        "credit over ten steps: a counter is shown, reward 1 after the tenth", 10, 10, 1.0, 1.0, False
    ),
    "memory": DiagnosticEnv(
        "memory: +1 for the action that equals what the first frame showed, four steps ago, else -1",
        5,
        3,
        1.0,
        0.0,
    ),
}
"""The environments, simplest first; the third symbol of "memory" is shown on every frame but the first."""
NAMES = tuple(DIAGNOSTIC_ENVS)


class DiagnosticVecEnv:
    """N copies of one diagnostic environment. A level seed determines its episode, whichever slot plays it.

    Args:
        name: one of NAMES.
        num: number of copies.
        seed: determines which levels come, slot by slot.
        size: frames are [size, size, 3], size >= 10.
        time_limit: truncates episodes after this many steps; `info()` then has the frame at which they
            stopped as `final_obs`.
    """

    num_actions = 2
    action_names = ("zero", "one")
    noop = 0

    def __init__(self, name: str, num: int, seed: int = 0, size: int = 64, time_limit: int | None = None):
        if name not in DIAGNOSTIC_ENVS:
            raise ValueError(f"unknown environment {name!r}; choose one of: {', '.join(NAMES)}")
        if size < 10:
            raise ValueError(f"frames of {size} pixels are too small to show ten symbols; need size >= 10")
        self.name = name
        self.spec = DIAGNOSTIC_ENVS[name]
        self.num = num
        self.seed = seed
        self.obs_shape = (size, size, 3)
        self.time_limit = time_limit
        self.timeout = min(self.spec.length, time_limit or self.spec.length)
        self.effect_classes = (0, 1) if self.spec.action_matters else (0, 0)
        self.optimal_return = self.spec.optimal_return
        self.random_return = self.spec.random_return
        self._frames = _frames(self.spec.symbols, size)
        self._episode = np.zeros(num, np.int64)
        self._queued = np.full(num, -1, np.int64)
        self._step = np.zeros(num, np.int64)
        self._level = np.zeros(num, np.int64)
        self._prev_level = np.zeros(num, np.int64)
        self._reward = np.zeros(num, np.float32)
        self._ended = np.zeros(num, bool)
        self._truncated = np.zeros(num, bool)
        self._final_symbol = np.zeros(num, np.int64)
        self._begin(np.arange(num))

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._reward.copy(), self._frames[self._symbol()], self._step == 0

    def act(self, action: np.ndarray) -> None:
        action = np.asarray(action)
        if action.shape != (self.num,) or not np.isin(action, (0, 1)).all():
            raise ValueError(f"need {self.num} actions, each 0 or 1")
        last = self._step == self.spec.length - 1
        self._reward = np.where(last, self._final_reward(action), 0).astype(np.float32)
        self._truncated = ~last & (self._step == self.timeout - 1)
        self._ended = last | self._truncated
        self._prev_level = self._level.copy()
        self._step += 1
        self._final_symbol = np.where(self._truncated, self._symbol(), 0)
        self._begin(np.flatnonzero(self._ended))

    def info(self) -> dict[str, np.ndarray]:
        """terminated, truncated, level_complete (ended with reward +1) of the last transition; level seeds;
        with a time limit, final_obs.
        """
        final = {} if self.time_limit is None else {"final_obs": self._frames[self._final_symbol]}
        return final | {
            "terminated": self._ended & ~self._truncated,
            "truncated": self._truncated.copy(),
            "level_complete": self._ended & (self._reward > 0),
            "level_seed": self._level.copy(),
            "prev_level_seed": self._prev_level.copy(),
        }

    @property
    def episode_step(self) -> np.ndarray:
        """Steps taken in the current episode, int64 [N]."""
        return self._step.copy()

    def snapshot(self, slots=None) -> list[Snapshot]:
        """Snapshots of the given slots (default: all), from which play continues bit for bit."""
        return [
            Snapshot(json.dumps([self.name, *(column[slot].item() for column in self._columns)]).encode())
            for slot in self._slots(slots)
        ]

    def restore(self, snapshots, slots=None) -> None:
        """Restores snapshots into the given slots (default: all). Raises BadState, changing nothing, for
        damaged or foreign ones.
        """
        slots = self._slots(slots)
        if len(snapshots) != len(slots):
            raise ValueError(f"{len(snapshots)} snapshots for {len(slots)} slots")
        saved = [json.loads(snapshot.verified()) for snapshot in snapshots]
        for name, *_ in saved:
            if name != self.name:
                raise BadState(f"the saved state is from {name!r}, this environment plays {self.name!r}")
        for slot, (_, *values) in zip(slots, saved):
            for column, value in zip(self._columns, values, strict=True):
                column[slot] = value

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        """All state of a slot, [N] each."""
        return (
            self._level,
            self._prev_level,
            self._step,
            self._episode,
            self._queued,
            self._reward,
            self._ended,
            self._truncated,
            self._final_symbol,
        )

    def queue_level(self, slot: int, seed: int) -> None:
        """Sets the level of the slot's next episode; after that, levels are drawn again."""
        self._queued[slot] = seed

    def open_level(self, slot: int, seed: int) -> None:
        """Starts level `seed` in the slot; other slots are unchanged."""
        self.open_levels([slot], [seed])

    def open_levels(self, slots, seeds) -> None:
        """`open_level` for several slots at once."""
        slots = list(slots)
        self._level[slots], self._step[slots] = seeds, 0
        self._reward[slots], self._ended[slots], self._truncated[slots] = 0, False, False

    def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def _slots(self, slots) -> list[int]:
        return list(range(self.num)) if slots is None else list(slots)

    def _begin(self, slots: np.ndarray) -> None:
        """Starts the next episode in these slots: the queued level, or one drawn from (seed, slot, number of
        the draw).
        """
        drawn = np.floor(
            uniform_noise(self.seed, slots, _SLOT_REPEAT, self._episode[slots], 1)[:, 0] * (2**31 - 1)
        ).astype(np.int64)
        queued = self._queued[slots]
        self._level[slots] = np.where(queued >= 0, queued, drawn)
        self._episode[slots] += 1
        self._queued[slots], self._step[slots] = -1, 0

    def _shown(self) -> np.ndarray:
        """The bit [N] that each level's first frame shows, in environments that show one."""
        return (uniform_noise(0, self._level, _LEVEL_REPEAT, 0, 1)[:, 0] < 0.5).astype(np.int64)

    def _symbol(self) -> np.ndarray:
        """Symbol [N] of each current frame."""
        if self.name in ("sign", "match"):
            return self._shown()
        if self.name == "memory":
            return np.where(self._step == 0, self._shown(), 2)
        return self._step

    def _final_reward(self, action: np.ndarray) -> np.ndarray:
        """Reward [N] of `action` in an episode's last step."""
        if self.name == "sign":
            return 2 * self._shown() - 1
        if self.name == "choice":
            return 2 * action - 1
        if self.name in ("match", "memory"):
            return np.where(action == self._shown(), 1, -1)
        return np.ones(self.num)


def _frames(symbols: int, size: int) -> np.ndarray:
    """One frame per symbol, uint8 [S, size, size, 3]: a band of light at the symbol's place, from left to
    right.
    """
    frames = np.zeros((symbols, size, size, 3), np.uint8)
    edges = np.linspace(0, size, symbols + 1).astype(int)
    for symbol, (left, right) in enumerate(itertools.pairwise(edges)):
        frames[symbol, :, left:right] = 255
    return frames
