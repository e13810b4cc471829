"""The training loop: reward scale, learning rate, log, and what a resumed run repeats."""

import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from tqdm import tqdm

import agents.ppo
import agents.trainer
import common.stopping
from agents.actor_critic import load_agent
from agents.ppo import PPOConfig
from agents.reward_norm import RewardNormalizer
from agents.trainer import Schedule, Trainer, mean_return
from agents.training_log import COLUMNS, WINDOW, EpisodeStatistics, summary
from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint
from common.csv_log import CsvLog, read_log
from common.runs import UsageError
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from envs.procgen_state import game_name
from tests.helpers.tiny_models import NEVER, network, staggered, trainer

CONFIG = PPOConfig(n_envs=4, n_steps=8, epoch=1, mini_batch_per_epoch=2, gamma=0.9)


def played_rewards(seed=0, T=60, N=3):
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(T, N)) * (rng.random((T, N)) < 0.3), rng.random((T, N)) < 0.1


def scaled_directly(reward, ended, gamma):
    """Every discounted return so far, kept in a list, and its plain standard deviation."""
    returns = np.zeros(reward.shape[1])
    seen = []
    out = []
    for r, over in zip(reward, ended):
        returns = gamma * returns + r
        seen.extend(returns)
        out.append(np.clip(r / np.std(seen), -10, 10))
        returns = np.where(over, 0, returns)
    return np.array(out)


def test_rewards_are_divided_by_the_deviation_of_returns():
    reward, ended = played_rewards()
    normalizer = RewardNormalizer(3, 0.97)
    ours = np.array([normalizer(r, over) for r, over in zip(reward, ended)])
    np.testing.assert_allclose(ours[5:], scaled_directly(reward, ended, 0.97)[5:], rtol=1e-3)
    for mutant in (scaled_directly(reward, ended, 0.9), scaled_directly(reward, np.roll(ended, 1, 0), 0.97)):
        assert np.abs(ours[5:] / np.where(mutant[5:] == 0, 1, mutant[5:]) - (mutant[5:] != 0)).max() > 0.01


def test_rewards_are_clipped():
    normalizer = RewardNormalizer(1, 0.9)
    for _ in range(2000):
        normalizer(np.array([0.01]) * np.random.default_rng(_).normal(), np.array([False]))
    assert normalizer(np.array([1000.0]), np.array([True]))[0] <= 10


def test_the_normaliser_survives_its_tensors():
    reward, ended = played_rewards()
    whole, begun, resumed = (RewardNormalizer(3, 0.97) for _ in range(3))
    for t in range(30):
        whole(reward[t], ended[t]), begun(reward[t], ended[t])
    resumed.load_tensors(begun.tensors())
    for t in range(30, 60):
        np.testing.assert_array_equal(whole(reward[t], ended[t]), resumed(reward[t], ended[t]))
    assert whole.scale == resumed.scale


@pytest.mark.parametrize("gamma", [0.9, 0.5])
def test_its_discount_is_the_learners(tmp_path, gamma):
    learner = trainer(tmp_path, staggered("counter", 4), replace(CONFIG, gamma=gamma))
    assert learner.normalizer.gamma == gamma
    learner._checkpoint_agent()
    assert load_agent(tmp_path / "model_0.safetensors")[1]["gamma"] == gamma, (
        "a checkpoint says which value its head predicts"
    )


def test_the_buffer_holds_what_happened(tmp_path):
    """Frames, resets, rewards and ends in the buffer against the same actions taken in a twin environment."""
    learner = trainer(tmp_path, staggered("match", 4), replace(CONFIG, normalize_rew=False))
    twin = staggered("match", 4)
    learner.collect()
    for t in range(CONFIG.n_steps):
        _, obs, first = twin.observe()
        np.testing.assert_array_equal(learner.buffer.obs[t], obs)
        np.testing.assert_array_equal(learner.buffer.first[t], first)
        twin.act(learner.buffer.action[t].numpy())
        np.testing.assert_array_equal(learner.buffer.reward[t], twin.observe()[0])
        np.testing.assert_array_equal(learner.buffer.ended[t], twin.info()["terminated"])


