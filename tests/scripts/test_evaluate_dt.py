"""evaluate_dt.py: a Decision Transformer, a clone and an agent on the same episodes."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

import evaluate_dt
from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from agents.behaviours import RandomPolicy
from common.cli import parse
from common.errors import UsageError
from decision.model import DecisionTransformer
from decision.model_file import save_dt
from envs.diagnostic_envs import DiagnosticVecEnv
from evaluate_dt import Args, main
from rollouts.play import EpisodeSpec
from rollouts.record import Actor, play_shard
from rollouts.split import layout_scores
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.decision.toy_decision import small_config

RETURNS = {"min": 0.0, "mean": 7.0, "max": 10.0}
GAME = {"env_name": "dodgeball", "distribution_mode": "easy", "num_levels": 200, "start_level": 0}
SHAPE = dict(num_actions=2, obs_shape=(64, 64, 3), patch_size=16)
TINY = dict(state_embedding="patches", context_length=3, d_model=8, n_layers=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A Decision Transformer, a clone, an agent, and a model of another game, all untrained."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    meta = {"env": GAME, "returns": RETURNS}
    for name, changed in (("dt", {}), ("clone", {"model_type": "clone_transformer"})):
        model = DecisionTransformer(small_config(**(SHAPE | TINY | changed)))
        save_dt(path / f"{name}.safetensors", model, meta)
    save_dt(path / "toy.safetensors", model, meta | {"env": {"env_name": "toy"}})
    save_dt(path / "real.safetensors", DecisionTransformer(replace(model.config, num_actions=15)), meta)
    agent = ActorCritic(NetworkConfig(2, architecture="nature", feature_size=8, hidden_size=8))
    save_agent(path / "agent.safetensors", agent, {"env": GAME})
    return path


@pytest.fixture
def short_episodes(monkeypatch):
    """A world of five steps per episode in place of the game."""
    monkeypatch.setattr(evaluate_dt, "make_env", lambda num, *_: DiagnosticVecEnv("memory", num))


def args(files, tmp_path, **changed):
    few = dict(num_levels=2, num_episodes=4, num_envs=4, num_threads=1, device="cpu")
    return Args(**(dict(dt_file=files / "dt.safetensors", out_file=tmp_path / "out.json") | few | changed))


def report(files, tmp_path, **changed):
    main(args(files, tmp_path, **changed))
    return json.loads((tmp_path / "out.json").read_text())


def test_all_play_the_same_episodes(files, tmp_path, capsys, short_episodes):
    others = dict(clone_file=files / "clone.safetensors", agent_file=files / "agent.safetensors")
    found = report(files, tmp_path, target_returns=(10.0, 0.0), **others)
    rows = found["rows"]
    assert list(rows) == ["agent", "clone", "DT, asked 0", "DT, asked 10"]
    for row in rows.values():
        assert row["per_episode"]["level"] == [250, 251, 250, 251]
        assert row["return"][0] == pytest.approx(np.mean(row["per_episode"]["total_reward"]))
    paired = np.subtract(
        rows["clone"]["per_episode"]["total_reward"], rows["agent"]["per_episode"]["total_reward"]
    )
    assert rows["clone"]["difference_from_agent"][0] == pytest.approx(paired.mean())
    assert "difference_from_agent" not in rows["agent"]
    assert set(found["manifest"]["inputs"]) == {"dt_file", "clone_file", "agent_file"}
    assert len(found["slope"]) == 3
    assert "rank_correlation" not in found  # of two targets it says nothing
    shown = capsys.readouterr().out
    assert "dodgeball, levels 250 to 251, behaviour agent" in shown
    assert all(name in shown for name in rows)


def test_three_targets_have_a_rank_correlation(files, tmp_path, capsys, short_episodes):
    found = report(files, tmp_path, target_returns=(0.0, 5.0, 10.0))
    assert len(found["rank_correlation"]) == 3
    assert "rank correlation of asked and achieved" in capsys.readouterr().out


def test_inputs_are_ablated_on_a_store(files, tmp_path, capsys, short_episodes):
    env = DiagnosticVecEnv("memory", 4)
    actions = {"num_actions": 2, "action_names": ["zero", "one"], "noop": 0, "hidden_size": 1}
    create_store(tmp_path / "store", actions)
    jobs = [EpisodeSpec(level, 0) for level in range(8)]
    write_shard(tmp_path / "store", 0, *play_shard(env, Actor(RandomPolicy(2), "random", "none"), jobs, 0))
    found = report(files, tmp_path, target_returns=(10.0,), data_dir=tmp_path / "store")
    assert list(found["ablation"]) == ["return_to_go", "state", "action"]
    assert found["manifest"]["inputs"]["data_dir"]
    assert "inputs replaced by those of other episodes" in capsys.readouterr().out


def test_a_behaviour_and_a_seed_change_the_episodes(files, tmp_path, short_episodes):
    def returns(**changed):
        rows = report(files, tmp_path, target_returns=(10.0,), num_episodes=20, **changed)["rows"]
        return rows["DT, asked 10"]["per_episode"]["total_reward"]

    sampled = returns()
    assert sampled == returns()
    assert sampled != returns(behaviour="greedy")
    assert sampled != returns(seed=1)
    exploring = returns(behaviour="epsilon-greedy", epsilon=0.5)
    assert exploring != returns(behaviour="epsilon-greedy", epsilon=0.9)
    assert returns(behaviour="epsilon-greedy", epsilon=0.0) == returns(behaviour="greedy")


def test_targets_span_the_training_returns_unless_they_are_given(files, tmp_path, caplog):
    model, _ = evaluate_dt.load_dt(files / "dt.safetensors")
    choose = lambda *given: evaluate_dt.choose_targets(  # noqa: E731
        args(files, tmp_path, target_returns=given), model, {"returns": RETURNS}
    )
    assert choose() == np.linspace(0, 10, 9).tolist()
    assert choose(5.0, 1.0, 5.0) == [1.0, 5.0]
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        assert choose(12.0, 5.0) == [5.0, 12.0]
    assert "returns 12 lie outside the training data, which has 0 to 10" in caplog.text


def test_a_clone_is_played_once_in_the_real_game(files, tmp_path):
    found = report(files, tmp_path, dt_file=files / "real.safetensors", num_episodes=1)
    assert list(found["rows"]) == ["clone"]
    assert "slope" not in found


def test_names_of_the_seeds_are_understood():
    given = parse(Args, "", ["--checkpoint", "m", "--initial_rtg", "0.5", "1"])
    assert given.target_returns == (0.5, 1.0)
    assert given.dt_file.name == "m"


@pytest.fixture
def level_store(files, tmp_path):
    """A store of levels 3, 0, 3, 7, ... of a game without layouts, and a model trained on it."""
    env = DiagnosticVecEnv("memory", 4)
    actions = {"num_actions": 2, "action_names": ["zero", "one"], "noop": 0, "hidden_size": 1}
    create_store(tmp_path / "store", actions)
    jobs = [EpisodeSpec(level, 0) for level in (3, 0, 3, *range(7, 40))]
    write_shard(tmp_path / "store", 0, *play_shard(env, Actor(RandomPolicy(2), "random", "none"), jobs, 0))
    model, meta = evaluate_dt.load_dt(files / "dt.safetensors")
    trained_on = {"data": Rollouts.open(tmp_path / "store").id, "train": {"train_split": 0.8}}
    save_dt(tmp_path / "trained.safetensors", model, {**meta, **trained_on, "env": GAME})
    return tmp_path / "store"


def played(files, tmp_path, monkeypatch, **changed):
    """Levels that an evaluation of the model of `level_store` plays."""
    monkeypatch.setattr(evaluate_dt, "ablation_scores", lambda *_: {})
    flags = dict(dt_file=tmp_path / "trained.safetensors", target_returns=(10.0,), num_episodes=6)
    found = report(files, tmp_path, **(flags | dict(num_levels=6) | changed))
    return found["rows"]["DT, asked 10"]["per_episode"]["level"]


def test_trained_levels_are_those_of_training_episodes_in_their_order(
    files, tmp_path, level_store, short_episodes, monkeypatch
):
    recorded = [3, 0, *range(7, 40)]
    expected = [level for level in recorded if layout_scores(np.array([str(level)]))[0] >= 0.2]
    asked = dict(levels="trained", data_dir=level_store)
    assert played(files, tmp_path, monkeypatch, **asked) == expected[:6]
    assert 20 < len(expected) < len(recorded)  # some are held out
    with pytest.raises(UsageError, match=f"and .*store has {len(expected)} levels with layouts that"):
        played(files, tmp_path, monkeypatch, num_levels=len(recorded), **asked)


def test_new_levels_have_no_layout_of_the_store_or_of_the_agent(
    files, tmp_path, level_store, short_episodes, monkeypatch
):
    monkeypatch.setattr("agents.level_lists.first_states", lambda env, levels: levels)
    monkeypatch.setattr("agents.level_lists.layout_hash", str)
    monkeypatch.setattr(evaluate_dt, "level_layouts", lambda levels, config: levels.astype(str))
    asked = dict(levels="new", data_dir=level_store, start_level=0)
    assert played(files, tmp_path, monkeypatch, **asked) == [1, 2, 4, 5, 6, 40]
    excluded = played(files, tmp_path, monkeypatch, **asked, exclude_layouts_of=(2, 3))
    assert excluded == [1, 5, 6, 40, 41, 42]


def test_levels_refer_to_the_store_that_the_model_was_trained_on(
    files, tmp_path, level_store, short_episodes
):
    other = dict(levels="new", data_dir=level_store, target_returns=(10.0,))
    with pytest.raises(UsageError, match="is not the store that .*dt.safetensors was trained on"):
        report(files, tmp_path, **other)
    with pytest.raises(UsageError, match="no effect on --levels trained"):
        report(files, tmp_path, **(other | dict(levels="trained")), exclude_layouts_of=(0, 2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(num_episodes=0), "--num_episodes must be at least 1"),
        (dict(start_level=-1), "do not lie within"),
        (dict(behaviour="bold"), "unknown behaviour 'bold'"),
        (dict(temperature=2.0), "--temperature has no effect"),
        (dict(epsilon=0.2), "--epsilon has no effect on the behaviour 'agent'"),
        (dict(behaviour="epsilon-greedy", epsilon=2.0), "epsilon must be a probability"),
        (dict(levels="new"), "--levels new needs --data_dir"),
        (dict(dt_file="toy"), "not recorded in a game of Procgen"),
        (dict(clone_file="dt"), "is a Decision Transformer: give it as --dt_file"),
        (dict(dt_file="clone", target_returns=(1.0,)), "no effect on a behavioural clone"),
    ],
)
def test_impossible_requests_are_refused(files, tmp_path, changed, message):
    changed = {k: files / f"{v}.safetensors" if k.endswith("file") else v for k, v in changed.items()}
    with pytest.raises(UsageError, match=message):
        main(args(files, tmp_path, **changed))
