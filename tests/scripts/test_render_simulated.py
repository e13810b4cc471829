"""render.py in a world model: videos equal the simulator's episodes; flags of game and model do not mix."""

import json
from pathlib import Path

import numpy as np
import pytest

import render
from agents.actor_critic import save_agent
from common.checkpoints import BadCheckpoint
from common.runs import UsageError
from common.video import read_video
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator
from generative.starts import InformedStarts, RandomStarts
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import save_toy_files
from tests.helpers.toy_world import toy_agent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    other = toy_agent()
    other.value_head.bias.data += 1
    save_agent(path / "other.safetensors", other, {})
    return path


@pytest.fixture
def rendered(made, tmp_path):
    def call(agent="agent", **flags) -> list[dict]:
        given = dict(
            world_model_file=made / "model.safetensors",
            num_eps=2,
            num_sim_steps=6,
            overlay=False,
            scale=2,
            device="cpu",
        )
        given |= {"rand_init": not flags.get("data_dir")} | flags
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        render.main(render.Args(made / f"{agent}.safetensors", vid_dir=directory, **given))
        (run,) = directory.iterdir()
        return [
            record | {"path": run / record["video"]}
            for record in json.loads((run / "done.json").read_text())["episodes"]
        ]

    return call


@pytest.mark.parametrize("informed", [True, False])
def test_videos_are_the_simulators_episodes(made, rendered, informed):
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    starts = (
        InformedStarts(simulator, Rollouts.open(made / "store"), 0) if informed else RandomStarts(simulator)
    )
    for record in rendered(num_eps=3, data_dir=made / "store" if informed else None):
        keys = NoiseKeys(0, np.array([record["level"]]))
        out = simulator.simulate(starts.latents(keys.stream, keys, "cpu"), 6, keys)
        assert record["length"] == out.mask.sum()
        assert record["return"] == pytest.approx(out.reward.sum().item(), abs=1e-4)
        solved = out.extra["reward_prob"][record["length"] - 1] > 0.5
        assert record["outcome"] == (
            "cut at 6 steps" if not out.terminated.any() else "solved" if solved else "died"
        )
        frames, _ = read_video(record["path"])
        shown = out.obs[: record["length"], 0].numpy().repeat(2, 1).repeat(2, 2)
        assert len(frames) == record["length"]
        assert np.abs(frames.astype(int) - shown).mean() < 25
        assert record["video"].startswith("start_00000" if informed else "random_start_00000")


def test_each_flag_of_the_model_changes_what_is_seen(made, rendered):
    base = rendered()
    assert [record["level"] for record in base] == [0, 1]
    for flags in (
        dict(data_dir=made / "store"),
        dict(seed=1),
        dict(start_level=1),
        dict(num_sim_steps=1),
        dict(behaviour="greedy"),
    ):
        assert [record["frames"] for record in rendered(**flags)] != [record["frames"] for record in base], (
            flags
        )
    assert [record["level"] for record in rendered(num_eps=3, num_levels=2, start_level=5)] == [5, 6, 5]
    assert rendered(overlay=True, scale=40, num_eps=1)[0]["frames"] == base[0]["frames"]


def test_another_agent_acts_only_when_asked_to(rendered):
    with pytest.raises(BadCheckpoint, match="--allow_other_agent"):
        rendered(agent="other")
    assert len(rendered(agent="other", allow_other_agent=True)) == 2


@pytest.mark.parametrize(
    "flag",
    [dict(env_name="coinrun"), dict(distribution_mode="hard"), dict(blink=True), dict(use_backgrounds=False)],
    ids=str,
)
def test_the_games_options_are_refused_in_a_model(rendered, flag):
    with pytest.raises(UsageError, match=f"--{next(iter(flag))} is an option of the game"):
        rendered(**flag)


@pytest.mark.parametrize(
    "flag",
    [dict(data_dir=Path("x")), dict(rand_init=True), dict(num_sim_steps=5), dict(allow_other_agent=True)],
    ids=str,
)
def test_the_models_options_are_refused_in_the_game(made, tmp_path, flag):
    with pytest.raises(UsageError, match=f"--{next(iter(flag))} is for world models"):
        render.main(render.Args(made / "agent.safetensors", vid_dir=tmp_path, device="cpu", **flag))


def test_without_a_store_the_user_is_asked_for_one(rendered, monkeypatch, tmp_path):
    monkeypatch.setattr("generative.starts.RECORDINGS", tmp_path)
    with pytest.raises(UsageError, match="give --data_dir, any store"):
        rendered(rand_init=False)


def test_an_episode_needs_a_step_and_a_start_state(made, rendered):
    with pytest.raises(UsageError, match="--num_sim_steps is 0: give 1 or more"):
        rendered(num_sim_steps=0)
    with pytest.raises(UsageError, match="starting points"):
        rendered(data_dir=made / "store", start_level=100_000)
