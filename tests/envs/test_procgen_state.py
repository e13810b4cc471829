"""States parse and serialise exactly, damaged ones are refused, and edited ones are true counterfactuals."""

import subprocess
import sys

import numpy as np
import pytest

from envs import coinrun
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import parse, serialize
from envs.procgen_state import BadState, game_name, read_header, with_header
from tests.helpers.coinrun_states import coin_cell

GIVES_THE_GAME_WHAT_IT_READS = """
import sys
from envs.procgen import ProcgenConfig, ProcgenVecEnv
ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)._set_state_bytes(0, sys.stdin.buffer.read())
"""


def play(game: str, mode: str = "easy", steps: int = 60, num: int = 2) -> list[bytes]:
    """States met along random play."""
    env = ProcgenVecEnv(num, ProcgenConfig(env_name=game, distribution_mode=mode), seed=4, num_threads=0)
    rng = np.random.default_rng(4)
    states = []
    for t in range(steps):
        if t % 15 == 0:
            states += [snapshot.data for snapshot in env.snapshot()]
        env.act(rng.integers(0, env.num_actions, num))
    env.close()
    return states


def open_state(env: ProcgenVecEnv, seed: int):
    env.open_level(0, seed)
    return parse(env.snapshot([0])[0].data)


def show(env: ProcgenVecEnv, state) -> np.ndarray:
    env.restore([Snapshot(serialize(state))], [0])
    return env.observe()[1][0]


@pytest.fixture(scope="module")
def env():
    env = ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def data() -> bytes:
    return play("coinrun", "hard")[-1]


@pytest.mark.parametrize("game", GAMES)
def test_round_trip_is_bit_identical(game):
    for data in play(game) + play(game, "hard", steps=16):
        state = parse(data)
        assert serialize(state) == data
        assert state.game == game_name(data) == game
        assert state.header["cur_time"] == read_header(data, "cur_time")[0]


def test_fields_mean_what_they_say(env):
    state = open_state(env, 7)
    assert state.header["current_level_seed"] == 7
    assert state.header["timeout"] == 1000
    assert state.header["cur_time"] == 0
    assert state.grid.shape == (64, 64)
    assert (state.grid[0, 1:5] == coinrun.WALLS[1]).all()
    assert (state.player["x"], state.player["rx"]) == (1.5, 0.5)
    assert state.tail["gravity"] == np.float32(0.2)
    assert state.tail["facing_right"] == 1
    env.act(np.array([7]))
    env.act(np.array([7]))
    moved = parse(env.snapshot()[0].data)
    assert moved.player["x"] > state.player["x"]
    assert moved.player["vx"] > 0
    assert moved.header["cur_time"] == 2


def test_header_edits_touch_nothing_else(data):
    edited = with_header(data, level_seed_low=5, last_reward=2.5)
    assert read_header(edited, "level_seed_low", "last_reward") == (5, 2.5)
    assert (
        with_header(
            edited,
            **dict(
                zip(("level_seed_low", "last_reward"), read_header(data, "level_seed_low", "last_reward"))
            ),
        )
        == data
    )


def test_truncated_bytes_are_refused(data):
    for length in [*range(0, 400, 7), *range(400, len(data), 997), len(data) - 4, len(data) - 1]:
        with pytest.raises(BadState):
            parse(data[:length])
        if length < 6000:
            with pytest.raises(BadState):
                read_header(data[:length], "is_waiting_for_step")


