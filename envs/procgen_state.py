"""The header of Procgen's saved states, common to all games: read and edited by offset."""

import struct

from envs.vecenv import BadState

HEADER_OPTIONS = (
    "paint_vel_info",
    "use_generated_assets",
    "use_monochrome_assets",
    "restrict_themes",
    "use_backgrounds",
    "center_agent",
    "debug_mode",
    "distribution_mode",
    "use_sequential_levels",
    "use_easy_jump",
    "plain_assets",
    "physics_mode",
)
AFTER_OPTIONS = ("grid_step", "level_seed_low", "level_seed_high", "game_type", "game_n")
AFTER_GENERATORS = (
    "reward:f",
    "done",
    "level_complete",
    "action",
    "timeout",
    "current_level_seed",
    "prev_level_seed",
    "episodes_remaining",
    "episode_done",
    "last_reward_timer",
    "last_reward:f",
    "default_action",
    "fixed_asset_seed",
    "cur_time",
    "is_waiting_for_step",
)


def _read(data: bytes, at: int, code: str):
    if at + 4 > len(data):
        raise BadState(f"state bytes end at {len(data)}, inside a field at {at}: truncated")
    return struct.unpack_from(code, data, at)[0]


def _string_end(data: bytes, at: int) -> int:
    length = _read(data, at, "<i")
    if not 0 <= length <= len(data) - at - 4:
        raise BadState(f"state bytes hold a string of length {length} at {at}: damaged")
    return at + 4 + length


def header_offsets(data: bytes) -> dict[str, tuple[int, str]]:
    """{field: (offset, struct code)} of the header. Raises BadState if the bytes cannot be a state."""
    end = _string_end(data, 4)
    offsets = {"version": (0, "<i")}
    at = end
    for name in HEADER_OPTIONS + AFTER_OPTIONS:
        offsets[name] = (at, "<i")
        at += 4
    for _ in range(2):  # the generator that draws level seeds, then the level's own
        at = _string_end(data, at + 4)
    for name in AFTER_GENERATORS:
        name, _, kind = name.partition(":")
        offsets[name] = (at, "<" + (kind or "i"))
        at += 4
    _read(data, at - 4, "<i")
    offsets["body"] = (at, "")
    return offsets


def game_name(data: bytes) -> str:
    """Name of the game that wrote the state."""
    return data[8 : _string_end(data, 4)].decode("ascii", errors="replace")


def read_header(data: bytes, *names: str) -> tuple:
    """Values of the named header fields, in that order."""
    offsets = header_offsets(data)
    return tuple(_read(data, *offsets[name]) for name in names)


def with_header(data: bytes, **values: int | float) -> bytes:
    """A copy of the state with the named header fields set."""
    offsets = header_offsets(data)
    out = bytearray(data)
    for name, value in values.items():
        at, code = offsets[name]
        struct.pack_into(code, out, at, value)
    return bytes(out)
