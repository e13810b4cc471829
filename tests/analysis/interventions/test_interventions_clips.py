"""Side-by-side videos: both arms are the forks themselves, forks are chosen by their rule, and the pictures
show what they say.
"""

import json

import numpy as np
import pytest
import torch

from agents.actor_critic import load_agent
from analysis import interventions_clips
from analysis.interventions import paired_runs
from analysis.interventions.clip_strip import strip_steps
from analysis.interventions.paired_runs import choose_forks, departures, last_held, paired_effects, play_arms
from analysis.interventions.run import Settings, choose_points
from analysis.rendering.paired_clips import ClipRow, PairedClip, hold_last, video_frames
from common.cli import parse
from common.runs import UsageError
from common.video import read_video
from interpret.directions.directions import load_directions
from interpret.forks.fork_points import recording_seed
from interpret.forks.worlds import RealWorld
from interpret.interventions.edit import Edit
from interpret.interventions.interventions import bind
from rollouts.states import replay_env

pytestmark = pytest.mark.usefixtures("float32")
BLUE, ORANGE = (31, 92, 158), (224, 119, 26)
STEPS = 6


def test_an_ended_run_holds_its_last_frame_in_the_dark():
    frames = np.full((4, 2, 2, 3), 0, np.uint8)
    frames[:] = np.array([10, 100, 200, 250])[:, None, None, None]
    held = hold_last(frames, np.array([True, True, False, False]))
    assert held[:, 0, 0, 0].tolist() == [10, 100, 35, 35]
    np.testing.assert_array_equal(hold_last(frames, np.ones(4, bool)), frames)
    runs = last_held(frames[:, None], np.array([[True], [True], [False], [False]]))
    assert runs[:, 0, 0, 0, 0].tolist() == [10, 100, 100, 100]


def arms_of(edited, control, running) -> dict:
    return {
        "edited": {"obs": edited, "running": running},
        "control": {"obs": control, "running": np.ones_like(running)},
    }


def test_forks_are_chosen_by_how_far_their_arms_depart():
    control = np.zeros((3, 5, 2, 2, 3), np.uint8)
    edited = control + np.array([4, 0, 9, 1, 2], np.uint8)[:, None, None, None]
    departure = departures(arms_of(edited, control, np.ones((3, 5), bool)))
    np.testing.assert_allclose(departure, [4, 0, 9, 1, 2])
    chosen = choose_forks(departure, ("largest", "median", "random"), 0)
    assert (chosen["largest"], chosen["median"]) == (2, 4)
    assert len({choose_forks(departure, ("random",), seed)["random"] for seed in range(20)}) == 5


def test_frames_after_an_end_do_not_count():
    control = np.zeros((3, 1, 2, 2, 3), np.uint8)
    edited = np.array([0, 0, 90], np.uint8)[:, None, None, None, None] + control
    running = np.array([[True], [True], [False]])
    assert departures(arms_of(edited, control, running))[0] == 0
    assert departures(arms_of(edited, control, np.ones_like(running)))[0] == 30


def test_changes_are_means_over_forks_and_few_forks_say_nothing():
    shape = (2, 6)
    taken = np.ones(shape, bool)
    never = np.zeros(shape, np.float32)
    control = {"done": never, "coin": never, "taken": taken, "action": np.zeros(shape, int)}
    dies = never.copy()
    dies[1, :3] = 1
    jumps = np.zeros(shape, int)
    jumps[0] = 1
    edited = control | {"done": dies, "action": jumps}
    found = paired_effects({"edited": edited, "control": control}, np.arange(6), ["none", "up"])
    assert found["death"]["change"][0] == pytest.approx(0.5)
    assert found["death"]["control"] == 0
    assert found["jump"]["change"][0] == pytest.approx(0.5)
    assert {one["verdict"] for one in found.values()} == {"too few to say"}


def clip(scores=(0.0, 1.0, 2.0)) -> PairedClip:
    frames = [np.full((3, 8, 8, 3), shade, np.uint8) for shade in (50, 150)]
    running = [np.ones(3, bool), np.array([True, True, False])]
    actions = [["right"] * 3, ["left"] * 3]
    line = np.array(scores)
    rows = [
        ClipRow(name, color, frames, running, actions, [sign * line, 0 * line])
        for name, color, sign in (("a", BLUE, 1), ("b", ORANGE, -1))
    ]
    return PairedClip(rows, ("edited", "control"), "title", "subtitle", "score")


def test_a_picture_shows_both_arms_in_both_rows():
    pictures = list(video_frames(clip(), scale=16))
    assert len(pictures) == 3
    side = 8 * 16
    for shade, count in ((50, 2), (150, 2)):
        assert (pictures[0] == shade).all(-1).sum() == pytest.approx(count * side**2, rel=0.02)
    assert (pictures[2] == int(150 * 0.35)).all(-1).sum() >= 2 * side**2 * 0.98  # the control arm has ended


def test_the_line_grows_with_time_and_follows_the_score():
    first, last = (np.array(list(video_frames(clip(), 16))[t]).astype(int) for t in (0, 2))
    blue = [(np.abs(x - BLUE).sum(-1) < 40)[-160:] for x in (first, last)]
    assert blue[1].sum() > blue[0].sum()
    flat = np.array(list(video_frames(clip((1.0, 1.0, 1.0)), 16))[2]).astype(int)
    assert (flat != last).any()


