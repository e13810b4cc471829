"""Things in frames: what the state bytes say against what the picture shows, the detector on levels it was
not fit on, and matching.
"""

import numpy as np
import pytest

from analysis.model_eval.detector_training_frames import hazard_frames, hazard_positions
from analysis.model_eval.frame_objects import KINDS, Objects, Scenes, concat_scenes, read_scene, stack_scenes
from analysis.model_eval.object_detector import detect, fit_detector, object_pixels
from analysis.model_eval.object_matching import match_objects
from envs.coinrun import EMPTY, ENEMY, LAVAS, SAW
from envs.layouts import first_states
from envs.make import make_env
from envs.procgen import ProcgenConfig, Snapshot
from envs.procgen_body import parse, serialize

SAW_KIND, ENEMY_KIND, LAVA_KIND, CRATE_KIND, COIN_KIND = range(len(KINDS))


def play(start_level: int, steps: int = 64, num: int = 18):
    """Frames and scenes, every fourth step of right-biased play."""
    env = make_env(num, ProcgenConfig(start_level=start_level, num_levels=200), seed=start_level)
    rng = np.random.default_rng(0)
    frames = []
    scenes = []
    for t in range(steps):
        if t % 4 == 0:
            frames.append(env.observe()[1].copy())
            scenes += [read_scene(parse(snapshot.data)) for snapshot in env.snapshot()]
        env.act(rng.choice([7, 7, 8, 8, 5, 4], num))
    env.close()
    return np.concatenate(frames), stack_scenes(scenes)


@pytest.fixture(scope="module")
def fit_on():
    return play(10_000, steps=112)


@pytest.fixture(scope="module")
def fresh():
    return play(20_000)


@pytest.fixture(scope="module")
def detector(fit_on):
    return fit_detector(*fit_on)


def in_sight(objects: Objects, scenes: Scenes) -> np.ndarray:
    player = scenes.player[objects.frame]
    return (np.abs(objects.x - player[:, 0]) <= 6) & (np.abs(objects.y - player[:, 1]) <= 6)


def rates(detector, frames, scenes, kind):
    found = detect(detector, frames, scenes.camera)
    matches = match_objects(scenes.objects, found)
    real = in_sight(scenes.objects, scenes) & (scenes.objects.kind == kind)
    claimed = in_sight(found, scenes) & (found.kind == kind)
    error = matches.distance[real][~np.isnan(matches.distance[real])]
    return (
        len(error) / real.sum(),
        matches.true_positive[claimed].sum() / max(claimed.sum(), 1),
        error.sum() / max(len(error), 1),
        real.sum(),
    )


@pytest.mark.parametrize("kind", [SAW_KIND, CRATE_KIND, COIN_KIND])
def test_the_detector_finds_things_on_levels_it_was_not_fit_on(detector, fresh, kind):
    recall, precision, error, n = rates(detector, *fresh, kind)
    assert n > 20
    assert recall > 0.9
    assert precision > 0.85
    assert error < 0.25


@pytest.mark.slow
def test_labels_in_the_wrong_place_make_a_detector_that_fails(fit_on, fresh):
    frames, scenes = fit_on
    things = scenes.objects.take(in_sight(scenes.objects, scenes))
    mirrored = things._replace(x=2 * scenes.player[things.frame, 0] - things.x)
    recall, precision, *_ = rates(fit_detector(frames, scenes._replace(objects=mirrored)), *fresh, SAW_KIND)
    assert not (recall > 0.5 and precision > 0.5)


def test_a_saw_that_is_deleted_is_no_longer_found(detector):
    env = make_env(2, ProcgenConfig(start_level=10_000, num_levels=200))
    for _ in range(60):
        states = [parse(snapshot.data) for snapshot in env.snapshot()]
        scenes = stack_scenes([read_scene(state) for state in states])
        saws = scenes.objects.take((scenes.objects.kind == SAW_KIND) & in_sight(scenes.objects, scenes))
        if len(saws.x):
            break
        env.act(np.array([7, 8]))
    slot = int(saws.frame[0])
    without = parse(serialize(states[slot]))
    without.entities = without.entities[without.entities["type"] != SAW]
    env.restore([Snapshot(serialize(states[slot])), Snapshot(serialize(without))])
    camera = scenes.camera[np.array([slot, slot])]
    found = detect(detector, env.observe()[1], camera)
    env.close()
    assert (found.kind[found.frame == 0] == SAW_KIND).any()
    assert not (found.kind[found.frame == 1] == SAW_KIND).any()