def procgen_trainer(directory, schedule=None, config=CONFIG, seed=0, **game):
    env = ProcgenVecEnv(4, ProcgenConfig("dodgeball", num_levels=5, **game), seed, 1)
    eval_env = ProcgenVecEnv(2, ProcgenConfig("dodgeball"), seed, 1)
    shape = replace(network(env), architecture="nature")
    return Trainer(
        env,
        eval_env,
        shape,
        config,
        schedule or Schedule(96, 1, NEVER, 2, 50, NEVER),
        directory,
        seed,
        torch.device("cpu"),
        {},
    )


def log_of(directory):
    return list(csv.DictReader(open(directory / "log.csv")))


def test_the_learning_rate_falls_to_zero_or_stays(tmp_path):
    procgen_trainer(tmp_path / "falls").train()
    procgen_trainer(tmp_path / "stays", config=replace(CONFIG, anneal=False)).train()
    np.testing.assert_allclose(
        [float(row["learning_rate"]) for row in log_of(tmp_path / "falls")],
        5e-4 * np.array([1, 2 / 3, 1 / 3]),
    )
    assert {float(row["learning_rate"]) for row in log_of(tmp_path / "stays")} == {5e-4}


def test_the_log_says_what_happened(tmp_path):
    """Return and length columns against the whole history of rewards and ends, kept on the side."""
    learner = procgen_trainer(tmp_path, Schedule(640, 1, 100, 3, 50, NEVER))
    history = []
    act = learner.env.act

    def watched(action):
        act(action)
        reward, _, first = learner.env.observe()
        history.append((reward.copy(), first.copy()))

    learner.env.act = watched
    learner.train()
    reward, ended = map(np.array, zip(*history))
    episodes = []  # (step at which it ended, slot, return, length)
    for n in range(4):
        begin = 0
        for t in np.flatnonzero(ended[:, n]):
            episodes.append((t, n, reward[begin : t + 1, n].sum(), t + 1 - begin))
            begin = t + 1
    rows = log_of(tmp_path)
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 20
    assert len(episodes) >= 5
    for i, row in enumerate(rows):
        so_far = [episode for episode in episodes if episode[0] < 8 * (i + 1)][-WINDOW:]
        assert int(row["timesteps"]) == 32 * (i + 1)
        assert int(row["num_episodes"]) == len(so_far)
        for name, column in (("rewards", 2), ("len", 3)):
            values = [episode[column] for episode in so_far]
            for kind, function in (("max", max), ("mean", np.mean), ("min", min)):
                logged = row[f"{kind}_episode_{name}"]
                assert (
                    (logged == "")
                    if not values
                    else (float(logged) == pytest.approx(function(values), abs=1e-6))
                )
    last = [episode[3] for episode in episodes]
    assert min(last) < np.mean(last) < max(last)  # so the three columns differ
    due = [any(step % 100 == 0 for step in range(32 * i + 1, 32 * i + 33)) for i in range(20)]
    due[-1] = True  # the end is always evaluated
    assert [row["num_episodes_val"] for row in rows] == ["3" if now else "" for now in due]


def test_validation_columns_are_three_different_numbers():
    given = summary([0.0, 10.0, 2.0], [5, 100, 30], "val_")
    assert given == {
        "val_max_episode_rewards": 10.0,
        "val_mean_episode_rewards": 4.0,
        "val_min_episode_rewards": 0.0,
        "val_max_episode_len": 100.0,
        "val_mean_episode_len": 45.0,
        "val_min_episode_len": 5.0,
    }
    assert summary([], []) == {}


def test_statistics_are_of_the_last_episodes():
    statistics = EpisodeStatistics(2)
    for i in range(WINDOW + 20):
        statistics.update(np.array([float(i), 0.0]), np.array([True, False]))
    assert statistics.episodes == WINDOW + 20
    assert list(statistics.rewards) == list(range(20, WINDOW + 20))
    again = EpisodeStatistics(2)
    again.load_state(statistics.state())
    for each in (statistics, again):
        each.update(np.array([1.0, 1.0]), np.array([False, True]))
    assert again.state() == statistics.state()
    assert statistics.lengths[-1] == WINDOW + 21


def test_rows_after_the_checkpoint_are_cut(tmp_path):
    log = CsvLog(tmp_path / "log.csv", COLUMNS, 0)
    for timesteps in (32, 64, 96):
        log.write({"timesteps": timesteps, "wall_time": timesteps / 10})
    log.close()
    with open(tmp_path / "log.csv", "a") as file:
        file.write("128,1")  # a kill in the middle of a line
    assert [row["timesteps"] for row in read_log(tmp_path / "log.csv")] == ["32", "64", "96"]
    resumed = CsvLog(tmp_path / "log.csv", COLUMNS, 64)
    resumed.close()
    assert [row["timesteps"] for row in log_of(tmp_path)] == [
        "32",
        "64",
    ]
    assert resumed.wall_time == pytest.approx(6.4)


