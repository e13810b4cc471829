"""The sixteen Procgen games as VecEnvs, with bit-exact snapshots and any level in any slot."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.descriptions import check_kinds
from common.runs import UsageError
from envs.procgen_body import State, parse, serialize
from envs.procgen_state import game_name, read_header, with_header
from envs.symbols import Symbols, read_symbols
from envs.vecenv import ActionSpace, BadState, Snapshot

# importing gym prints a notice that has nothing to say to our users
with contextlib.redirect_stderr(io.StringIO()):
    from procgen import ProcgenGym3Env
    from procgen.env import ENV_NAMES, MAX_STATE_SIZE

GAMES: tuple[str, ...] = tuple(ENV_NAMES)
DISTRIBUTION_MODES = ("easy", "hard", "extreme", "memory", "exploration")
EXTREME_GAMES = ("chaser", "dodgeball", "leaper", "starpilot")
MEMORY_GAMES = ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner")
EXPLORATION_GAMES = ("coinrun", "caveflyer", "leaper", "jumper", "maze", "heist", "climber", "ninja")
FORCE_RESET = -1
NUM_LEVELS = 2**31 - 1
"""Number of Procgen levels."""
_C_FUNCTIONS = ("libenv_observe", "libenv_act", "libenv_close", "get_state", "set_state")
"""Function names that are resolved when an environment is created: cffi resolves them under a lock, and an
environment that the garbage collector closes while another is created would deadlock.
"""
LAST_MOVE_LEAKS = ("dodgeball",)
"""Games that orient the player by the last move of the previous episode; with it cleared, level and actions
determine an episode.
"""
_INITIAL_MOVE = 7
_OUR_OPTIONS = ("blink", "random_coin")
"""Fields of ProcgenConfig that wrappers act on (envs/make.py)."""

_NAMES = (
    "down-left",
    "left",
    "up-left",
    "down",
    "none",
    "up",
    "down-right",
    "right",
    "up-right",
    "key-d",
    "key-a",
    "key-w",
    "key-s",
    "key-q",
    "key-e",
)
_NOOP = 4


@dataclass(frozen=True)
class ProcgenConfig:
    """A Procgen game and its options, named as in Procgen."""

    env_name: str = "coinrun"
    """One of the sixteen games."""
    num_levels: int = 0
    """Number of distinct levels; 0 means all of them."""
    start_level: int = 0
    """Seed of the first level."""
    distribution_mode: str = "easy"
    """easy, hard, extreme, memory or exploration; not every game has every mode."""
    use_backgrounds: bool = False
    """Draw background images; the reference agent plays without."""
    center_agent: bool = True
    use_monochrome_assets: bool = False
    restrict_themes: bool = False
    use_generated_assets: bool = False
    paint_vel_info: bool = False
    use_sequential_levels: bool = False
    blink: bool = False
    """Blank 4-12 frames now and then (envs/blink.py); not an option of Procgen's own, nor is the next."""
    random_coin: bool = False
    """Move CoinRun's coin to a random place in the right fifth of the level (envs/random_coin.py)."""

    def __post_init__(self):
        check_kinds(self)
        action_space(self.env_name)
        if self.distribution_mode not in DISTRIBUTION_MODES:
            raise UsageError(
                f"unknown distribution mode {self.distribution_mode!r}; choose one of:"
                f" {', '.join(DISTRIBUTION_MODES)}"
            )
        games = {"extreme": EXTREME_GAMES, "memory": MEMORY_GAMES, "exploration": EXPLORATION_GAMES}.get(
            self.distribution_mode
        )
        if games and self.env_name not in games:
            raise UsageError(
                f"{self.env_name} has no {self.distribution_mode!r} mode; the games that have it:"
                f" {', '.join(games)}"
            )
        if self.random_coin and self.env_name != "coinrun":
            raise UsageError(f"random_coin moves the coin of coinrun, and {self.env_name} has none")
        if self.use_generated_assets:
            raise UsageError(
                "use_generated_assets is not supported: Procgen can neither save nor restore states with it"
            )
        if (
            self.start_level < 0
            or self.num_levels < 0
            or self.start_level + max(self.num_levels, 1) > NUM_LEVELS
        ):
            asked = f"{self.num_levels or 'all'} levels from {self.start_level} on"
            raise UsageError(
                f"{asked} do not lie within 0 .. {NUM_LEVELS - 1}; change start_level or num_levels"
            )


def described_game(values, source: object) -> ProcgenConfig:
    """The game named by `env` of a description. Raises UsageError, naming the source, if this version does
    not have it.
    """
    try:
        return ProcgenConfig(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{source} describes a game that this version does not have ({error}): take another file"
        ) from error