def test_strips_have_the_first_and_the_last_step():
    assert strip_steps(24).tolist() == [0, 3, 6, 9, 12, 14, 17, 20, 23]
    assert strip_steps(3).tolist() == [0, 1, 2]


def play(world, directions_file):
    """Arms in the real game, and the parts that they come from."""
    agent, _ = load_agent(world.agent_file)
    directions = load_directions(directions_file)
    tested = bind([Edit("add", (0,), values=(2.0,), mode="state")], {"pca": directions})
    points = choose_points(Settings(scenes="any", num_fork_points=6, seed=0), world.store, 1)
    env = replay_env(world.store, 6, 1)
    shared = (agent, tested, (directions, 0), points, STEPS, recording_seed(world.store), 6)
    arms = play_arms(lambda policy: RealWorld(env, policy), *shared)
    env.close()
    return arms, points, directions


@pytest.fixture(scope="module")
def played(world, directions_file):
    return play(world, directions_file)


def test_the_control_arm_is_the_recording_and_the_edited_one_departs(played, world):
    arms, points, directions = played
    for i in range(len(points)):
        episode = world.store.episode(int(points.episode[i]))
        span = slice(points.step[i], points.step[i] + STEPS)
        recorded = episode["obs"][span]
        np.testing.assert_array_equal(arms["control"]["obs"][: len(recorded), i], recorded)
        assert arms["control"]["running"][:, i].sum() == len(recorded)
        states = torch.from_numpy(episode["hidden"][1:][span])
        scores = directions.scores(states)[:, 0].numpy()
        np.testing.assert_allclose(arms["control"]["score"][: len(recorded), i], scores, atol=1e-4)
    assert departures(arms).max() > 0


def test_a_mutant_with_swapped_arms_is_caught(world, directions_file, monkeypatch):
    monkeypatch.setattr(paired_runs, "ARMS", ("control", "edited"))
    with pytest.raises(AssertionError):
        test_the_control_arm_is_the_recording_and_the_edited_one_departs(play(world, directions_file), world)


def run(world, directions_file, out, words=""):
    edits = out.parent / "edits.json"
    edits.write_text(
        json.dumps({"edits": [{"kind": "add", "directions": [0], "values": [2.0], "mode": "state"}]})
    )
    common = f"--agent_file {world.agent_file} --scenes any "
    common += (
        f"--data_dir {world.store.path} --num_fork_points 6 --steps {STEPS} --edits {edits} --out_dir {out} "
    )
    common += f"--direction_files {directions_file} --batch_size 6 --num_threads 1 --device cpu "
    interventions_clips.main(parse(interventions_clips.Args, "", (common + words).split()))
    latest = (out / "interventions_clips_precomp" / "latest").resolve()
    return json.loads((latest / "numbers.json").read_text()), latest


@pytest.fixture(scope="module")
def base(world, directions_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("clips") / "out"
    words = f"--images {out / 'images'} --results {out / 'r.json'}"
    made = run(world, directions_file, out, f"{words} --world_model_file {world.world_model_file}")
    return *made, directions_file, out


def test_videos_and_strips_are_written(base):
    numbers, latest, _, out = base
    for name in ("largest", "median", "random"):
        frames, fps = read_video(latest / f"{name}.mp4")
        assert (len(frames), fps) == (STEPS, 6)
        assert (out / "images" / f"intervention_{name}.png").stat().st_size > 10_000
    assert numbers["clips"]["largest"]["rank"] == 1
    assert json.loads((out / "r.json").read_text())["clips"].keys() == numbers["clips"].keys()
    assert numbers["clips"]["median"]["departure"] == sorted(numbers["departures"])[::-1][3]


@pytest.mark.parametrize(
    "words",
    ["--steps 4", "--num_fork_points 3", "--seed 3", "--choices random", "--part test", "--scenes hazard"],
)
def test_every_flag_changes_the_choice(base, world, tmp_path, words):
    numbers, _, directions_file, _ = base
    changed, _ = run(world, directions_file, tmp_path / "out", words)
    assert changed["clips"] != numbers["clips"]


@pytest.mark.parametrize("words", ["--score_direction 1", "--fps 3"])
def test_flags_of_the_picture_change_the_video(base, world, tmp_path, words):
    _, latest, directions_file, _ = base
    _, other = run(world, directions_file, tmp_path / "out", words)
    (frames, fps), (changed, other_fps) = (read_video(one / "median.mp4") for one in (latest, other))
    assert (fps, frames.tobytes()) != (other_fps, changed.tobytes())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--score_direction 6", "directions 0 to 5"),
        ("--steps 1", "steps"),
        ("--fps 0", "fps above 0"),
    ],
)
def test_impossible_flags_are_refused(world, directions_file, tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        run(world, directions_file, tmp_path / "out", words)


def test_no_edit_is_refused(world, tmp_path):
    words = f"--agent_file {world.agent_file} --data_dir {world.store.path} --out_dir {tmp_path}"
    with pytest.raises(UsageError, match="no edit to show"):
        interventions_clips.main(parse(interventions_clips.Args, "", words.split()))
