"""render.py: arrows, bars and videos show the episode, episodes are complete, and every flag acts."""

import itertools
import json
import logging
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from scipy.special import softmax

import render
from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from agents.evaluate import evaluate, fixed_jobs
from analysis.rendering.arrows import arrow, arrow_direction
from analysis.rendering.episode_clips import Episode, play_episodes
from analysis.rendering.live_window import LiveWindow
from analysis.rendering.overlay import BAR_COLOR, TAKEN_COLOR, Overlay
from common.checkpoints import BadCheckpoint
from common.cli import parse, run_main
from common.runs import UsageError
from common.video import read_video, upscale
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from envs.vecenv import ActionSpace, class_probabilities
from rollouts.play import EpisodeSpec

WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
WAYS |= {"up-left": (-1, -1), "up-right": (1, -1), "down-left": (-1, 1), "down-right": (1, 1)}
OWN = {"env_name": "dodgeball", "num_levels": 3, "start_level": 6}  # short episodes


@pytest.fixture(scope="module")
def agent():
    torch.manual_seed(0)
    agent = ActorCritic(
        NetworkConfig(15, architecture="nature", feature_size=16, hidden_size=8, precision="fp32")
    ).eval()
    with torch.no_grad():
        agent.policy_head.weight.mul_(100)
    return agent


