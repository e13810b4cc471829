"""Policy fields: a policy with a known field is drawn right, and comparisons are what they say."""

import json

import matplotlib
import numpy as np
import pytest
import torch

from analysis import policy_field_plotting, policy_field_precompute
from analysis.interventions import policy_fields
from analysis.interventions.policy_field_figure import cell_values, draw_panel, panels
from analysis.interventions.policy_fields import (
    MOVED,
    ORIGINAL,
    choose_levels,
    class_moves,
    field_of,
    frames_at,
    level_fields,
    summarize_changes,
)
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_numbers, read_part
from analysis.plotting.style import new_figure
from common.cli import parse
from common.policy import CategoricalPolicy
from common.runs import UsageError
from envs.coinrun import COIN
from envs.make import make_env
from envs.procgen import ProcgenConfig
from interpret.policy_field import policy_field

pytestmark = pytest.mark.usefixtures("float32")
LEFT, NOOP, RIGHT, UP = 1, 4, 7, 5
FIRST = 100_005
HEADROOM = 3


class CoinSeeker(CategoricalPolicy):
    """Goes to the side on which it sees the coin, up where it sees none; its value is how often it has seen
    something.
    """

    num_actions = 15

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, 3)

    def advance(self, obs, state, first, reward):
        red, green, blue = obs.float().unbind(-1)
        yellow = (red > 180) & (green > 140) & (blue < 80)
        left, right = yellow[:, :, :32].any((1, 2)), yellow[:, :, 32:].any((1, 2))
        count = state[:, 2].masked_fill(first, 0.0) + 1
        return torch.stack([left.float(), right.float(), count], 1)

    def heads(self, state):
        logits = torch.full((len(state), 15), -1e9)
        logits[:, UP] = 0.0
        logits[:, LEFT], logits[:, RIGHT] = 2e3 * state[:, 0] - 1e3, 4e3 * state[:, 1] - 1e3
        return logits, state[:, 2]


@pytest.fixture(scope="module")
def env():
    made = make_env(32, ProcgenConfig())
    yield made
    made.close()


@pytest.fixture(scope="module")
def level(env):
    return choose_levels(env, FIRST, 1, 20, None)[0]


def wanted_moves(state, x, y) -> np.ndarray:
    """Where the coin seeker goes, from the state alone; NaN where the coin lies at the edge of the screen or
    above the player.
    """
    row, column = np.argwhere(state.grid == COIN)[0]
    right, up = column + 0.5 - x, row + 0.5 - y
    seen = (np.abs(right) < 6) & (np.abs(up) < 6)
    unseen = (np.abs(right) > 7.5) | (np.abs(up) > 7.5)
    moves = np.full((len(x), 2), np.nan)
    moves[unseen] = 0, 1
    moves[seen & (right > 1)] = 1, 0
    moves[seen & (right < -1)] = -1, 0
    return moves


@pytest.fixture(scope="module")
def drawn(env, level):
    return level_fields(env, {ORIGINAL: CoinSeeker()}, level, HEADROOM, [1, 3])


def mismatch(drawn, level, env, variant=ORIGINAL) -> float:
    """Share of places with a known move at which the field shows another one."""
    state = level.moved if variant == MOVED else level.state
    moves = wanted_moves(state, drawn["x"], drawn["y"])
    known = ~np.isnan(moves[:, 0])
    assert len(np.unique(moves[known], axis=0)) >= 2
    found = field_of(drawn, variant, 1).expected_move(class_moves(env))
    return (np.abs(found - moves)[known] > 1e-6).any(1).mean()


@pytest.mark.parametrize("variant", [ORIGINAL, MOVED])
def test_the_field_of_a_known_policy_is_found_everywhere(drawn, level, env, variant):
    assert mismatch(drawn, level, env, variant) == 0


def test_a_shifted_grid_is_caught(level, env, monkeypatch):
    monkeypatch.setattr(
        policy_fields, "frames_at", lambda env, state, x, y: frames_at(env, state, np.roll(x, 9), y)
    )
    assert mismatch(level_fields(env, {ORIGINAL: CoinSeeker()}, level, HEADROOM, [1]), level, env) > 0.05


def test_a_frame_is_shown_as_often_as_asked(drawn):
    for count in (1, 3):
        np.testing.assert_array_equal(field_of(drawn, ORIGINAL, count).value, count)


def test_batches_do_not_matter(env, level):
    frames = frames_at(env, level.state, [3.5, 4.5, 5.5], [8.0, 8.0, 8.0])
    one, many = (policy_field(CoinSeeker(), frames, 2, env.effect_classes, batch) for batch in (1, 64))
    np.testing.assert_array_equal(one.probabilities, many.probabilities)
    np.testing.assert_allclose(one.probabilities.sum(1), 1)


def test_moves_are_those_of_the_names(env):
    names = [env.action_names[one] for one in np.unique(env.effect_classes)]
    moves = dict(zip(names, class_moves(env).tolist()))
    assert moves["right"] == [1, 0]
    assert moves["up-left"] == [-1, 1]
    assert moves["none"] == [0, 0]


