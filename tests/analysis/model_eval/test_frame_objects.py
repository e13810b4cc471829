"""Made scenes: an object is put where it was asked for and nowhere else, the judges catch every fault, and
banks are read back whole.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from analysis import concepts_precompute, scene_bank
from analysis.probing.scene_bank_figure import draw
from analysis.probing.scene_checks import ScenePair, check_pairs
from analysis.probing.store_concepts import load_concepts
from analysis.scene_bank import Args, Setting, all_settings, collect
from common.runs import UsageError
from envs.coinrun import COIN, CRATE, ENEMY, LAVAS, SAW, WALLS
from envs.concepts import columns_of, measure
from envs.layouts import first_states
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import State, parse, serialize
from envs.scenes import ENTITY_KINDS, KINDS, NoRoom, copy, insert, templates
from envs.symbols import read_symbols
from rollouts.scene_bank import WITH, WITHOUT, SceneBank
from tests.helpers.coinrun_runner import record_runner, save_runner

CONFIG = ProcgenConfig()


@pytest.fixture(scope="module")
def env():
    env = ProcgenVecEnv(16, CONFIG, num_threads=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def opening(env) -> list[State]:
    return list(first_states(env, range(3000, 3064)))


@pytest.fixture(scope="module")
def looks(opening):
    return templates(opening)


@pytest.fixture(scope="module")
def plain(opening) -> State:
    """A player on a long level ground of height 5 in an otherwise empty world."""
    state = copy(opening[0])
    state.entities = state.entities[state.entities["type"] == 0]
    state.grid[1:-1, 1:-1] = 100
    state.grid[1:4, 1:-1], state.grid[4, 1:-1] = WALLS
    state.player["x"], state.player["y"] = 20.3, 5 + state.player["ry"]
    state.tail["last_agent_y"] = state.player["y"]
    return state


def test_templates_are_real_entities_of_each_kind(opening, looks):
    assert {kind: look["type"] for kind, look in looks.items()} == {
        "saw": SAW,
        "enemy": ENEMY,
        "crate": CRATE,
    }
    assert any((state.entities == looks["enemy"]).any() for state in opening)
    assert templates([]) == {}


def test_each_object_stands_where_it_was_asked_for(plain, looks):
    for kind, height in (
        ("saw", 0),
        ("saw", 2),
        ("enemy", 1),
        ("crate", 2),
        ("coin", 0),
        ("coin", 1),
        ("wall", 0),
        ("wall", 2),
        ("lava", 0),
        ("pit", 0),
    ):
        before = serialize(plain)
        scene, box = insert(plain, kind, 4, height, looks)
        assert serialize(plain) == before
        found = measure(read_symbols([serialize(scene), before]))
        there, tiles, rise = (found[name] for name in columns_of(kind))
        assert there.tolist() == [True, False]
        assert tiles[0] == pytest.approx(24.5 - 20.3, abs=1e-5)
        expected = {
            "wall": height + 1,
            "lava": -1.0 + 0.5 - float(plain.player["ry"]),
            "pit": -4.0,
            "crate": 0.5 - float(plain.player["ry"]),
        }
        if kind == "crate":  # of a pile the crate at the player's own height is the nearest
            assert (scene.entities["type"] == CRATE).sum() == height + 1
            assert sorted(scene.entities["y"][scene.entities["type"] == CRATE]) == [
                5.5 + i for i in range(height + 1)
            ]
        assert rise[0] == pytest.approx(
            expected.get(kind, height + 0.5 - float(plain.player["ry"])), abs=1e-5
        )
        assert (box.left, box.right) == (24, 26 if kind in ("lava", "pit") else 25)
        changed = np.nonzero(scene.grid != plain.grid)
        assert all(box.left <= c < box.right for c in changed[1])
        assert all(box.bottom <= r < box.top for r in changed[0])


def test_walls_and_pools_are_built_like_the_generators(plain, looks):
    wall = insert(plain, "wall", 2, 1, looks)[0].grid[:, 22]
    assert wall[3:8].tolist() == [WALLS[0], WALLS[0], WALLS[0], WALLS[1], 100]
    lava = insert(plain, "lava", 2, 0, looks)[0].grid
    assert (lava[4, 22:24] == LAVAS[1]).all()
    assert (lava[3, 22:24] == WALLS[0]).all()
    assert lava[4, 24] == WALLS[1]
    pit = insert(plain, "pit", 2, 0, looks)[0]
    assert (pit.grid[1:5, 22:24] == 100).all()
    assert (
        pit.entities["x"][1:].tolist(),
        pit.entities["y"][1:].tolist(),
    ) == ([22.5, 23.5], [1.5, 1.5])
    assert (insert(plain, "coin", 2, 1, looks)[0].grid == COIN).sum() == 1


def test_where_there_is_no_room_it_says_so(plain, looks):
    saw = insert(plain, "saw", 3, 0, looks)[0]
    for state, kind, tiles, height, why in (
        (saw, "coin", 3, 0, "something stands there"),
        (plain, "saw", 0, 0, "something stands there"),
        (plain, "saw", 43, 0, "beyond the world"),
        (saw, "lava", 2, 0, "something stands there"),
        (plain, "lava", 42, 0, "beyond the world"),
    ):
        with pytest.raises(NoRoom, match=why):
            insert(state, kind, tiles, height, looks)
    steps = copy(plain)
    low = copy(plain)
    steps.grid[5, 24], low.grid[2:5, 1:-1] = WALLS[1], 100
    for state, kind in ((steps, "lava"), (low, "pit")):
        with pytest.raises(NoRoom, match="ground"):
            insert(state, kind, 3, 0, looks)
    for kind, height in (("lava", 1), ("ghost", 0), ("saw", -1)):
        with pytest.raises(ValueError, match="cannot put"):
            insert(plain, kind, 3, height, looks)


def drawn(env, state: State) -> np.ndarray:
    env.restore([Snapshot(serialize(state))], [0])
    return env.observe()[1][0].copy()


def made_pair(env, plain, looks, kind="saw", tiles=3, height=0) -> ScenePair:
    scene, box = insert(plain, kind, tiles, height, looks)
    return ScenePair(kind, scene, plain, box, drawn(env, plain))


def test_good_pairs_pass_every_judge(env, plain, looks):
    assert tuple(ENTITY_KINDS) == KINDS[:3]
    pairs = [made_pair(env, plain, looks, kind, tiles) for kind in KINDS for tiles in (4,)] + [
        made_pair(env, plain, looks, "saw", 7)
    ]
    found = check_pairs(pairs, env)
    assert found.fault.tolist() == [""] * len(pairs)
    assert found.shown.tolist() == [True] * len(KINDS) + [False]
    assert found.survives.all()
    assert found.concepts["saw_ahead"][0].tolist() == [True, False]
    assert [parse(state.data).player["x"] for state in found.states[0]] == [plain.player["x"]] * 2


def test_every_fault_is_caught(env, plain, looks, monkeypatch):
    good = made_pair(env, plain, looks)
    far = made_pair(env, plain, looks, tiles=5)
    recorded = good.recorded.copy()
    recorded[0, 0, 0] ^= 1
    elsewhere = copy(good.scene)
    busy = insert(good.scene, "coin", 5, 1, looks)[0]
    elsewhere.entities["x"][-1] += 1
    doomed = copy(plain)
    onto = copy(far.scene)
    doomed.entities = np.concatenate([plain.entities, good.scene.entities[-1:]])
    doomed.entities["x"][-1] = plain.player["x"] - 0.6
    onto.entities = np.concatenate([onto.entities, doomed.entities[-1:]])
    faulty = {
        "render_mismatch": good._replace(recorded=recorded),
        "misplaced": good._replace(scene=elsewhere),
        "leaked_pixels": good._replace(scene=busy),
        "twin ends": far._replace(
            twin=doomed, scene=insert(doomed, "saw", 5, 0, looks)[0], recorded=drawn(env, doomed)
        ),
    }
    found = check_pairs([*faulty.values()], env)
    assert dict(zip(faulty, found.fault)) == {name: name for name in faulty}
    assert check_pairs([good], Blind(env)).fault[0] == "unseen"
    monkeypatch.setattr(
        "analysis.probing.scene_checks._box_pixels",
        lambda box, *_: (np.ones((1, 64, 64), bool), np.ones(1, bool)),
    )
    assert check_pairs([far._replace(scene=onto)], env).fault[0] == "ends too soon"
    monkeypatch.setattr("analysis.probing.scene_checks.parse", lambda data: copy(plain))
    assert check_pairs([good], env).fault[0] == "unread"


class Blind:
    """The environment, but scenes look like their twins."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def observe(self):
        reward, obs, first = self.inner.observe()
        return reward, np.repeat(obs[1::2], 2, 0), first


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes")
    rollouts = record_runner(path / "store", save_runner(path / "agent.safetensors"), 24)
    concepts_precompute.main(concepts_precompute.Args(rollouts.path, path))
    return rollouts, path


