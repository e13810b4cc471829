"""CoinRun-blink: frames go black for a known number of steps, so that playing well needs memory."""

from dataclasses import dataclass

import numpy as np

from common.noise import uniform_noise

_REPEAT = (
    0x424C4E4B  # "BLNK", where action noise has its repeat: the same seed and level share no numbers with it
)


@dataclass(frozen=True)
class BlinkConfig:
    """Schedule of black frames: clear and black stretches alternate, with lengths uniform in their ranges."""

    min_blank: int = 4
    """Shortest black stretch, in frames."""
    max_blank: int = 12
    """Longest black stretch, in frames."""
    min_clear: int = 6
    """Shortest clear stretch, in frames. Episodes begin with a clear stretch, so the first frame is visible.
    """
    max_clear: int = 18
    """Longest clear stretch, in frames."""

    def __post_init__(self):
        if not 1 <= self.min_blank <= self.max_blank:
            raise ValueError(f"need 1 <= min_blank <= max_blank, got {self.min_blank} and {self.max_blank}")
        if not 1 <= self.min_clear <= self.max_clear:
            raise ValueError(
                f"need 1 <= min_clear <= max_clear, got {self.min_clear} and {self.max_clear}; the"
                " first frame must be clear"
            )


def blank_schedule(config: BlinkConfig, seed: int, level_seeds: np.ndarray, steps: int) -> np.ndarray:
    """Whether frame t of an episode of each level [N] is black, bool [N, steps]; a function of seed and
    level.
    """
    pairs = -(-steps // (config.min_clear + config.min_blank))
    level = np.repeat(level_seeds, pairs)
    pair = np.tile(np.arange(pairs), len(level_seeds))
    draw = uniform_noise(seed, level, _REPEAT, pair, 2).reshape(len(level_seeds), pairs, 2)
    low = np.array([config.min_clear, config.min_blank])
    high = np.array([config.max_clear, config.max_blank])
    lengths = (low + np.floor(draw * (high - low + 1))).astype(np.int64)  # [N, pairs, (clear, black)]
    turns = lengths.reshape(len(level_seeds), -1).cumsum(1)
    return np.array([np.searchsorted(row, np.arange(steps), side="right") % 2 == 1 for row in turns]).reshape(
        -1, steps
    )


class BlinkVecEnv:
    """Wraps a VecEnv so that it shows black frames on schedule.

    Blanks depend on (seed, level seed, episode step) only: they are equal in any slot, order or process, and
    after a restore. `info()` gains `blank` [N] bool.

    Args:
        inner: a VecEnv with `episode_step` and `timeout`, such as ProcgenVecEnv; its other methods stay
            available.
        config: schedule of the blanks.
        seed: of the blanks.
    """

    def __init__(self, inner, config: BlinkConfig = BlinkConfig(), seed: int = 0):
        self.inner = inner
        self.blink = config
        self.seed = seed
        self.num = inner.num
        self.obs_shape = inner.obs_shape
        self.num_actions = inner.num_actions
        self.action_names = inner.action_names
        self.effect_classes = inner.effect_classes
        self.noop = inner.noop
        self._levels = np.full(self.num, -1, np.int64)
        self._schedule = np.zeros((self.num, inner.timeout + 1), bool)

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward, obs, first = self.inner.observe()
        obs = obs.copy()
        obs[self._blank()] = 0
        return reward, obs, first

    def act(self, action: np.ndarray) -> None:
        self.inner.act(action)

    def info(self) -> dict[str, np.ndarray]:
        return {**self.inner.info(), "blank": self._blank()}

    def __getattr__(self, name: str):
        if name == "inner":  # not there yet while an instance is being unpickled or copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _blank(self) -> np.ndarray:
        levels = self.inner.info()["level_seed"]
        new = np.flatnonzero(levels != self._levels)
        if len(new):
            self._schedule[new] = blank_schedule(self.blink, self.seed, levels[new], self._schedule.shape[1])
            self._levels[new] = levels[new]
        return self._schedule[np.arange(self.num), self.inner.episode_step]