class ProcgenVecEnv:
    """N copies of one game. `seed` determines level draws; results do not depend on `num_threads`.

    Raises:
        UsageError: an unknown game, mode or level range (from the config), no environments, fewer than 0
            threads, or an invalid seed.
    """

    obs_shape = (64, 64, 3)

    def __init__(self, num: int, config: ProcgenConfig, seed: int = 0, num_threads: int = 2):
        # some of these the game answers by ending the process
        if num < 1 or num_threads < 0 or not 0 <= seed < 2**31:
            asked = f"{num} environments with {num_threads} threads and seed {seed}"
            raise UsageError(
                f"{asked} cannot be made; ask for 1 or more, with 0 or more threads and a seed from"
                f" 0 to {2**31 - 1}"
            )
        options = {name: value for name, value in vars(config).items() if name not in _OUR_OPTIONS}
        # this mode is one fixed level; Procgen refuses a range with it
        if config.distribution_mode == "exploration":
            del options["num_levels"], options["start_level"]
        self.num = num
        self.config = config
        self._env = ProcgenGym3Env(num=num, rand_seed=seed, num_threads=num_threads, **options)
        for function in _C_FUNCTIONS:
            getattr(self._env._c_lib, function)
        self._buffer = self._env._ffi.new(f"char[{MAX_STATE_SIZE}]")
        actions = action_space(config.env_name)
        self.num_actions = len(actions.names)
        self.action_names = actions.names
        self.noop = actions.noop
        self.effect_classes = actions.effect_classes
        self.timeout = read_header(self._state_bytes(0), "timeout")[0]
        # steps taken in the current episode (of sequential levels: in the level)
        self._steps = np.zeros(num, np.int64)
        self._ended_at = np.zeros(num, np.int64)  # length of the episode that the last act ended, else 0

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward, obs, first = self._env.observe()
        return reward, obs["rgb"], first

    def act(self, action: np.ndarray) -> None:
        self._env.act(np.asarray(action))
        first = self._env.observe()[2]
        self._steps += 1
        self._ended_at = np.where(first, self._steps, 0)
        self._steps[first | self._env._info["prev_level_complete"].astype(bool)] = 0
        self._clear_last_move(np.flatnonzero(first))

    @property
    def episode_step(self) -> np.ndarray:
        """Steps taken in the current episode, int64 [N]; 0 at its first frame."""
        return self._steps.copy()

    def info(self) -> dict[str, np.ndarray]:
        """terminated, truncated, level_complete of the last transition; level_seed of the current episode and
        prev_level_seed.
        """
        self._env.observe()
        raw = self._env._info  # arrays; get_info() would build a dict per environment
        complete = raw["prev_level_complete"].astype(bool)
        ended = self._ended_at > 0
        truncated = ended & ~complete & (self._ended_at >= self.timeout)
        return {
            "terminated": ended & ~truncated,
            "truncated": truncated,
            "level_complete": complete & ended,
            "level_seed": raw["level_seed"].astype(np.int64),
            "prev_level_seed": raw["prev_level_seed"].astype(np.int64),
        }

    def snapshot(self, slots=None) -> list[Snapshot]:
        """Snapshots of the given slots (default: all), from which play continues bit for bit."""
        return [Snapshot(self._state_bytes(slot)) for slot in self._slots(slots)]

    def restore(self, snapshots, slots=None) -> None:
        """Restores snapshots into the given slots (default: all); observations follow at once.

        Raises:
            BadState: a snapshot is damaged or of another game; nothing changes.
        """
        slots = self._slots(slots)
        if len(snapshots) != len(slots):
            raise ValueError(f"{len(snapshots)} snapshots for {len(slots)} slots")
        for snapshot in snapshots:
            self._check(snapshot)
        for slot, snapshot in zip(slots, snapshots):
            self._set_state_bytes(slot, snapshot.data)
            self._steps[slot], self._ended_at[slot] = read_header(snapshot.data, "cur_time")[0], 0

    def edit_states(self, slots, edit: Callable[[State], State]) -> None:
        """Replaces the states of some slots by edited ones; observations follow at once. The last
        transition's reward and end stay.
        """
        for slot in slots:
            self._set_state_bytes(slot, serialize(edit(parse(self._state_bytes(slot)))))

    def symbols(self, slots=None) -> Symbols:
        """Symbols of the given slots' states (default: all)."""
        return read_symbols([self._state_bytes(slot) for slot in self._slots(slots)])

    def queue_level(self, slot: int, seed: int) -> None:
        """Sets the level of the slot's next episode; the current one continues. Raises UsageError for an
        invalid level.
        """
        if not 0 <= seed < NUM_LEVELS:
            raise UsageError(f"there is no level {seed}: levels go from 0 to {NUM_LEVELS - 1}")
        self._set_state_bytes(
            slot, with_header(self._state_bytes(slot), level_seed_low=seed, level_seed_high=seed + 1)
        )

    def open_level(self, slot: int, seed: int) -> None:
        """Starts level `seed` in the slot; other slots are unchanged."""
        self.open_levels([slot], [seed])

    def open_levels(self, slots, seeds) -> None:
        """`open_level` for several slots at once."""
        slots = list(slots)
        others = [slot for slot in range(self.num) if slot not in set(slots)]
        kept = [self._state_bytes(slot) for slot in others]
        steps = self._steps.copy()
        ended_at = self._ended_at.copy()
        for slot, seed in zip(slots, seeds, strict=True):
            self.queue_level(slot, seed)
        action = np.full(self.num, self.noop)
        action[slots] = FORCE_RESET
        self._env.act(action)
        self._env.observe()
        for slot, data in zip(others, kept):
            self._set_state_bytes(slot, data)
        for slot in slots:  # what the forced step earned in the old episode is no one's reward
            self._set_state_bytes(slot, with_header(self._state_bytes(slot), reward=0.0, level_complete=0))
        self._clear_last_move(slots)
        self._steps = steps
        self._ended_at = ended_at
        self._steps[slots], self._ended_at[slots] = 0, 0

    def close(self) -> None:
        self._env.close()

    def _clear_last_move(self, slots) -> None:
        """Makes the first steps of a new episode independent of the old one, in the games that need it."""
        if self.config.env_name in LAST_MOVE_LEAKS:
            self.edit_states(slots, _with_initial_move)

    def _slots(self, slots) -> list[int]:
        return list(range(self.num)) if slots is None else list(slots)

    def _check(self, snapshot: Snapshot) -> None:
        game = game_name(snapshot.verified())
        if game != self.config.env_name:
            raise BadState(
                f"the saved state is from {game!r}, this environment plays {self.config.env_name!r}"
            )
        parse(snapshot.data)  # the game ends the process at bytes that it cannot read to their end

    def _state_bytes(self, slot: int) -> bytes:
        self._env.observe()  # waits for the step in progress
        length = self._env.call_c_func("get_state", slot, self._buffer, MAX_STATE_SIZE)
        return bytes(self._env._ffi.buffer(self._buffer, length))

    def _set_state_bytes(self, slot: int, data: bytes) -> None:
        self._env.call_c_func("set_state", slot, data, len(data))