def test_stopping_and_going_on_ends_with_the_same_bits(tmp_path):
    """Stopped after the first iteration by a signal's flag; the second trainer goes on from the file."""
    procgen_trainer(tmp_path / "whole", seed=3).train()
    halves = tmp_path / "halves"
    first = procgen_trainer(halves, Schedule(96, 1, NEVER, 2, 50, 32), seed=3)
    collect = first.collect

    def interrupted(progress):
        if first.iteration == 1:
            raise KeyboardInterrupt
        return collect(progress)

    first.collect = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = procgen_trainer(halves, seed=3)
    assert second.timesteps == 32
    second.train()
    for name in ("model_96.safetensors", "train_state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (halves / name).read_bytes()


def test_a_stop_within_an_iteration_saves_the_last_whole_one(tmp_path, monkeypatch):
    """Interrupted in the second iteration, between two optimiser steps, with no save due: the rest ends with
    the same bits.
    """
    procgen_trainer(tmp_path / "whole", seed=3).train()
    first = procgen_trainer(tmp_path / "halves", seed=3)
    losses = []
    real = agents.ppo.ppo_loss

    def interrupted(*given):
        losses.append(1)
        if len(losses) == 4:  # two minibatches an iteration
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(agents.ppo, "ppo_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first.train()
    second = procgen_trainer(tmp_path / "halves", seed=3)
    assert second.timesteps == 32
    second.train()
    for name in ("model_96.safetensors", "train_state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()


@pytest.mark.parametrize(("seconds", "saves"), [(0.0, [32, 64, 96]), (1e9, [96])])
def test_training_saves_by_time_too(tmp_path, monkeypatch, seconds, saves):
    monkeypatch.setattr(common.stopping, "SAVE_SECONDS", seconds)
    learner = procgen_trainer(tmp_path)
    seen = []
    save = learner._save_resumable
    learner._save_resumable = lambda: seen.append(learner.timesteps) or save()
    learner.train()
    assert seen == saves


@pytest.mark.parametrize("name", ["memory", "counter"])
def test_training_on_a_probe_is_saved_and_goes_on_with_the_same_bits(tmp_path, name):
    """Episodes are cut by the rollouts' ends, so the second half depends on every slot's place, level and
    draw.
    """

    def learner(directory, save_every=NEVER):
        env = staggered(name, 4)
        schedule = Schedule(4 * 7 * 6, 1, NEVER, 2, 0, save_every)
        return Trainer(
            env,
            staggered(name, 2),
            network(env),
            replace(CONFIG, n_steps=7),
            schedule,
            directory,
            0,
            torch.device("cpu"),
            {},
        )

    learner(tmp_path / "whole").train()
    first = learner(tmp_path / "halves", save_every=4 * 7)
    collect = first.collect

    def interrupted(progress):
        if first.iteration == 3:
            raise KeyboardInterrupt
        return collect(progress)

    first.collect = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = learner(tmp_path / "halves")
    assert second.timesteps == 4 * 7 * 3
    second.train()
    for file in ("model_168.safetensors", "train_state.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "halves" / file).read_bytes()
    clock = ("wall_time", "steps_per_second")
    logs = [
        [{k: v for k, v in row.items() if k not in clock} for row in log_of(tmp_path / half)]
        for half in ("whole", "halves")
    ]
    assert logs[0] == logs[1]


def test_states_saved_by_earlier_versions_still_load(tmp_path):
    """The file as it has been since the first version: every name, and the game's own bytes with their
    checksums.
    """
    procgen_trainer(tmp_path, Schedule(32, 1, NEVER, 2, 50, 32)).train()
    tensors, meta = load_checkpoint(tmp_path / "train_state.safetensors")
    assert set(meta) == {"kind", "timesteps", "iteration", "statistics", "checksums"}
    assert meta["kind"] == "training state"
    assert {name.split("/")[0] for name in tensors} == {"agent", "optimizer", "normalizer", "state", "env"}
    states = [tensors[f"env/{i}"].numpy().tobytes() for i in range(4)]
    assert [hashlib.sha256(state).hexdigest() for state in states] == meta["checksums"]
    assert {game_name(state) for state in states} == {"dodgeball"}


def spoiled_state(tensors, meta):
    tensors["env/2"][100] += 1


def foreign_state(tensors, meta):
    meta["kind"] = "agent"


@pytest.mark.parametrize(
    ("spoil", "reason"), [(spoiled_state, "does not match its checksum"), (foreign_state, "it holds 'agent'")]
)
def test_a_state_that_cannot_be_used_says_how_to_go_on(tmp_path, spoil, reason):
    schedule = Schedule(64, 1, NEVER, 2, 50, 32)
    procgen_trainer(tmp_path, schedule).train()
    path = tmp_path / "train_state.safetensors"
    tensors, meta = load_checkpoint(path)
    spoil(tensors, meta)
    save_checkpoint(path, tensors, meta)
    with pytest.raises(BadCheckpoint, match=reason) as caught:
        procgen_trainer(tmp_path, schedule)
    message = str(caught.value)
    assert (
        f"--agent_file {tmp_path / 'model_64.safetensors'}, or delete train_state.safetensors to"
        " begin this run again" in message
    )
    assert "\n" not in message
    path.unlink()
    assert procgen_trainer(tmp_path, schedule).timesteps == 0


@pytest.mark.parametrize(
    "log", [b"\xff\xfe", b"timesteps,wall_time\nmany,1\n", b"timesteps,wall_time\n0,1,2,3\n", b"time\n3\n"]
)
def test_a_damaged_log_is_named(tmp_path, log):
    (tmp_path / "log.csv").write_bytes(log)
    with pytest.raises(UsageError, match="log.csv is damaged: repair it, or move it away"):
        CsvLog(tmp_path / "log.csv", COLUMNS, 64)


def test_seeds_differ(tmp_path):
    for seed in (0, 1):
        procgen_trainer(tmp_path / str(seed), Schedule(32, 1, NEVER, 2, 50, NEVER), seed=seed).train()
    assert (tmp_path / "0" / "model_32.safetensors").read_bytes() != (
        tmp_path / "1" / "model_32.safetensors"
    ).read_bytes()


def test_evaluation_does_not_touch_training(tmp_path):
    for name, every in (("with", 32), ("without", NEVER)):
        procgen_trainer(tmp_path / name, Schedule(96, 1, every, 2, 50, NEVER)).train()
    assert (tmp_path / "with" / "model_96.safetensors").read_bytes() == (
        tmp_path / "without" / "model_96.safetensors"
    ).read_bytes()


def test_the_bar_moves_within_an_iteration_and_ends_where_the_steps_are(tmp_path, monkeypatch):
    """A slow machine takes minutes for an iteration: rate and time left do not wait for its end."""
    moves = []
    bars = []

    class Watched(tqdm):
        def update(self, n=1):
            moves.append(n)
            return super().update(n)

    monkeypatch.setattr(
        agents.trainer, "progress_bar", lambda **options: bars.append(Watched(**options)) or bars[-1]
    )
    learner = trainer(tmp_path, ProcgenVecEnv(4, ProcgenConfig("dodgeball")), CONFIG)
    learner.schedule = replace(learner.schedule, num_timesteps=64)
    learner.train()
    assert len(moves) == 2 * (CONFIG.n_steps + CONFIG.epoch * CONFIG.mini_batch_per_epoch + 1)
    assert bars[0].n == learner.timesteps == 64
    assert min(moves) > -1e-9
    acting = 32 / (1 + agents.trainer.UPDATE_WORK * CONFIG.epoch)
    updates = CONFIG.epoch * CONFIG.mini_batch_per_epoch
    assert moves[0] == pytest.approx(acting / CONFIG.n_steps)
    assert moves[CONFIG.n_steps] == pytest.approx((32 - acting) / updates)
    second = len(moves) // 2
    assert moves[second] != pytest.approx(moves[0], rel=1e-6), (
        "the second iteration goes by how long the first one's parts took"
    )


def test_the_bar_shows_no_return_before_an_episode_has_ended():
    assert (
        mean_return({})
        == mean_return({"mean_episode_rewards": "nan"})
        == mean_return({"mean_episode_rewards": float("nan")})
        == ""
    )
    assert mean_return({"mean_episode_rewards": 7.5}) == "return 7.50"
