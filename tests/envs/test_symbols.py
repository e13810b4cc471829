"""Reading many states at once agrees with the one-by-one parser for every game; invalid bytes are refused."""

import numpy as np
import pytest

from envs.make import make_env
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv
from envs.procgen_body import TAILS, parse, serialize
from envs.procgen_state import BadState
from envs.symbols import OUTSIDE, read_symbols


def states_of(game: str, modes=("easy", "hard"), steps: int = 8) -> list[bytes]:
    """Two slots' states after a little random play, in each mode."""
    states = []
    rng = np.random.default_rng(3)
    for mode in modes:
        env = ProcgenVecEnv(2, ProcgenConfig(game, distribution_mode=mode), seed=2, num_threads=0)
        for _ in range(steps):
            env.act(rng.integers(0, env.num_actions, 2))
        states += [snapshot.data for snapshot in env.snapshot()]
        env.close()
    return states


def assert_same(symbols, parsed) -> None:
    assert len(symbols) == len(parsed)
    assert symbols.game == parsed[0].game
    assert symbols.header.tobytes() == b"".join(state.header.tobytes() for state in parsed)
    assert symbols.scene.tobytes() == b"".join(state.scene.tobytes() for state in parsed)
    assert symbols.player.tobytes() == b"".join(state.player.tobytes() for state in parsed)
    for i, state in enumerate(parsed):
        height, width = state.grid.shape
        assert symbols.entities[symbols.owner == i].tobytes() == state.entities.tobytes()
        assert np.array_equal(symbols.grid[i, :height, :width], state.grid)
        outside = symbols.grid[i].copy()
        outside[:height, :width] = OUTSIDE
        assert (outside == OUTSIDE).all()
    assert (symbols.tail is None) == (symbols.game not in TAILS)
    assert symbols.tail is None or symbols.tail.tobytes() == b"".join(
        state.tail.tobytes() for state in parsed
    )


@pytest.mark.parametrize("game", GAMES)
def test_all_fields_are_the_parsers(game):
    data = states_of(game)
    assert_same(read_symbols(data), [parse(one) for one in data])


def test_worlds_of_several_sizes_are_filled_up():
    data = states_of("maze")
    sizes = {parse(one).grid.shape for one in data}
    symbols = read_symbols(data)
    assert len(sizes) > 1
    assert symbols.grid.shape[1:] == max(sizes)
    assert (symbols.grid == OUTSIDE).any()


def test_of_several_players_the_last_counts_and_none_is_refused():
    two, none = (parse(one) for one in states_of("coinrun", ["easy"]))
    two.entities = np.concatenate([two.entities, two.player[None]])
    two.entities["x"][-1] += 3
    assert_same(read_symbols([serialize(two)]), [parse(serialize(two))])
    none.entities["type"][none.entities["type"] == 0] = 20
    with pytest.raises(BadState, match="no player"):
        read_symbols([serialize(two), serialize(none)])


@pytest.mark.parametrize("blink", [False, True])
def test_an_environment_gives_the_symbols_of_its_slots(blink):
    env = make_env(3, ProcgenConfig(blink=blink), num_threads=0)
    env.open_levels(range(3), [10, 11, 12])
    env.act(np.full(3, 7))
    assert_same(env.symbols(), [parse(one.data) for one in env.snapshot()])
    assert env.symbols([2, 0]).header["current_level_seed"].tolist() == [12, 10]


def test_damaged_states_are_refused():
    """Whatever is read of damaged bytes the parser reads too, and alike."""
    whole, _ = states_of("coinrun", ["easy"])
    rng = np.random.default_rng(0)
    refused = 0
    for length in (0, 3, 20, 500, 7000, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        with pytest.raises(BadState):
            read_symbols([whole, whole[:length]])
    for _ in range(300):
        damaged = bytearray(whole)
        at = int(rng.integers(0, len(whole)) if rng.random() < 0.5 else rng.integers(0, 120))
        damaged[at : at + 4] = rng.bytes(4)
        try:
            symbols = read_symbols([bytes(damaged)])
        except BadState:
            refused += 1
            continue
        try:
            parsed = parse(bytes(damaged))
        except BadState as error:
            assert "generator" in str(error)  # noqa: PT017  # whose numbers are not looked at here
            continue
        assert_same(symbols, [parsed])
    assert refused > 5
    with pytest.raises(BadState, match="end marker"):
        read_symbols([whole + b"\x00" * 4])
    with pytest.raises(BadState, match="one game, found b'coinrun', b'maze'"):
        read_symbols([whole, states_of("maze", ["easy"])[0]])
    with pytest.raises(ValueError, match="no states"):
        read_symbols([])