SMALL = dict(
    num_scenes=12,
    kinds=("coin", "wall", "lava"),
    distances=(3, 7),
    heights=(0,),
    velocities=((0.0, 0.0), (0.5, 0.0)),
    per_layout=3,
)


@pytest.fixture(scope="module")
def bank(store) -> SceneBank:
    rollouts, path = store
    scene_bank.main(Args(rollouts.path, out_dir=path, **SMALL))
    run = (path / "scene_bank_precomp" / "latest").resolve()
    assert (run / "scenes.png").stat().st_size > 5000
    return SceneBank.open(run)


def test_a_bank_holds_what_was_asked_for(store, bank, env):
    rollouts, _ = store
    columns = bank.columns
    assert 4 <= len(bank) <= 12
    assert set(columns["distance"]) <= {3, 7}
    assert set(columns["height"]) == {0}
    assert {bank.about["kinds"][kind] for kind in columns["kind"]} <= set(SMALL["kinds"])
    assert np.unique(columns["layout"], return_counts=True)[1].max() <= 3
    assert np.array_equal(columns["vx"], np.repeat(columns["velocity"][:, :1], 2, 1))
    assert columns["support"].all()
    edge = columns["box"][:, 0] - columns["x"][:, WITH]
    assert columns["shown"][columns["distance"] == 3].all()
    assert columns["shown"][edge < 6.1].all()  # a coin's picture is transparent at its edges
    assert not columns["shown"][edge > 6.6].any()
    assert np.array_equal(columns["level"], rollouts.episodes["level_seed"][columns["episode"]])
    for side in (WITH, WITHOUT):
        env.restore(bank.snapshots(side, range(4)), range(4))
        assert np.array_equal(env.observe()[1][:4], bank.frames[:4, side])
    for i in range(len(bank)):
        assert np.array_equal(
            bank.frames[i, WITHOUT], rollouts.episode(columns["episode"][i])["obs"][columns["step"][i]]
        )