def test_differences_are_means_over_places_then_levels(env, level, drawn):
    moves = class_moves(env)
    pairs = {"moved": ((MOVED, 1), (ORIGINAL, 1)), "seen": ((ORIGINAL, 3), (ORIGINAL, 1))}
    found = summarize_changes([drawn, drawn], pairs, moves)
    one, other = field_of(drawn, MOVED, 1), field_of(drawn, ORIGINAL, 1)
    tv = (np.abs(one.probabilities - other.probabilities).sum(1) / 2).mean()
    np.testing.assert_allclose(found["moved"]["all places"]["total_variation"], [tv] * 3)
    right = (one.probabilities - other.probabilities)[drawn["supported"]] @ moves[:, 0]
    np.testing.assert_allclose(found["moved"]["on the ground"]["right"], [right.mean()] * 3)
    np.testing.assert_allclose(found["seen"]["all places"]["value"], [2] * 3)


def test_states_far_from_recorded_ones_are_beyond(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(policy_fields, "real_states", lambda rollouts, seed: rng.normal(size=(2000, 4)))
    near = rng.normal(size=(200, 4))
    level = {
        f"{name}/1/{key}": value
        for name, hidden in (("near", near), ("far", near + 10))
        for key, value in (("probabilities", 0), ("value", 0), ("hidden", hidden))
    }
    shares = policy_fields.shares_beyond([level], {name: (name, 1) for name in ("near", "far")}, None, 0)
    assert shares["near"][0] < 0.1
    assert shares["far"][0] == 1


def test_the_panel_shows_arrows_and_values_at_their_places(drawn, env):
    extent = [0, 32, 0, 18]
    numbers = {
        "asked": {"frames_shown": 1}, "frames_shown": {"3": {}}, "drawn": {"moves": class_moves(env).tolist()}
    }  # fmt: skip
    pictures = {f"picture/{name}": np.zeros((80, 150, 3), np.uint8) for name in (ORIGINAL, MOVED)}
    fields, changes = panels(numbers, drawn | pictures)
    assert [panel.title for panel in fields] == [ORIGINAL, MOVED]
    _, axes = new_figure()
    image = draw_panel(axes[0, 0], fields[1], drawn, extent, "viridis", (0, 3))
    (arrows,) = [one for one in axes[0, 0].collections if isinstance(one, matplotlib.quiver.Quiver)]
    np.testing.assert_allclose(arrows.XY, np.stack([drawn["x"], drawn["y"]], 1))
    wanted = field_of(drawn, MOVED, 1).expected_move(class_moves(env))
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), wanted)
    (row, column) = int(drawn["y"][7]), int(drawn["x"][7])
    assert image.get_array()[row, column] == field_of(drawn, MOVED, 1).value[7]
    np.testing.assert_allclose(changes[1].arrows, wanted - fields[0].arrows)


def test_values_fall_into_their_cells():
    image = cell_values(
        np.array([5.0, 7.0, 9.0]), np.array([2.5, 3.5, 2.5]), np.array([1.6, 0.6, 9.6]), [2, 4, 0, 3]
    )
    np.testing.assert_array_equal(image, [[np.nan, 7], [5, np.nan], [np.nan, np.nan]])


def run(world, directions_file, out, words=""):
    edits = out.parent / "edits.json"
    edits.write_text(
        json.dumps({"edits": [{"kind": "add", "directions": [0], "values": [3.0], "mode": "state"}]})
    )
    common = f"--agent_file {world.agent_file} --data_dir {world.store.path} --num_levels 1 --least_width 20 "
    common += f"--start_level {FIRST} --edits {edits} --direction_files {directions_file} --headroom 2 "
    common += f"--compared_frames 1 --frames_shown 2 --num_steps 6 --device cpu --out_dir {out} "
    policy_field_precompute.main(parse(policy_field_precompute.Args, "", (common + words).split()))
    directory = (out / "policy_field_precomp" / "latest").resolve()
    return read_numbers(directory), directory


@pytest.fixture(scope="module")
def base(world, directions_file, tmp_path_factory):
    return *run(world, directions_file, tmp_path_factory.mktemp("field") / "out"), directions_file


def test_the_step_writes_numbers_and_a_picture(base):
    numbers, directory, _ = base
    assert set(numbers["changes"]) == {MOVED, "direction edited"}
    assert numbers["places"] == numbers["drawn"]["places"] == len(read_part(directory, "drawn")["x"])
    assert set(numbers["recorded"]["total_variation"]) == {"1", "2", "another step"}
    assert set(numbers["beyond"]) == {ORIGINAL, MOVED, "direction edited"}
    assert all(0 <= share[0] <= 1 for share in numbers["beyond"].values())
    out = directory.parents[1]
    policy_field_plotting.main(parse(PlotArgs, "", ["--out_dir", str(out), "--images", str(out / "images")]))
    assert (out / "images" / "policy_field.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    "words",
    ["--start_level 100010", "--coin_column 3", "--headroom 3", "--frames_shown 3", "--num_levels 2",
     "--compared_frames 4", "--num_steps 4", "--seed 1", "--least_width 34"],
)  # fmt: skip
def test_every_flag_changes_the_numbers(base, world, tmp_path, words):
    numbers, _, directions_file = base
    changed, _ = run(world, directions_file, tmp_path / "out", words)
    assert {**changed, "asked": 0} != {**numbers, "asked": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_levels 0", "num_levels"),
        ("--compared_frames 0", "from 1 on"),
        ("--least_width 60 --num_levels 1", "lower --least_width"),
        ("--coin_column 0", "cannot stand"),
    ],
)
def test_impossible_flags_are_refused(world, directions_file, tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        run(world, directions_file, tmp_path / "out", words)