def test_the_state_bytes_and_the_picture_agree_on_where_things_are(fresh):
    frames, scenes = fresh
    row, column = object_pixels(scenes.objects, scenes.camera)
    coin = scenes.objects.kind == COIN_KIND
    red, green, blue = frames[scenes.objects.frame[coin], row[coin], column[coin]].astype(int).T
    assert coin.sum() > 5
    assert np.mean((red > 180) & (green > 120) & (blue < 120)) > 0.9


def test_a_scene_tells_kinds_apart_and_counts_what_overlaps_once():
    env = make_env(1, ProcgenConfig(start_level=10_004, num_levels=1))
    state = parse(env.snapshot()[0].data)
    env.close()
    player = state.player
    things = np.repeat(state.entities[:1], 5)
    things["type"] = [SAW, ENEMY, ENEMY, ENEMY, SAW]
    things["x"], things["y"] = player["x"] + [1, 2, 2.3, 4, 40], player["y"] + 1
    state.entities = np.concatenate([state.entities[state.entities["type"] == 0], things])
    state.grid = np.full_like(state.grid, EMPTY)
    row = int(player["y"]) + 2
    column = int(player["x"]) + 3
    state.grid[row, column], state.grid[row - 1, column] = LAVAS[1], LAVAS[0]
    _, where, objects = read_scene(state)
    assert where.tolist() == [player["x"], player["y"]]
    assert sorted(objects[:, 0]) == [
        SAW_KIND,
        ENEMY_KIND,
        ENEMY_KIND,
        LAVA_KIND,
    ]  # one saw off the screen, two enemies one to the eye
    assert objects[objects[:, 0] == LAVA_KIND][0, 1:].tolist() == [column + 0.5, row + 0.5]


def objects(*rows) -> Objects:
    frame, kind, x, y = np.array(rows, float).reshape(-1, 4).T
    return Objects(frame.astype(int), kind.astype(int), x, y)


def test_matching_takes_the_nearest_pair_first_and_each_thing_once():
    real = objects((0, 0, 1.0, 1.0), (0, 0, 2.0, 1.0), (1, 0, 1.0, 1.0), (0, 1, 1.0, 1.0))
    found = objects((0, 0, 1.6, 1.0), (0, 1, 1.0, 1.5), (2, 0, 1.0, 1.0))
    matches = match_objects(real, found)
    np.testing.assert_allclose(matches.distance, [np.nan, 0.4, np.nan, 0.5])
    assert matches.true_positive.tolist() == [True, True, False]
    assert np.isnan(match_objects(real, found, radius=0.3).distance).all()
    assert len(match_objects(real, objects()).true_positive) == 0
    assert np.isnan(match_objects(real, objects()).distance).all()


def test_a_found_place_is_in_tiles_by_the_camera_of_its_frame(detector, fresh):
    frames, scenes = fresh
    found = detect(detector, frames, scenes.camera)
    moved = detect(detector, frames, scenes.camera._replace(x_off=scenes.camera.x_off + scenes.camera.unit))
    np.testing.assert_allclose(moved.x, found.x + 1)
    np.testing.assert_allclose(moved.y, found.y)


def test_staged_frames_show_the_rare_hazards_where_their_scenes_say():
    env = make_env(8, ProcgenConfig())
    frames, scenes = hazard_frames(env, range(10_000, 10_080))
    plain = next(
        level for level, state in enumerate(first_states(env, range(40))) if not len(hazard_positions(state))
    )
    assert hazard_frames(env, [plain]) is None
    env.close()
    rare = scenes.objects.of_kinds((ENEMY_KIND, LAVA_KIND))
    assert len(frames) == len(scenes.player) >= 8
    assert len(np.unique(rare.frame)) > 0.7 * len(frames)
    lava = rare.take(rare.kind == LAVA_KIND)
    row, column = object_pixels(lava, scenes.camera)
    red, _green, blue = frames[lava.frame, row, column].astype(int).T
    assert len(red)
    assert np.mean((red > 180) & (blue < 100)) > 0.8
    both = concat_scenes(scenes, scenes)
    assert len(both.player) == 2 * len(frames)
    assert (both.objects.frame[len(scenes.objects.x) :] == scenes.objects.frame + len(frames)).all()


@pytest.mark.slow
def test_staging_helps_to_find_enemies(fit_on, fresh):
    env = make_env(8, ProcgenConfig())
    shown = hazard_frames(env, range(10_000, 10_200))
    unseen = hazard_frames(env, range(20_000, 20_100))
    env.close()
    more = fit_detector(np.concatenate([fit_on[0], shown[0]]), concat_scenes(fit_on[1], shown[1]))
    recall, precision, *_, n = rates(more, *unseen, ENEMY_KIND)
    assert n > 20
    assert recall > 0.6
    assert precision > 0.7