@pytest.fixture(scope="module")
def agent_file(agent, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "model.safetensors"
    save_agent(path, agent, {"env": vars(ProcgenConfig(**OWN))})
    return path


@pytest.fixture(scope="module")
def rendered(agent_file, tmp_path_factory):
    """Calls render.py with flags and gives back the directory of videos; one, and small, unless asked
    otherwise.
    """

    def call(**flags) -> Path:
        flags = {"num_eps": 1, "overlay": False, "scale": 1, **flags}
        directory = tmp_path_factory.mktemp("videos")
        render.main(render.Args(agent_file, vid_dir=directory, device="cpu", **flags))
        return next(directory.iterdir())

    return call


def only_video(directory: Path) -> tuple[np.ndarray, float]:
    """The decoded frames and the pace of the directory's one video."""
    (path,) = directory.glob("*.mp4")
    return read_video(path)


def alike(one: tuple[np.ndarray, float], other: tuple[np.ndarray, float]) -> bool:
    """Whether two videos show the same, give or take the encoder, whose bits vary for the same frames."""
    (frames, fps), (others, pace) = one, other
    return fps == pace and frames.shape == others.shape and np.abs(frames.astype(int) - others).mean() < 1.5


def episodes(directory: Path) -> list[dict]:
    return json.loads((directory / "done.json").read_text())["episodes"]


def check_arrows(draw) -> None:
    """The picture's centre of light lies towards the tip: heads are heavier than tails."""
    for name, way in WAYS.items():
        for size in (16, 80):
            light = draw(arrow_direction(name), size)[..., 0].astype(float)
            rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
            centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
            off = centre @ np.array([-way[1], way[0]]) / size
            assert centre @ way / size > 0.02, name
            assert abs(off) < 0.01, name


def test_arrows_point_in_the_direction_of_their_action():
    check_arrows(arrow)


MIRRORED = [
    lambda picture: picture[:, ::-1],
    lambda picture: picture[::-1],
    lambda picture: picture.swapaxes(0, 1),
]


@pytest.mark.parametrize("mutant", [*MIRRORED, lambda picture: picture[::-1, ::-1]])
def test_the_arrow_test_catches_mutants(mutant):
    with pytest.raises(AssertionError):
        check_arrows(lambda way, size: mutant(arrow(way, size)))


def test_directions_come_from_names():
    assert {name: arrow_direction(name) for name in WAYS} == WAYS
    assert arrow_direction("none") == (0, 0)
    assert arrow_direction("key-d") is None
    dot = arrow((0, 0), 40)[..., 0]
    assert (dot == dot[::-1]).all()
    assert (dot == dot[:, ::-1]).all()
    assert dot.max() > 0


def test_probabilities_are_summed_over_effect_classes():
    logits = np.random.default_rng(0).normal(size=(7, 15)) * 4 + 300
    summed = class_probabilities(logits, action_space("coinrun").effect_classes)
    each = softmax(logits, -1)
    assert summed.shape == (7, 9)
    np.testing.assert_allclose(summed[:, 4], each[:, [4, 9, 10, 11, 12, 13, 14]].sum(-1))
    np.testing.assert_allclose(summed[:, 7], each[:, 7])


def made_up(length: int = 6, value: float | None = None) -> Episode:
    """An episode whose action probabilities are 1/2, 1/4, 1/4 (of two equal acts) and nearly nothing."""
    logits = np.tile(np.log([0.5, 0.125, 0.25, 0.125, 1e-9]), (length, 1))
    values = np.linspace(-1, 2, length) if value is None else np.full(length, value)
    obs = np.random.default_rng(1).integers(0, 256, (length, 64, 64, 3), np.uint8)
    return Episode(
        EpisodeSpec(3), obs, np.arange(length) % 5, logits, values, np.arange(length, dtype=float), "died"
    )


SPACE = ActionSpace(("left", "right", "up", "key-d", "none"), 4, (0, 1, 2, 1, 4))


def bars(panel: np.ndarray) -> list[tuple[int, bool]]:
    """(width in pixels, whether in the taken action's colour) of each bar, top to bottom, read from the
    picture.
    """
    found = []
    column = panel[158:362, 124 + 1]  # just inside the bars' left end
    filled = (column == BAR_COLOR).all(-1) | (column == TAKEN_COLOR).all(-1)
    for row in np.flatnonzero(filled & ~np.r_[False, filled[:-1]]) + 158:
        color = panel[row + 2, 125]
        found.append((int((panel[row + 2, 124:] == color).all(-1).sum()), bool((color == TAKEN_COLOR).all())))
    return found


@pytest.mark.parametrize(("t", "taken"), [(0, 0), (1, 1), (2, 2), (3, 1)])
def test_bars_are_as_long_as_probabilities_and_mark_the_action(t, taken):
    found = bars(Overlay(made_up(), SPACE, "title", 8).panel(t))
    assert [marked for _, marked in found] == [i == taken for i in range(3)]
    longest = found[0][0]
    np.testing.assert_allclose([width / longest for width, _ in found], [1, 0.5, 0.5], atol=0.02)


def test_the_value_curve_ends_at_the_current_step():
    overlay = Overlay(made_up(), SPACE, "title", 8)

    def ink(t):
        return (overlay.panel(t)[392:478, 54:] == BAR_COLOR).all(-1)

    last = [np.flatnonzero(ink(t).any(0)).max(initial=0) for t in range(6)]
    assert all(later > earlier for earlier, later in itertools.pairwise(last))
    early, late = (
        np.flatnonzero(ink(5)[:, columns].any(-1)).mean() for columns in (slice(0, 40), slice(200, 240))
    )
    assert early > late  # the value rises, and up is up
    other_future = np.r_[overlay.episode.value[:4], 0.1, 2.0]
    other = Overlay(replace(overlay.episode, value=other_future), SPACE, "title", 8)
    assert (overlay.panel(3) == other.panel(3)).all()
    assert (overlay.panel(4) != other.panel(4)).any()


def test_the_frame_next_to_the_panel_is_unchanged():
    episode = made_up()
    frames = list(Overlay(episode, SPACE, "title", 5).frames())
    assert len(frames) == episode.length
    for t, frame in enumerate(frames):
        assert (frame[:, :320] == upscale(episode.obs[t], 5)).all()


def test_overlay_without_a_value_and_too_small():
    overlay = Overlay(made_up(value=np.nan), SPACE, "title", 8)
    assert not (overlay.panel(5)[392:478] == BAR_COLOR).all(-1).any()
    with pytest.raises(UsageError, match="--scale 5 or more, or --no_overlay"):
        Overlay(made_up(), SPACE, "title", 4)


def test_videos_are_the_episodes_that_evaluation_plays(agent, rendered):
    """Count, lengths, returns and frames match another player with four slots."""
    directory = rendered(num_eps=5, scale=2)
    jobs = fixed_jobs(6, 3, 5)
    seen = [[] for _ in jobs]
    env = ProcgenVecEnv(4, ProcgenConfig(**OWN), seed=9, num_threads=0)

    def keep(played):
        for job, obs in zip(played.job, played.obs):
            seen[job].append(obs.copy())

    scored = evaluate(agent, env, jobs, seed=0, watch=keep)
    records = episodes(directory)
    assert [(r["level"], r["repeat"]) for r in records] == [tuple(job) for job in jobs]
    assert [r["length"] for r in records] == scored.length.tolist()
    assert [r["return"] for r in records] == scored.total_reward.tolist()
    assert len(list(directory.glob("*.mp4"))) == 5
    for record, frames in zip(records, seen):
        decoded, fps = read_video(directory / record["video"])
        assert len(decoded) == record["length"]
        assert fps == 15
        assert np.abs(decoded.astype(int) - upscale(np.stack(frames), 2)).mean() < 2


def test_a_seed_gives_the_same_episodes_for_any_number(rendered):
    one = rendered(num_eps=1)
    three = rendered(num_eps=3)
    assert episodes(one) == episodes(three)[:1]  # with the hash of the frames
    assert alike(only_video(one), read_video(next(three.glob("level_000006*"))))
    assert episodes(rendered(seed=1))[0]["frames"] != episodes(one)[0]["frames"]


@pytest.mark.parametrize(
    "flags",
    [
        {"seed": 1},
        {"start_level": 8},
        {"distribution_mode": "hard"},
        {"use_backgrounds": True},
        {"env_name": "starpilot"},
        {"behaviour": "greedy"},
        {"behaviour": "temperature", "temperature": 30.0},
        {"behaviour": "top-k", "top_k": 2},
        {"behaviour": "epsilon-greedy", "epsilon": 0.9},
        {"fps": 5},
        {"scale": 2},
        {"scale": 5, "overlay": True},
    ],
    ids=str,
)
def test_each_flag_changes_the_video(rendered, flags):
    last = list(flags)[-1]  # the flag on trial; those before it are on both sides
    other = {"temperature": 0.1, "top_k": 5, "epsilon": 0.1}.get(last)
    base = {name: value for name, value in flags.items() if name != last} | ({last: other} if other else {})
    assert not alike(only_video(rendered(**base)), only_video(rendered(**flags)))


def test_a_preset_without_a_checkpoint_plays_untrained(tmp_path):
    asked = {
        name: render.Args(param_name=name, env_name="dodgeball", device="cpu") for name in ("demo", "half-ff")
    }
    agents = {name: render.load_policy(args, "cpu")[0] for name, args in asked.items()}
    assert {name: agent.config.core for name, agent in agents.items()} == {"demo": "gru", "half-ff": "none"}
    again, other = (
        render.load_policy(replace(asked["demo"], seed=seed), "cpu")[0].encoder.state_dict()
        for seed in (0, 1)
    )
    weights = agents["demo"].encoder.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    render.main(replace(asked["demo"], num_eps=1, overlay=False, scale=1, vid_dir=tmp_path))
    assert len(list(tmp_path.glob("*/*.mp4"))) == 1


def test_num_levels_and_paint_vel_info_reach_the_game(rendered):
    assert [record["level"] for record in episodes(rendered(num_eps=3, num_levels=1))] == [6, 6, 6]
    assert [record["level"] for record in episodes(rendered(num_eps=2, num_levels=0, start_level=11))] == [
        11,
        12,
    ]
    shown = []
    for painted in (False, True):
        config = render.game_config(render.Args(Path("x"), env_name="coinrun", paint_vel_info=painted), OWN)
        shown.append(ProcgenVecEnv(1, config, num_threads=0).observe()[1])
    assert (shown[0] != shown[1]).any()
    moved = render.game_config(render.Args(Path("x"), env_name="coinrun", random_coin=True), OWN)
    assert moved.random_coin
    assert episodes(rendered(num_eps=4, blink=True)) != episodes(rendered(num_eps=4))


def test_videos_have_a_run_directory_and_new_renders_again(agent_file, tmp_path):
    def made(**flags) -> dict[Path, int]:
        render.main(
            render.Args(
                agent_file, num_eps=1, overlay=False, scale=1, device="cpu", out_dir=tmp_path, **flags
            )
        )
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}

    first = made(exp_name="mine")
    assert [path.parent.parent for path in first] == [tmp_path / "procgen" / "dodgeball" / "mine"]
    assert made(exp_name="mine") == first  # the same command finds its work done
    assert len(made(exp_name="mine", new=True)) == 2
    elsewhere = made(vid_dir=tmp_path / "here").keys() - first.keys()
    assert tmp_path / "here" in [path.parent.parent for path in elsewhere]


