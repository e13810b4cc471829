"""Labels are the truth behind the stored frames: they agree with the parser and with the pictures, survive
kills, and refuse what is not theirs.
"""

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import label as script
from common.errors import UsageError
from envs.frame_labels import SIDE, TILE_KINDS
from envs.procgen_body import State, parse
from generative.model.motion import estimate_motion
from rollouts import labelling
from rollouts.labelling import label
from rollouts.labels import FOLDER, BadLabels, Labels
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts
from tests.helpers.coinrun_runner import record_runner, save_runner
from tests.helpers.made_store import make_store
from tests.rollouts.test_states import falsified, flip_last_pixel, record_random

ROOT = Path(__file__).parents[2]
EPISODES = 10
PER_SHARD = 2
SHARDS = EPISODES // PER_SHARD
PAIRS = 150
"""Pairs of frames, about, that a comparison with the picture looks at."""
KIND = {name: kind for kind, name in enumerate(TILE_KINDS)}

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A labelled store; tests that change files take `copied`."""
    root = tmp_path_factory.mktemp("labels")
    agent_file = save_runner(root / "agent.safetensors")
    rollouts = record_runner(root / "store", agent_file, EPISODES, per_shard=PER_SHARD)
    label(rollouts, range(SHARDS), num_threads=1)
    return rollouts


@pytest.fixture
def copied(store, tmp_path) -> Rollouts:
    return Rollouts.open(shutil.copytree(store.path, tmp_path / "store"))


@pytest.fixture
def bare(copied) -> Rollouts:
    """A copy without labels."""
    shutil.rmtree(copied.path / FOLDER)
    return copied


def checksums(path: Path) -> dict[str, str]:
    files = sorted((path / FOLDER).glob("labels_*"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def column(store: Rollouts, name: str) -> np.ndarray:
    labels = Labels.open(store)
    return np.concatenate([labels.column(index, name) for index in range(len(store.entries))])


# the parser


def parsed_labels(state: State, unit: float) -> dict[str, np.ndarray]:
    """Labels of one state by loops, in the game's own coordinates (y upwards)."""
    scene, player = state.scene, state.player
    height, width = state.grid.shape
    top = float(scene["view_dim"]) + float(scene["y_off"]) / unit  # world y at the upper edge of the frame
    left = float(scene["x_off"]) / unit
    tiles = np.zeros((SIDE, SIDE), int)
    names = {16: "wall top", 15: "wall inner", 18: "lava top", 17: "lava inner", 1: "coin"}
    things = {20: "crate", 2: "saw", 5: "enemy"}
    for i in range(SIDE):
        for j in range(SIDE):
            y = int(np.ceil(top - 1e-5)) - 1 - i
            x = int(np.floor(left + 1e-5)) + j
            if not (0 <= y < height and 0 <= x < width):
                tiles[i, j] = KIND["outside"]
                continue
            there = [
                KIND[things[int(thing["type"])]]
                for thing in state.entities
                if int(thing["type"]) in things and (int(thing["x"] // 1), int(thing["y"] // 1)) == (x, y)
            ]
            tiles[i, j] = max(there, default=KIND[names.get(int(state.grid[y, x]), "empty")])
    return {
        "position": np.array([(height - top) * unit, left * unit]),
        "velocity": np.array([-player["vy"], player["vx"]]),
        "support": np.array(int(state.tail["has_support"]) + 2 * int(state.tail["is_on_crate"])),
        "facing": np.array(int(state.tail["facing_right"])),
        "tiles": tiles,
    }


def test_labels_are_those_of_the_parser(store):
    table = store.step_table()
    chosen = np.random.default_rng(0).choice(len(table), 60, replace=False)
    states = replay_states(store, *table[chosen].T)
    unit = Labels.open(store).unit
    columns = {name: column(store, name) for name in Labels.open(store).fields}
    for row, snapshot in zip(chosen, states):
        for name, expected in parsed_labels(parse(snapshot.data), unit).items():
            np.testing.assert_allclose(columns[name][row], expected, atol=1e-4, err_msg=name)


def test_the_page_lists_the_kinds_of_tiles_in_their_order():
    assert ", ".join(TILE_KINDS) in (ROOT / "docs" / "data_format.md").read_text()


# the pictures


def motion_faults(store: Rollouts, position: np.ndarray) -> set[str]:
    """Ways in which the motion of the picture contradicts positions [num_steps, 2]."""
    table = store.step_table()
    row = np.flatnonzero(table[:-1, 0] == table[1:, 0])
    motion = position[row] - position[row + 1]
    moved = np.flatnonzero((np.abs(motion).max(1) > 1) & (np.abs(motion).max(1) < 10))
    moved = moved[:: max(len(moved) // PAIRS, 1)]
    row, motion = row[moved], motion[moved]
    obs = store.steps("obs")
    before, after = obs[row].astype(np.float64), obs[row + 1].astype(np.float64)
    estimated = estimate_motion(torch.from_numpy(np.stack([obs[row], obs[row + 1]])))[0].numpy()
    found = set()
    if np.median(np.abs(estimated - motion).max(1)) > 0.5 or (np.abs(estimated - motion) < 1).mean() < 0.95:
        found.add("estimate")
    whole = np.round(motion).astype(int)
    offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    errors = [shift_error(before, after, whole + offset) for offset in offsets]
    if offsets[int(np.argmin(errors))] != (0, 0):
        found.add("shift")
    return found


def shift_error(before: np.ndarray, after: np.ndarray, shifts: np.ndarray) -> float:
    """Mean squared error over the overlap of frames [n, H, W, C] shifted down and right by [n, 2]."""
    size = before.shape[1]
    total = []
    for old, new, (down, right) in zip(before, after, shifts):
        into = np.s_[max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
        source = np.s_[max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)]
        total.append(((new[into] - old[source]) ** 2).mean())
    return float(np.mean(total))


def test_positions_move_as_the_picture_does(store):
    assert motion_faults(store, column(store, "position")) == set()


@pytest.mark.parametrize(
    "mutate",
    [
        lambda position: position * [-1, 1],
        lambda position: position * [1, -1],
        lambda position: position[:, ::-1],
        lambda position: np.roll(position, 1, 0),
        lambda position: np.roll(position, -1, 0),
        lambda position: position * 1.5,
    ],
    ids=["rows upwards", "columns leftwards", "axes swapped", "a step late", "a step early", "scaled"],
)
def test_wrong_positions_contradict_the_picture(store, mutate):
    assert motion_faults(store, mutate(column(store, "position")))


def tile_agreement(store: Rollouts, tiles: np.ndarray) -> float:
    """Share of tiles whose middle pixel is black where they are empty, and is not where they are solid; tiles
    with things in them and the player's surroundings are left out.
    """
    position = column(store, "position")
    unit = Labels.open(store).unit
    corner = np.floor(position / unit)
    # [num_steps, 2, SIDE]: the pixel row, and the pixel column, of the middle of each row and column of tiles
    middles = (corner[..., None] + np.arange(SIDE) + 0.5) * unit - position[..., None]
    rows, columns = np.broadcast_arrays(
        *(np.floor(pixel).astype(int) for pixel in (middles[:, 0, :, None], middles[:, 1, None, :]))
    )
    size = store.step_fields["obs"].shape[0]
    player = (np.abs(rows - size // 2) < 2 * unit) & (np.abs(columns - size // 2) < 2 * unit)
    seen = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size) & ~player
    solid = np.isin(tiles, [KIND[name] for name in ("wall inner", "lava inner", "outside", "crate")])
    known = seen & (solid | (tiles == KIND["empty"]))
    step, _, _ = np.nonzero(known)
    pixels = store.steps("obs")[step, rows[known], columns[known]]
    return float(((pixels.max(-1) > 0) == solid[known]).mean())


def test_tiles_stand_where_the_frame_shows_them(store):
    tiles = column(store, "tiles")
    right = tile_agreement(store, tiles)
    assert right > 0.99
    for wrong in (np.roll(tiles, 1, 1), np.roll(tiles, 1, 2), np.roll(tiles, 1, 0), tiles[:, ::-1]):
        assert tile_agreement(store, wrong) < right


def test_velocity_is_the_last_move_of_a_free_player(store):
    """The player is the camera: it moves by its velocity unless it touches something."""
    table = store.step_table()
    row = np.flatnonzero(table[:-1, 0] == table[1:, 0])
    position = column(store, "position") / Labels.open(store).unit
    moved = position[row + 1] - position[row]
    assert (np.abs(moved - column(store, "velocity")[row + 1]) < 1e-3).mean() > 0.9


def test_another_game_has_position_and_velocity(tmp_path):
    store = record_random(tmp_path / "ninja", "ninja", 2)
    label(store, [0], num_threads=1)
    assert list(Labels.open(store).fields) == ["position", "velocity"]
    assert motion_faults(store, column(store, "position")) == set()
    with pytest.raises(UsageError, match="no label 'tiles' .* it has: position, velocity"):
        Labels.open(store).column(0, "tiles")


# windows


def test_windows_bring_labels_along(store):
    labels = Labels.open(store)
    windows = store.windows(30, labels=labels)
    indices = np.random.default_rng(0).integers(0, len(windows), 40)
    segment = windows.batch(indices)
    plain = store.windows(30).batch(indices)
    for name, field in labels.fields.items():
        flat = column(store, name)
        expected = np.zeros((30, 40, *field.shape), field.dtype)
        for b, (episode, start) in enumerate(windows.table[indices]):
            count = min(30, store.episodes["length"][episode] - start)
            first = store.first_step[episode] + start
            expected[:count, b] = flat[first : first + count]
        np.testing.assert_array_equal(segment.extra.pop(name).numpy(), expected)
    assert segment.extra.keys() == plain.extra.keys()
    assert torch.equal(segment.obs, plain.obs)
    assert torch.equal(segment.hidden, plain.hidden)


def test_windows_of_another_store_are_refused(store, tmp_path):
    other = make_store(tmp_path / "other", [5, 6])
    with pytest.raises(ValueError, match="another store"):
        other.windows(3, labels=Labels.open(store))


def test_labels_go_to_another_process(store):
    labels = pickle.loads(pickle.dumps(Labels.open(store.path)))
    rows = np.array([3, 0, 3])
    np.testing.assert_array_equal(labels.rows(1, "tiles", rows), labels.column(1, "tiles")[rows])


# resuming


def test_shards_apart_and_other_threads_give_the_same_bits(store, bare):
    script.main(script.Args(bare.path, job=(1, 2), num_threads=2))
    assert (bare.path / FOLDER / "labels_00001.json").exists()
    with pytest.raises(BadLabels, match=r"shard 0 .* has no labels: .*label.py --data_dir"):
        Labels.open(bare)
    written = {path: path.stat().st_mtime_ns for path in (bare.path / FOLDER).glob("labels_*")}
    script.main(script.Args(bare.path))
    assert checksums(bare.path) == checksums(store.path)
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())


def test_a_grown_store_needs_labels_for_its_new_shards(store, copied, tmp_path):
    record_runner(copied.path, save_runner(tmp_path / "agent.safetensors"), EPISODES + 2, per_shard=PER_SHARD)
    grown = Rollouts.open(copied.path)
    with pytest.raises(BadLabels, match="one that has grown since"):
        Labels.open(grown)
    label(grown, range(SHARDS + 1), num_threads=1)
    assert checksums(store.path).items() < checksums(grown.path).items()
    Labels.open(grown)


def test_a_finished_sidecar_is_left_alone(copied, monkeypatch):
    monkeypatch.setattr(labelling, "replay_env", None)
    assert label(copied, range(SHARDS)).steps == 0


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_killed_labelling_ends_with_the_same_bits(store, bare, kill, code):
    command = [sys.executable, "label.py", "--data_dir", str(bare.path), "--num_threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not (bare.path / FOLDER / "labels_00000.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(kill)
    said = process.communicate()[1]
    done = len(list((bare.path / FOLDER).glob("labels_*.json")))
    assert process.returncode == code
    assert "Traceback" not in said
    assert 1 <= done < SHARDS
    if kill == signal.SIGTERM:
        assert f"{done} of {SHARDS} shards are labelled in {bare.path / FOLDER}" in said
    script.main(script.Args(bare.path))
    assert checksums(bare.path) == checksums(store.path)
    assert not [path for path in (bare.path / FOLDER).iterdir() if path.name.startswith(".")]


# damage


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "a flipped byte": (lambda at: flip_byte(at / "labels_00001.safetensors"), "does not match its checksum"),
    "cut short": (lambda at: cut_short(at / "labels_00001.safetensors"), "bytes of .* truncated or missing"),
    "no data": (lambda at: (at / "labels_00001.safetensors").unlink(), "truncated or missing"),
    "no entry": (lambda at: (at / "labels_00001.json").unlink(), "shard 1 .* has no labels"),
    "not JSON": (lambda at: (at / "labels_00001.json").write_text("{"), "labels_00001.json"),
    "another shard": (
        lambda at: edit(at / "labels_00001.json", shard_sha256="0" * 64),
        "labels another recording of its shard",
    ),
    "another schema": (lambda at: edit(at / "labels_00001.json", schema=99), "schema 99; this version"),
    "no size": (lambda at: edit(at / "labels_00001.json", data={}), "bytes of .* truncated or missing"),
    "no manifest": (lambda at: (at / "manifest.json").unlink(), "has no labels: .*trains without labels"),
    "another store": (lambda at: edit(at / "manifest.json", store="abc"), "labels of store 'abc'"),
    "another manifest": (lambda at: edit(at / "manifest.json", schema=0), "schema 0; this version"),
    "another unit": (lambda at: edit(at / "manifest.json", unit=4.0), "match its own checksum"),
    "other fields": (lambda at: edit(at / "manifest.json", fields={}), "match its own checksum"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_the_command_replaces_it(store, copied, damage):
    change, message = DAMAGE[damage]
    change(copied.path / FOLDER)
    with pytest.raises(UsageError, match=message) as refused:
        Labels.open(copied).column(1, "tiles")
    assert "\n" not in str(refused.value)
    assert f"label.py --data_dir {copied.path}" in str(refused.value)
    label(copied, range(SHARDS), num_threads=1)
    assert checksums(copied.path) == checksums(store.path)
    Labels.open(copied).column(1, "tiles")


def test_the_sidecar_of_another_store_is_refused(store, tmp_path):
    other = record_runner(tmp_path / "other", save_runner(tmp_path / "agent.safetensors"), 2, seed=9)
    shutil.copytree(store.path / FOLDER, other.path / FOLDER)
    with pytest.raises(BadLabels, match=f"labels of store '{store.id}', and .* is {other.id}"):
        Labels.open(other)


def test_stores_without_a_readable_game_are_refused(tmp_path):
    made = make_store(tmp_path / "made", [5, 6])
    for use in (Labels.open, lambda store: label(store, [0])):
        with pytest.raises(UsageError, match="does not name a Procgen game.* trains without labels"):
            use(made)
    made.manifest["simulated"] = True
    with pytest.raises(UsageError, match="simulated"):
        label(made, [0])
    assert not (made.path / FOLDER).exists()


def test_a_frame_that_does_not_replay_is_named(bare):
    with pytest.raises(UsageError, match=r"episode \d of .* does not replay: its frame at step"):
        label(falsified(bare, obs=flip_last_pixel), [0], num_threads=1)
    assert checksums(bare.path) == {}


def test_a_shard_in_the_hands_of_another_process_is_refused(bare):
    (bare.path / FOLDER).mkdir()
    lock = bare.path / FOLDER / ".labels_00001.lock"
    take = (
        "import sys; from pathlib import Path; from common.locks import hold; kept ="
        " hold(Path(sys.argv[1])); print(); sys.stdin.read()"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", take, str(lock)], cwd=ROOT, **pipes) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match=f"shard 1 .* is being labelled by process {other.pid} "):
            label(bare, range(SHARDS), num_threads=1)
        other.kill()
    label(bare, range(SHARDS), num_threads=1)
    Labels.open(bare)


def test_a_lock_that_a_kill_left_behind_the_last_shard_is_removed(copied):
    lock = copied.path / FOLDER / ".labels_00000.lock"
    lock.write_text("process 1 on here")
    label(copied, [0])
    assert not lock.exists()


def test_levels_at_several_scales_are_refused(bare, monkeypatch):
    env = replay_env(bare, 2)
    with pytest.raises(UsageError, match="several scales"):
        labelling.label_shard(bare, 0, env, unit=5.0)
    env.close()