def _with_initial_move(state: State) -> State:
    state.scene["last_move_action"] = _INITIAL_MOVE
    return state


def action_space(game: str) -> ActionSpace:
    """Action names and effect classes of a game (measured by benchmarks/measure_effect_classes.py)."""
    if game not in GAMES:
        raise UsageError(f"unknown game {game!r}; choose one of: {', '.join(GAMES)}")
    return ActionSpace(_NAMES, _NOOP, _EFFECT_CLASSES[game])


_EIGHT_WAYS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4)
_EIGHT_WAYS_AND_D = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 4, 4, 4, 4)
_FOUR_WAYS = (1, 1, 1, 3, 4, 5, 7, 7, 7, 4, 4, 4, 4, 4, 4)
_JUMPS = (1, 1, 2, 4, 4, 5, 7, 7, 8, 4, 4, 4, 4, 4, 4)
_SIDEWAYS_AND_D = (1, 1, 1, 4, 4, 4, 7, 7, 7, 9, 4, 4, 4, 4, 4)
_EFFECT_CLASSES: dict[str, tuple[int, ...]] = {
    "bigfish": _EIGHT_WAYS,
    "bossfight": _EIGHT_WAYS_AND_D,
    "caveflyer": _EIGHT_WAYS_AND_D,
    "chaser": _EIGHT_WAYS,
    "climber": _JUMPS,
    "coinrun": _EIGHT_WAYS,
    "dodgeball": _EIGHT_WAYS_AND_D,
    "fruitbot": _SIDEWAYS_AND_D,
    "heist": _EIGHT_WAYS,
    "jumper": _JUMPS,
    "leaper": _FOUR_WAYS,
    "maze": _FOUR_WAYS,
    "miner": _FOUR_WAYS,
    "ninja": (1, 1, 2, 4, 4, 5, 7, 7, 8, 9, 10, 11, 12, 9, 9),
    "plunder": _SIDEWAYS_AND_D,
    "starpilot": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 9, 9, 9),
}