def test_an_interrupted_run_is_completed(agent_file, tmp_path):
    args = render.Args(agent_file, num_eps=2, overlay=False, scale=1, device="cpu", vid_dir=tmp_path)
    render.main(args)
    (directory,) = tmp_path.iterdir()
    names = {path.name for path in directory.iterdir()}
    before = (directory / "done.json").read_text()
    (directory / "done.json").unlink()
    next(directory.glob("*.mp4")).unlink()
    render.main(args)
    assert {path.name for path in directory.iterdir()} == names
    assert (directory / "done.json").read_text() == before
    assert [len(read_video(directory / r["video"])[0]) for r in episodes(directory)] == [
        r["length"] for r in episodes(directory)
    ]


def test_the_seed_systems_name_for_fps():
    assert parse(render.Args, words=["--agent_file", "x", "--tps", "7"]).fps == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_eps": 0}, "--num_eps is 0: give 1 or more"),
        ({"env_name": "pong"}, "unknown game 'pong'"),
        ({"behaviour": "wild"}, "unknown behaviour 'wild'"),
        ({"fps": 0}, "number of frames per second above 0"),
        ({"scale": 0}, "--scale is 0: give 1 or more"),
        (
            {"behaviour": "greedy", "temperature": 3.0},
            "--temperature has no effect on the behaviour 'greedy'",
        ),
        ({"top_k": 2}, "--top_k has no effect on the behaviour 'agent'"),
        ({"start_level": -1}, "do not lie within"),
        (
            {"start_level": 2**31 - 2, "num_levels": 0, "num_eps": 2},
            "2 levels from 2147483646 on do not lie within",
        ),
        ({"overlay": True, "scale": 2}, "too small to read the overlay"),
        ({"agent_file": Path("nowhere.safetensors")}, "no checkpoint file"),
        ({"window": True}, "needs a display"),
        ({"overlay": True, "scale": 4}, "take --scale 5 or more, or --no_overlay"),
        ({"agent_file": None}, "give --agent_file, or --param_name for an untrained agent"),
        ({"param_name": "none-such"}, "unknown preset 'none-such'"),
        (
            {"param_name": "hard-rec"},
            "is not of the preset 'hard-rec': architecture is nature in the checkpoint",
        ),
        (
            {"agent_file": None, "param_name": "demo", "world_model_file": Path("x")},
            "give that agent as --agent_file",
        ),
    ],
    ids=str,
)
def test_bad_input_ends_in_one_clear_line(agent_file, tmp_path, monkeypatch, flags, message):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    args = render.Args(
        **({"agent_file": agent_file, "vid_dir": tmp_path, "overlay": False, "device": "cpu"} | flags)
    )
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        run_main(render.main, args)
    assert not list(tmp_path.iterdir())


