"""Symbolic content of many saved states at once, as arrays; for all games, with CoinRun's own fields.

`procgen_body.parse` reads one state completely, for editing; this module reads thousands per second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from envs.procgen_body import END_MARKER, ENTITY, HEADER, PLAYER, SCENE, TAILS, VERSION
from envs.procgen_state import BadState

OUTSIDE = -1
"""Fills `Symbols.grid` beyond a world that is smaller than the largest of the batch."""
_BEFORE_GENERATORS = HEADER.fields["reward"][1]  # bytes
_BEFORE_ASSETS = SCENE.fields["main_width"][1]


@dataclass(frozen=True)
class Symbols:
    """N states of one game; positions in tiles (y upwards), velocities in tiles per step, camera offsets in
    pixels.

    Attributes:
        header: [N] of dtype HEADER: level, time (cur_time, timeout), options.
        scene: [N] of SCENE: the camera (x_off, y_off, unit, view_dim) and the world's size.
        entities: [M] of ENTITY, state after state.
        owner: [M], the state of each entity.
        player: [N], the player's entity.
        grid: [N, H, W] int32 object ids, row y, column x.
        tail: [N] of CoinRun's TAILS; None for other games.
    """

    game: str
    header: np.ndarray
    scene: np.ndarray
    entities: np.ndarray
    owner: np.ndarray
    player: np.ndarray
    grid: np.ndarray
    tail: np.ndarray | None

    def __len__(self) -> int:
        return len(self.header)


def read_symbols(states: Sequence[bytes]) -> Symbols:
    """Reads the symbols of states of one game. Raises BadState for truncated, damaged or foreign bytes, or
    several games.
    """
    if not len(states):
        raise ValueError("no states to read")
    cursors = _Cursors(states)
    if (cursors.ints() != VERSION).any():
        raise BadState(f"not a Procgen state of version {VERSION}")
    game = _one_game(cursors.pieces(cursors.ints()))
    options = cursors.bytes(_BEFORE_GENERATORS)
    cursors.skip_generators(2)
    header = _joined(HEADER, options, cursors.bytes(HEADER.itemsize - _BEFORE_GENERATORS))
    size = cursors.ints()
    counts = cursors.ints()
    entities = np.frombuffer(b"".join(cursors.pieces(counts * ENTITY.itemsize)), ENTITY)
    before = cursors.bytes(_BEFORE_ASSETS)
    cursors.skip_generators(1)
    scene = _joined(SCENE, before, cursors.bytes(SCENE.itemsize - _BEFORE_ASSETS))
    grid = _grids(cursors, scene, size)
    tail = np.frombuffer(cursors.bytes(TAILS[game].itemsize), TAILS[game]) if game in TAILS else None
    cursors.check_end(exactly=game in TAILS)
    owner = np.repeat(np.arange(len(states)), counts)
    return Symbols(game, header, scene, entities, owner, _players(entities, owner, len(states)), grid, tail)


class _Cursors:
    """A read position in each of N byte strings."""

    def __init__(self, states: Sequence[bytes]):
        self.states = states
        self.at = np.zeros(len(states), np.int64)
        self.end = np.array([len(data) for data in states])

    def skip(self, sizes: np.ndarray | int) -> None:
        past = self.at + sizes
        if (past < self.at).any() or (past > self.end).any():
            i = int(np.flatnonzero((past < self.at) | (past > self.end))[0])
            raise BadState(
                f"state {i} ends at byte {self.end[i]}; {past[i] - self.at[i]} more were expected"
                f" at {self.at[i]}: truncated or damaged"
            )
        self.at = past

    def pieces(self, sizes: np.ndarray | int) -> list[bytes]:
        """The next `sizes` bytes of each ([N], or one number for all)."""
        begin = self.at.tolist()
        self.skip(sizes)
        return [data[a:b] for data, a, b in zip(self.states, begin, self.at.tolist())]

    def bytes(self, size: int) -> np.ndarray:
        """The next `size` bytes of each: [N, size] uint8."""
        return np.frombuffer(b"".join(self.pieces(size)), np.uint8).reshape(len(self.states), size)

    def ints(self) -> np.ndarray:
        return self.bytes(4).view("<i4")[:, 0].astype(np.int64)

    def skip_generators(self, count: int) -> None:
        for _ in range(count):
            self.skip(4)
            self.skip(self.ints())

    def check_end(self, exactly: bool) -> None:
        """Raises BadState unless every state ends in the end marker, where `exactly` right here."""
        whole = (
            all(map(bytes.endswith, self.states, repeat(END_MARKER)))
            and (self.at + len(END_MARKER) <= self.end).all()
        )
        if not whole or (exactly and (self.at + len(END_MARKER) != self.end).any()):
            raise BadState("a state does not end where Procgen's end marker should be: damaged")


def _one_game(names: list[bytes]) -> str:
    games = set(names)
    if len(games) > 1 or not names[0].isalpha():
        raise BadState(
            f"expected states of one game, found {', '.join(sorted(repr(name[:20]) for name in games))}"
        )
    return names[0].decode("ascii", errors="replace")


def _joined(dtype: np.dtype, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Records [N] between the bytes of their first and last fields."""
    return np.concatenate([left, right], 1).view(dtype)[:, 0]


def _grids(cursors: _Cursors, scene: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[N, H, W], H and W those of the largest world."""
    width = cursors.ints()
    height = cursors.ints()
    count = cursors.ints()
    agree = (
        (width == scene["main_width"])
        & (height == scene["main_height"])
        & (width * height == count)
        & (count == size)
    )
    if not agree.all() or min(width.min(), height.min()) <= 0:
        raise BadState("a state's grid disagrees with its world about the size: damaged")
    pieces = cursors.pieces(4 * count)
    if (width == width[0]).all() and (height == height[0]).all():
        return np.frombuffer(b"".join(pieces), "<i4").reshape(len(pieces), height[0], width[0])
    grid = np.full((len(pieces), height.max(), width.max()), OUTSIDE, np.int32)
    for cells, piece, h, w in zip(grid, pieces, height, width):
        cells[:h, :w] = np.frombuffer(piece, "<i4").reshape(h, w)
    return grid


def _players(entities: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The last player entity of each state, as in procgen_body.State."""
    at = np.flatnonzero(entities["type"] == PLAYER)
    last = np.full(count, -1)
    last[owner[at]] = at  # of several, the last stays
    if (last < 0).any():
        raise BadState("a state has no player among its entities: damaged")
    return entities[last]