def mutants(data: bytes, count: int):
    """Damaged copies: flipped bytes, extreme words, cuts, insertions, repeats and noise."""
    rng = np.random.default_rng(0)
    extremes = [
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\x00\x80",
        b"\x00\x00\x00\x00",
        b"\x00\x00\xc0\x7f",
    ]
    for _ in range(count):
        at = int(rng.integers(0, len(data)))
        out = bytearray(data)
        kind = rng.integers(0, 5)
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[at : at + 4] = extremes[rng.integers(0, len(extremes))]
        elif kind == 2:
            del out[at : at + int(rng.integers(1, 9))]
        elif kind == 3:
            out[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            out[at : at + 64] = rng.bytes(64)
        yield bytes(out)


@pytest.mark.parametrize("game", ["coinrun", "heist", "starpilot"])
def test_damaged_bytes_never_crash_the_reader(game):
    data = play(game)[-1]
    short = data[:200] + data[-900:]
    for damaged in [
        *mutants(data, 1000),
        *mutants(short, 200),
        b"",
        b"\x00" * 4000,
        np.random.default_rng(1).bytes(4000),
    ]:
        try:
            state = parse(damaged)
        except BadState:
            continue
        assert serialize(state) == damaged


def test_every_count_and_length_is_checked(data):
    """Each word of the bytes in turn becomes -1, then a large number: counts and lengths among them must be
    caught.
    """
    words = set(range(0, 200)) | set(range(200, len(data) // 4, 41))
    refused = 0
    for word in words:
        for value in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x0f"):
            try:
                parse(data[: 4 * word] + value + data[4 * word + 4 :])
            except BadState:
                refused += 1
    assert refused > 10


def test_parts_that_contradict_each_other_are_refused(data):
    short, letters, no_player, upside_down = (parse(data) for _ in range(4))
    short.own_generator.text = short.own_generator.text[:-40]
    letters.asset_generator.text = letters.asset_generator.text.replace(b"7", b"x")
    no_player.entities["type"][no_player.entities["type"] == coinrun.PLAYER] = coinrun.CRATE
    upside_down.scene["main_width"] = upside_down.scene["main_height"] = -64
    size, negative = (np.array([*side, 64 * 64], "<i4").tobytes() for side in ((64, 64), (-64, -64)))
    for damaged in (
        serialize(short),
        serialize(letters),
        serialize(no_player),
        serialize(upside_down).replace(size, negative),
    ):
        with pytest.raises(BadState):
            parse(damaged)


def test_why_doubtful_bytes_must_not_be_restored(data):
    """Procgen ends the process, without a Python error, on bytes that parse refuses; so `restore` parses them
    first.
    """
    damaged = data[:-300]
    with pytest.raises(BadState):
        parse(damaged)
    child = subprocess.run(
        [sys.executable, "-c", GIVES_THE_GAME_WHAT_IT_READS], input=damaged, capture_output=True
    )
    assert child.returncode != 0
    assert b"Traceback" not in child.stderr


def test_moving_the_coin_moves_it_on_the_screen_and_in_the_world(env):
    seed = int(np.flatnonzero(coinrun.difficulty(np.arange(100)) == 3)[0])
    state = open_state(env, seed)
    before = show(env, state)
    row, column = coin_cell(state)
    state.grid[row, column] = coinrun.EMPTY
    state.grid[1, 3] = coinrun.COIN
    after = show(env, state)
    assert (before != after).any()
    for _ in range(6):
        env.act(np.array([7]))
        if env.observe()[2][0]:
            break
    assert env.observe()[0][0] == 10
    assert env.info()["level_complete"][0]


def test_a_deleted_saw_is_gone(env):
    levels = (open_state(env, seed) for seed in range(100))
    state = next(
        level for level in levels if coinrun.SAW in level.entities["type"] and level.entities["x"].max() < 8
    )
    before = show(env, state)
    state.entities = state.entities[state.entities["type"] != coinrun.SAW]
    assert (show(env, state) != before).any()
    assert parse(env.snapshot()[0].data).entities.tobytes() == state.entities.tobytes()


def test_velocity_is_not_on_the_screen(env):
    state = open_state(env, 3)
    before = show(env, state)
    state.player["vx"], state.player["vy"] = 0.4, -0.3
    assert (show(env, state) == before).all()
    env.act(np.array([env.noop]))
    assert parse(env.snapshot()[0].data).player["x"] > state.player["x"]
