"""Parses and serialises Procgen's saved states: header, entities, scene, grid, and CoinRun's own tail.

Procgen kills the process when it restores bytes that it cannot parse. `parse` reads a state to its end marker
and checks the consistency of its parts, so that an edited State can be serialised and restored; it does not
validate single fields (an image that the game does not have still kills the process).
"""

from dataclasses import dataclass

import numpy as np

from envs.procgen_state import AFTER_GENERATORS, AFTER_OPTIONS, HEADER_OPTIONS, BadState

END_MARKER = np.array([0xCAFECAFE], "<u4").tobytes()
VERSION = 0
PLAYER = 0
GENERATOR_WORDS = 625  # a Mersenne twister as text: 624 words and a position

ENTITY_FIELDS = (
    "x:f",
    "y:f",
    "vx:f",
    "vy:f",
    "rx:f",
    "ry:f",
    "type",
    "image_type",
    "image_theme",
    "render_z",
    "will_erase",
    "collides_with_entities",
    "collision_margin:f",
    "rotation:f",
    "vrot:f",
    "is_reflected",
    "fire_time",
    "spawn_time",
    "life_time",
    "expire_time",
    "use_abs_coords",
    "friction:f",
    "smart_step",
    "avoids_collisions",
    "auto_erase",
    "alpha:f",
    "health:f",
    "theta:f",
    "grow_rate:f",
    "alpha_decay:f",
    "climber_spawn_x:f",
)
BEFORE_ASSETS = (
    "use_procgen_background",
    "background_index",
    "bg_tile_ratio:f",
    "bg_pct_x:f",
    "char_dim:f",
    "last_move_action",
    "move_action",
    "special_action",
    "mixrate:f",
    "maxspeed:f",
    "max_jump:f",
    "action_vx:f",
    "action_vy:f",
    "action_vrot:f",
    "center_x:f",
    "center_y:f",
    "random_agent_start",
    "has_useful_vel_info",
    "step_rand_int",
)
AFTER_ASSETS = (
    "main_width",
    "main_height",
    "out_of_bounds_object",
    "unit:f",
    "view_dim:f",
    "x_off:f",
    "y_off:f",
    "visibility:f",
    "min_visibility:f",
)
COINRUN_TAIL = (
    "last_agent_y:f",
    "wall_theme",
    "has_support",
    "facing_right",
    "is_on_crate",
    "gravity:f",
    "air_control:f",
)


def _record(*fields: str) -> np.dtype:
    """Packed little-endian dtype of fields named `name` (int32) or `name:f` (float32)."""
    parts = (field.partition(":") for field in fields)
    return np.dtype([(name, "<" + (kind or "i") + "4") for name, _, kind in parts])


ENTITY = _record(*ENTITY_FIELDS)
HEADER = _record(*HEADER_OPTIONS, *AFTER_OPTIONS, *AFTER_GENERATORS)
SCENE = _record(*BEFORE_ASSETS, *AFTER_ASSETS)
TAILS = {"coinrun": _record(*COINRUN_TAIL)}
_OPTION_BYTES = 4 * len(HEADER_OPTIONS + AFTER_OPTIONS)
_BEFORE_BYTES = 4 * len(BEFORE_ASSETS)


@dataclass
class Generator:
    """A random generator: whether it was seeded, and its Mersenne twister as text of 625 numbers."""

    seeded: int
    text: bytes


@dataclass
class State:
    """One environment's state; records are read and set by field name, as in state.header["cur_time"].

    Attributes:
        entities: [E] of dtype ENTITY, in the game's order (positions in tiles, velocities in tiles per step).
        grid: [H, W] int32 object ids, row y (upwards), column x.
        tail: game-specific data, a record for CoinRun and bytes for other games.
    """

    game: str
    header: np.void
    level_generator: Generator
    own_generator: Generator
    entities: np.ndarray
    scene: np.void
    asset_generator: Generator
    grid: np.ndarray
    tail: np.void | bytes

    @property
    def player(self) -> np.void:
        """The player's entity, a view: editing it edits the state."""
        return self.entities[np.flatnonzero(self.entities["type"] == PLAYER)[-1]]