def test_an_agent_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_agent(path, ActorCritic(NetworkConfig(5, architecture="nature", feature_size=8, hidden_size=4)), {})
    with pytest.raises(UsageError, match="5 actions and coinrun 15"):
        render.main(render.Args(path, vid_dir=tmp_path, device="cpu"))
    path.write_bytes(b"nothing")
    with pytest.raises(BadCheckpoint):
        render.main(render.Args(path, vid_dir=tmp_path, device="cpu"))


def test_other_options_than_the_agents_are_reported(agent_file, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        render.main(
            render.Args(
                agent_file,
                num_eps=1,
                overlay=False,
                scale=1,
                device="cpu",
                vid_dir=tmp_path,
                distribution_mode="hard",
            )
        )
    assert "the agent plays otherwise than it was trained: distribution_mode = hard, not easy" in caplog.text


def test_playing_in_order_needs_one_slot(agent):
    with pytest.raises(ValueError, match="one slot, not 2"):
        next(
            play_episodes(
                ProcgenVecEnv(2, ProcgenConfig(**OWN), num_threads=0), agent, [EpisodeSpec(6)], seed=0
            )
        )


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_window_shows_every_frame_and_passes_it_on(monkeypatch):
    matplotlib.use("agg")
    monkeypatch.setenv("DISPLAY", ":77")
    with pytest.raises(UsageError, match="GUI toolkit"), LiveWindow(10):
        pass
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "tkagg")
    frames = [np.full((4, 4, 3), shade, np.uint8) for shade in (0, 90, 200)]
    with LiveWindow(50) as window:
        for given, passed in zip(frames, window.show(frames), strict=True):
            assert passed is given
            assert (window._image.get_array() == given).all()