def test_every_flag_changes_the_bank(store, bank):
    rollouts, path = store
    concepts = load_concepts(rollouts, path)

    def made(**changes) -> SceneBank:
        return collect(Args(rollouts.path, **(SMALL | changes)), rollouts, concepts)

    assert np.array_equal(made().frames, bank.frames)
    other = made(distances=(4,), heights=(1,), kinds=("coin",), velocities=((0.25, 0.5),)).columns
    assert [set(other[name].ravel()) for name in ("distance", "height", "kind", "vy")] == [
        {4},
        {1},
        {KINDS.index("coin")},
        {0.5},
    ]
    assert len(made(num_scenes=2, distances=(3,), kinds=("coin",))) == 2
    assert np.unique(made(per_layout=1).columns["layout"], return_counts=True)[1].max() == 1
    assert not np.array_equal(made(seed=1).columns["episode"][:4], bank.columns["episode"][:4])


def test_settings_leave_out_what_cannot_be():
    found = all_settings(Args(velocities=((0.0, 0.0),)))
    assert Setting("saw", 0, 2, (0.0, 0.0)) in found
    assert Setting("saw", 0, 1, (0.0, 0.0)) not in found
    assert Setting("lava", 3, 0, (0.0, 0.0)) in found
    assert not any(s.kind in ("lava", "pit") and s.height for s in found)
    assert len(all_settings(Args())) == 3 * len(found)


def test_what_makes_no_sense_is_refused(store, tmp_path):
    rollouts, path = store
    for changes, message in (
        ({"kinds": ("ghost",)}, "no object 'ghost'"),
        ({"num_scenes": 0}, "num_scenes is 0"),
        ({"per_layout": 0}, "per_layout"),
        ({"distances": (-1,)}, "0 or more"),
        ({"kinds": ("lava",), "heights": (1,)}, "no setting is left"),
    ):
        with pytest.raises(UsageError, match=message):
            scene_bank.main(Args(rollouts.path, out_dir=path, **(SMALL | changes)))
    with pytest.raises(UsageError, match="no concepts of .*concepts_precompute"):
        scene_bank.main(Args(rollouts.path, out_dir=tmp_path))


def test_a_bank_comes_back_as_it_was_saved_and_damage_is_noticed(bank, tmp_path):
    bank.save(tmp_path / "bank")
    again = SceneBank.open(tmp_path / "bank")
    assert again.states == bank.states
    assert again.about == bank.about
    assert np.array_equal(again.frames, bank.frames)
    assert all(
        np.array_equal(
            again.columns[name], bank.columns[name], equal_nan=again.columns[name].dtype.kind == "f"
        )
        for name in bank.columns
    )
    data = bytearray((tmp_path / "bank" / "scenes.h5").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bank" / "scenes.h5").write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        SceneBank.open(tmp_path / "bank")
    (tmp_path / "bank" / "scenes.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(UsageError, match="damaged"):
        SceneBank.open(tmp_path / "bank")
    with pytest.raises(UsageError, match="no scene bank"):
        SceneBank.open(tmp_path)


def test_the_picture_shows_scenes_above_their_twins(bank, tmp_path):
    from PIL import Image

    first = np.asarray(Image.open(draw(bank, tmp_path / "a.png")))
    swapped = replace(bank, frames=bank.frames[:, ::-1])
    assert not np.array_equal(np.asarray(Image.open(draw(swapped, tmp_path / "b.png"))), first)