class _Reader:
    """Reads bytes sequentially and checks before every read that they exist."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise BadState(
                f"state bytes end at {len(self.data)}; {size} more were expected at {self.at}:"
                " truncated or damaged"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def int(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def name(self) -> str:
        text = self.take(self.int())
        if not text.isalpha():
            raise BadState(f"the state begins with {text[:20]!r} where the game's name should be: damaged")
        return text.decode("ascii")

    def records(self, dtype: np.dtype, count: int) -> np.ndarray:
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).copy()

    def generator(self) -> Generator:
        generator = Generator(self.int(), self.take(self.int()))
        words = generator.text.split(b" ")
        if len(words) != GENERATOR_WORDS or not b"".join(words).isdigit():
            raise BadState(
                f"the random generator before byte {self.at} does not hold {GENERATOR_WORDS} numbers: damaged"
            )
        return generator


def parse(data: bytes) -> State:
    """Parses a state to its end marker. Raises BadState for truncated, damaged or foreign bytes."""
    reader = _Reader(data)
    if reader.int() != VERSION:
        raise BadState(f"not a Procgen state of version {VERSION}")
    game = reader.name()
    options = reader.take(_OPTION_BYTES)
    level_generator = reader.generator()
    own_generator = reader.generator()
    header = np.frombuffer(options + reader.take(HEADER.itemsize - _OPTION_BYTES), HEADER).copy()[0]
    grid_size = reader.int()
    entities = reader.records(ENTITY, reader.int())
    before = reader.take(_BEFORE_BYTES)
    asset_generator = reader.generator()
    scene = np.frombuffer(before + reader.take(SCENE.itemsize - _BEFORE_BYTES), SCENE).copy()[0]
    grid = _read_grid(reader, grid_size, scene)
    tail = (
        reader.records(TAILS[game], 1)[0]
        if game in TAILS
        else reader.take(len(data) - reader.at - len(END_MARKER))
    )
    if reader.take(len(data) - reader.at) != END_MARKER:
        raise BadState(f"the state of {game!r} does not end where Procgen's end marker should be: damaged")
    if PLAYER not in entities["type"]:
        raise BadState("the state has no player among its entities: damaged")
    return State(game, header, level_generator, own_generator, entities, scene, asset_generator, grid, tail)


def serialize(state: State) -> bytes:
    """Serialises a state for a Snapshot; serialize(parse(data)) == data."""
    options = state.header.tobytes()[:_OPTION_BYTES]
    after = state.header.tobytes()[_OPTION_BYTES:]
    before = state.scene.tobytes()[:_BEFORE_BYTES]
    view = state.scene.tobytes()[_BEFORE_BYTES:]
    height, width = state.grid.shape
    game = state.game.encode("ascii")
    tail = state.tail if isinstance(state.tail, bytes) else state.tail.tobytes()
    return b"".join(
        (
            _ints(VERSION, len(game)),
            game,
            options,
            _generator(state.level_generator),
            _generator(state.own_generator),
            after,
            _ints(state.grid.size, len(state.entities)),
            np.ascontiguousarray(state.entities, ENTITY).tobytes(),
            before,
            _generator(state.asset_generator),
            view,
            _ints(width, height, state.grid.size),
            np.ascontiguousarray(state.grid, "<i4").tobytes(),
            tail,
            END_MARKER,
        )
    )


def _read_grid(reader: _Reader, grid_size: int, scene: np.void) -> np.ndarray:
    """The grid [H, W], after checking that its four records of its size agree."""
    width = reader.int()
    height = reader.int()
    count = reader.int()
    agree = (width, height) == (
        scene["main_width"],
        scene["main_height"],
    ) and width * height == count == grid_size
    if not agree or min(width, height) <= 0:
        raise BadState(
            f"the grid says {width} x {height} and {count} cells in a world of {grid_size}: damaged"
        )
    return reader.records(np.dtype("<i4"), count).reshape(height, width)


def _ints(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def _generator(generator: Generator) -> bytes:
    return _ints(generator.seeded, len(generator.text)) + generator.text
