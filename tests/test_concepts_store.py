"""Concepts of a whole store: aligned with its steps, true to its ends, resumable, and refused where there are none."""

import numpy as np
import pytest
from coinrun_runner import record_runner, save_runner
from made_store import make_store
from test_states import falsified, flip_last_pixel

import analysis.concepts as concepts_module
from analysis.concepts import ENDS, EPISODE_CONCEPTS, GROUP, load_concepts, shard_concepts
from analysis.concepts_precompute import Args, main
from common.runs import UsageError
from envs.concepts import CONCEPTS
from envs.coinrun import ENEMY, LAVAS, SAW
from envs.procgen_body import parse
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts
from rollouts.walk import walk


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Rollouts:
    path = tmp_path_factory.mktemp("concepts")
    return record_runner(path / "store", save_runner(path / "agent.safetensors"), 16)


@pytest.fixture(scope="module")
def out_dir(store, tmp_path_factory):
    """Where the store's concepts are, by the command itself."""
    path = tmp_path_factory.mktemp("precomputed")
    main(Args(store.path, path))
    return path


@pytest.fixture(scope="module")
def columns(store, out_dir):
    return load_concepts(store, out_dir)


def run_of(out_dir):
    (run,) = (out_dir / GROUP).iterdir()
    return run


def test_the_value_at_a_step_describes_the_state_in_which_its_frame_is_on_show(store, columns):
    assert columns.keys() == CONCEPTS.keys() | EPISODE_CONCEPTS.keys()
    assert all(len(column) == store.num_steps for column in columns.values())
    length = store.episodes["length"]
    pairs = np.array([(i, t) for i in range(len(store)) for t in {0, int(length[i]) // 2, int(length[i]) - 1}])
    for (i, t), saved in zip(pairs, replay_states(store, *pairs.T)):
        state, row = parse(saved.data), store.first_step[i] + t
        assert columns["x"][row] == state.player["x"] and columns["vy"][row] == state.player["vy"]
        assert columns["time_left"][row] == 1000 - t and columns["steps_left"][row] == length[i] - t


def test_ends_agree_with_the_store_and_with_who_is_near(store, columns):
    end = np.array(ENDS)[columns["end"]]
    first, last = store.first_step, store.first_step + store.episodes["length"] - 1
    assert np.array_equal(end[first], end[last])
    assert np.array_equal(end[last] == "coin", store.episodes["complete"])
    assert np.array_equal(end[last] == "time", store.episodes["end"] == "truncated")
    died = np.flatnonzero(~store.episodes["complete"] & (store.episodes["end"] == "terminated"))
    assert len(died) >= 2 and store.episodes["complete"].sum() >= 2
    for i, saved in zip(died, replay_states(store, died, store.episodes["length"][died] - 1)):
        state = parse(saved.data)
        assert end[last[i]] == nearest_hazard(state), i


def nearest_hazard(state) -> str:
    """The kind of the deadly thing that is nearest to the player."""
    rows, cols = np.nonzero(np.isin(state.grid, LAVAS))
    places = {kind: state.entities[state.entities["type"] == type_] for kind, type_ in (("saw", SAW), ("enemy", ENEMY))}
    distance = {kind: np.hypot(e["x"] - state.player["x"], e["y"] - state.player["y"]).min(initial=99) for kind, e in places.items()}
    distance["lava"] = np.hypot(cols + 0.5 - state.player["x"], rows + 0.5 - state.player["y"]).min(initial=99)
    return min(distance, key=distance.get)


def test_the_same_command_goes_on_where_it_was_and_says_so(store, out_dir, columns, monkeypatch):
    run, made = run_of(out_dir), []
    monkeypatch.setattr("analysis.concepts_precompute.shard_concepts", lambda *words: made.append(words) or shard_concepts(*words))
    main(Args(store.path, out_dir))
    assert made == [] and list((out_dir / GROUP).iterdir()) == [run]
    (run / "done.json").unlink()
    with pytest.raises(UsageError, match="concepts_precompute --data_dir"):
        load_concepts(store, out_dir)
    main(Args(store.path, out_dir))  # its shard is there
    assert made == []
    main(Args(store.path, out_dir, new=True))
    assert len(made) == 1 and len(list((out_dir / GROUP).iterdir())) == 2
    for shard in run.glob("shard_*"):
        shard.unlink()  # what was made last is read
    again = load_concepts(store, out_dir)
    assert all(np.array_equal(again[name], columns[name], equal_nan=True) for name in columns)


def test_columns_of_another_version_are_not_read(store, out_dir, columns, monkeypatch):
    monkeypatch.setattr(concepts_module, "VERSION", 0)
    with pytest.raises(UsageError, match="no concepts of"):
        load_concepts(store, out_dir)


def test_stores_without_concepts_are_refused(tmp_path):
    other = make_store(tmp_path / "made", [3, 2])
    with pytest.raises(UsageError, match="'unnamed' has no concepts: only coinrun has"):
        main(Args(other.path, tmp_path))
    with pytest.raises(UsageError, match="only coinrun has"):  # and whoever needs concepts is not sent to make them
        load_concepts(other, tmp_path)
    other.manifest["simulated"] = True
    with pytest.raises(UsageError, match="simulated"):
        concepts_module.check_store(other)
    with pytest.raises(UsageError, match="simulated"):
        next(walk(other, [0], None))


def test_walking_yields_every_step_once_and_stops_at_a_frame_that_is_not_the_games(store):
    env, episodes = replay_env(store, 4), np.array([3, 0, 5])
    seen = np.zeros(3, int)
    for t, live in walk(store, episodes, env):
        assert (seen[live] == t).all()
        seen[live] += 1
    assert np.array_equal(seen, store.episodes["length"][episodes])
    with pytest.raises(UsageError, match=r"episode \d+ of .* does not replay"):
        list(walk(falsified(store, obs=flip_last_pixel), episodes, env))
    env.close()


def test_who_solves_a_level_has_the_coin_before_it(store, columns):
    solved = np.flatnonzero(store.episodes["complete"])
    last = store.first_step[solved] + store.episodes["length"][solved] - 1
    assert (columns["tiles_to_goal"][last] < 2).all() and columns["coin_ahead"][last].all()
