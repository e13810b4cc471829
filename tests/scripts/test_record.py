"""Recording: frames replay bit for bit, states are the agent's, and a killed recording resumes to the same
bits.
"""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import record
from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from common.cli import parse
from common.runs import UsageError
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from rollouts import inspect_store
from rollouts.check import check_store
from rollouts.manifest import write_manifest
from rollouts.record import NUM_LEVELS, Plan
from rollouts.replay import SAME, replay
from rollouts.store import BadStore, Rollouts

ROOT = Path(__file__).parents[2]
GAME = "dodgeball"  # its episodes are short under any policy


def make_agent(path: Path, seed: int, hidden_size: int = 8) -> Path:
    torch.manual_seed(seed)
    agent = ActorCritic(
        NetworkConfig(
            15, architecture="nature", feature_size=16, core="gru", hidden_size=hidden_size, precision="fp32"
        )
    )
    with torch.no_grad():
        agent.policy_head.weight.mul_(100)
        agent.encoder.out.weight.mul_(3)
    save_agent(path, agent, {})
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [make_agent(folder / f"m{seed}.safetensors", seed) for seed in range(2)]


def asked(models, out_dir, **changed) -> record.Args:
    default = dict(
        env_name=GAME, num_episodes=10, episodes_per_shard=4, num_envs=3, num_threads=1, device="cpu"
    )
    return record.Args(out_dir=out_dir, **(default | {"agent_file": models[0] if models else None} | changed))


def make(models, out_dir, **changed) -> Rollouts:
    args = asked(models, out_dir, **changed)
    record.main(args)
    return Rollouts.open(out_dir / "data" / args.exp_name)


@pytest.fixture(scope="module")
def store(models, tmp_path_factory):
    return make(models, tmp_path_factory.mktemp("record"))


def checksums(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("shard_*")}


def test_store_is_whole_and_sound(store):
    assert [entry["num_episodes"] for entry in store.entries] == [4, 4, 2]
    assert list(check_store(store)) == []
    assert len(set(zip(store.episodes["level_seed"], store.episodes["repeat"]))) == 10


@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_jobs_make_the_store_of_one(models, store, tmp_path, count):
    for job in reversed(range(count)):
        record.main(asked(models, tmp_path, job=(job, count)))
    together = Rollouts.open(tmp_path / "data" / "test")
    assert checksums(together.path) == checksums(store.path)
    assert together.id == store.id


def test_a_job_makes_its_share_alone(models, tmp_path):
    assert [entry["shard"] for entry in make(models, tmp_path, job=(1, 2)).entries] == [1]


def test_every_episode_replays_bit_for_bit(store):
    env = ProcgenVecEnv(4, ProcgenConfig(**store.manifest["env"]))
    assert (replay(store, range(10), env) == SAME).all()


def test_replay_finds_where_an_episode_differs(store):
    env = ProcgenVecEnv(4, ProcgenConfig(**store.manifest["env"]))
    whole = store.episode
    lengths = store.episodes["length"]

    def falsified(i):
        steps = {name: value.copy() for name, value in whole(i).items()}
        if i == 1:
            steps["obs"][3, 5, 5, 0] ^= 1
        if i == 2:
            steps["reward"][-1] += 1
        if i == 3:
            steps["terminated"][-1] = False
        return steps

    other = Rollouts.open(store.path)
    other.episode = falsified
    assert replay(other, range(5), env).tolist() == [SAME, 3, lengths[2] - 1, lengths[3] - 1, SAME]
    other = Rollouts.open(store.path)
    other.episodes["level_seed"] = np.roll(other.episodes["level_seed"], 1)  # level seeds off by one episode
    assert (replay(other, range(10), env) == 0).all()


def test_first_frame_of_every_episode_is_its_levels(store):
    env = ProcgenVecEnv(1, ProcgenConfig(**store.manifest["env"]))
    for i, seed in enumerate(store.episodes["level_seed"]):
        env.open_level(0, seed)
        np.testing.assert_array_equal(store.episode(i)["obs"][0], env.observe()[1][0])
        assert store.episode(i)["obs"][-1].any()  # no blanked last frame


def recomputed(agent, episode, first_at=0):
    first = torch.zeros(len(episode["obs"]), 1, dtype=torch.bool)
    first[first_at] = True
    with torch.no_grad():
        after = agent.unroll(torch.from_numpy(episode["obs"])[:, None], agent.initial_state(1), first)[:, 0]
        return after.numpy(), agent.heads(after)[0].numpy()


def test_hidden_states_and_logits_are_the_agents(store, models):
    agent = record.load_agent(models[0])[0]
    hidden_after = store.hidden_after()
    logits = store.steps("logits")
    worst = 0.0
    for i, (begin, length) in enumerate(zip(store.first_step, store.episodes["length"])):
        after, own = recomputed(agent, store.episode(i))
        np.testing.assert_allclose(hidden_after[begin : begin + length], after, atol=1e-4)
        np.testing.assert_allclose(logits[begin : begin + length], own, atol=1e-3)
        worst = max(
            worst,
            np.abs(
                recomputed(agent, store.episode(i), first_at=1)[0] - hidden_after[begin : begin + length]
            ).max(),
        )
    assert worst > 1e-2  # the reset one step late is another hidden state


def test_windows_carry_the_reset(store, models):
    agent = record.load_agent(models[0])[0]
    segment = store.windows(6, "end", "left").batch(np.arange(0, store.num_steps, 7))
    with torch.no_grad():
        after = agent.unroll(segment.obs, segment.hidden[0], segment.first)
        shifted = agent.unroll(segment.obs, segment.hidden[0], segment.first.roll(1, 0))
    assert (after - segment.hidden_after())[segment.mask].abs().max() < 1e-4
    assert (shifted - segment.hidden_after())[segment.mask].abs().max() > 1e-2


def test_the_same_command_says_done_and_changes_nothing(store, models, caplog):
    before = {path: path.stat().st_mtime_ns for path in store.path.iterdir()}
    with caplog.at_level(logging.INFO):
        record.main(asked(models, store.path.parents[1]))
    assert "3 of 3 shards are done" in caplog.text
    assert "is done as far as asked; another --exp_name" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in store.path.iterdir()} == before


def test_array_jobs_in_any_order_make_the_same_store(store, models, tmp_path):
    for job, numbers in (((1, 2), [1]), ((0, 2), [0, 1, 2])):
        other = make(models, tmp_path, job=job)
        assert shard_numbers(other) == numbers
    assert checksums(other.path) == checksums(store.path)
    assert other.id == store.id


def shard_numbers(store):
    return [entry["shard"] for entry in store.entries]


def test_threads_of_the_game_do_not_matter(store, models, tmp_path):
    assert make(models, tmp_path, num_threads=2, num_episodes=10).id == store.id


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_recording_ends_with_the_same_bits(models, tmp_path, kill, code):
    """kill -9 or Ctrl-C once the first shard stands and the next is being played; the same command again
    finishes it.
    """
    flags = [
        "--env_name",
        GAME,
        "--agent_file",
        str(models[0]),
        "--num_episodes",
        "12",
        "--episodes_per_shard",
        "4",
        "--num_envs",
        "3",
    ]
    flags += ["--num_threads", "1", "--device", "cpu", "--out_dir", str(tmp_path / "killed")]
    command = [sys.executable, "record.py", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    killed = tmp_path / "killed" / "data" / "test"
    while not (killed / "shard_00000.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(kill)
    said = process.communicate()[1]
    done = len(checksums(killed)) // 2
    expected = (
        f"interrupted by {kill.name}: {done} of 3 shards are whole in {killed}; the same command goes"
        " on from there\n"
    )
    assert process.returncode == code
    assert "Traceback" not in said
    assert said.endswith(expected if kill != signal.SIGKILL else "")
    assert done < 3
    assert len(Rollouts.open(killed)) == 4 * done
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = make(models, tmp_path / "whole", num_episodes=12)
    torch.set_num_threads(threads)
    assert checksums(killed) == checksums(whole.path)
    for name in whole.step_fields:
        np.testing.assert_array_equal(Rollouts.open(killed).steps(name), whole.steps(name))


def test_plan_draws_each_episode_by_itself():
    plan = Plan(10, 4, start_level=1000, num_levels=50, seed=3)
    jobs = sum((plan.jobs(shard) for shard in range(plan.num_shards)), [])
    assert [len(plan.jobs(shard)) for shard in range(3)] == [4, 4, 2]
    assert [job.repeat for job in jobs] == list(range(10))
    assert all(1000 <= job.level < 1050 for job in jobs)
    assert Plan(6, 4, 1000, 50, 3).jobs(1) == plan.jobs(1)[:2]
    assert Plan(10, 4, 1000, 50, 4).jobs(0) != plan.jobs(0)


def test_levels_are_drawn_uniformly_from_the_whole_range():
    levels = np.array([job.level for job in Plan(20_000, 20_000, 7, 10).jobs(0)])
    assert np.abs(np.bincount(levels - 7, minlength=10) / 2000 - 1).max() < 0.1
    assert set(levels) == set(range(7, 17))
    unlimited = np.array([job.level for job in Plan(20_000, 20_000).jobs(0)])
    assert unlimited.max() < NUM_LEVELS
    assert abs(unlimited.mean() / NUM_LEVELS - 0.5) < 0.02


FLAGS = {
    "seed": dict(seed=1),
    "start_level": dict(start_level=5000),
    "num_levels": dict(num_levels=3),
}


@pytest.mark.parametrize("changed", FLAGS.values(), ids=FLAGS.keys())
def test_level_flags_change_the_levels(store, models, tmp_path, changed):
    other = make(models, tmp_path, num_episodes=4, **changed)
    assert not np.array_equal(other.episodes["level_seed"], store.episodes["level_seed"][:4])
    if "num_levels" in changed:
        assert other.episodes["level_seed"].max() < 3


PICTURES = [
    dict(distribution_mode="hard"),
    dict(use_backgrounds=True),
    dict(paint_vel_info=True, env_name="coinrun"),
]


@pytest.mark.parametrize("changed", PICTURES, ids=str)
def test_picture_flags_change_the_first_frame(models, tmp_path, changed):
    small = dict(num_episodes=1, num_envs=1, env_name=GAME, agent_file=None, behaviour="random")
    plain = make(
        models, tmp_path / "plain", **(small | ({"env_name": "coinrun"} if "env_name" in changed else {}))
    )
    other = make(models, tmp_path / "other", **(small | changed))
    assert np.array_equal(plain.episodes["level_seed"], other.episodes["level_seed"])
    assert not np.array_equal(plain.episode(0)["obs"][:2], other.episode(0)["obs"][:2])


def off_policy(store) -> float:
    """How far the stored log-probabilities are from those of the stored logits, at most."""
    own = torch.log_softmax(torch.from_numpy(store.steps("logits")), -1).numpy()
    return np.abs(store.steps("log_prob") - own[np.arange(store.num_steps), store.steps("action")]).max()


RESHAPED = [
    dict(behaviour="temperature", temperature=3.0),
    dict(behaviour="top-k", top_k=2),
    dict(behaviour="greedy"),
    dict(behaviour="epsilon-greedy", epsilon=0.5),
]
RESHAPED += [dict(behaviour="seed-noise")]


@pytest.mark.parametrize("changed", RESHAPED, ids=str)
def test_behaviours_change_the_density_and_are_named(store, models, tmp_path, changed):
    other = make(models, tmp_path, num_episodes=2, **changed)
    assert off_policy(other) > 1e-2
    assert off_policy(store) < 1e-4
    assert set(other.episodes["behaviour"]) == {changed["behaviour"]}


def test_temperature_top_k_and_epsilon_matter_by_their_values(models, tmp_path):
    def log_prob(**changed):
        return make(models, tmp_path / str(changed), num_episodes=1, **changed).steps("log_prob")[0]

    assert log_prob(behaviour="temperature", temperature=3.0) != log_prob(
        behaviour="temperature", temperature=30.0
    )
    assert log_prob(behaviour="top-k", top_k=2) != log_prob(behaviour="top-k", top_k=15)
    assert log_prob(behaviour="epsilon-greedy", epsilon=0.2) != log_prob(
        behaviour="epsilon-greedy", epsilon=0.6
    )


def test_the_manifest_names_the_epsilon_of_epsilon_greedy_alone(store, models, tmp_path):
    other = make(models, tmp_path, num_episodes=1, behaviour="epsilon-greedy", epsilon=0.3)
    assert other.manifest["behaviour"]["epsilon"] == 0.3
    assert "epsilon" not in store.manifest["behaviour"]


def test_mixtures_take_turns_by_shard(models, tmp_path):
    store = make(
        models,
        tmp_path,
        agent_file=None,
        behaviour="mixture",
        mixture_files=(models[0], models[1], models[1]),
        num_episodes=12,
    )
    ids = [store.episodes["policy_id"][store.episodes["shard"] == shard] for shard in range(3)]
    assert all(len(set(shard)) == 1 for shard in ids)
    assert ids[0][0] != ids[1][0] == ids[2][0]
    assert list(check_store(store)) == []


def test_each_agent_of_a_mixture_plays_its_own_way_and_every_episode_says_whose_and_how(models, tmp_path):
    played = ("random", "agent", "temperature", "epsilon-greedy")
    store = make(
        models,
        tmp_path,
        agent_file=None,
        behaviour="mixture",
        mixture_files=(models[0], models[0], models[1], models[0]),
        mixture_behaviours=played,
        temperature=5.0,
        epsilon=0.4,
        num_episodes=16,
    )
    episodes = store.episodes
    assert tuple(episodes["behaviour"][::4]) == played
    assert store.manifest["behaviour"]["each"] == list(played)
    assert store.manifest["behaviour"]["epsilon"] == 0.4
    expected = [record.file_id(models[i]) for i in (0, 0, 1, 0)]
    for shard, (name, policy) in enumerate(zip(played, expected)):
        mine = episodes["shard"] == shard
        assert set(episodes["behaviour"][mine]) == {name}
        assert set(episodes["policy_id"][mine]) == {policy}
    logits, action = torch.from_numpy(store.steps("logits")), store.steps("action")
    own = {
        "random": 0 * logits,
        "agent": logits,
        "temperature": logits / 5,
        "epsilon-greedy": (0.6 * (logits == logits.amax(-1, keepdim=True)) + 0.4 / 15).log(),
    }
    name_of_step = episodes["behaviour"][store.step_table()[:, 0]]
    for name, reshaped in own.items():
        steps = name_of_step == name
        log_prob = torch.log_softmax(reshaped, -1).numpy()[np.arange(len(action)), action]
        np.testing.assert_allclose(store.steps("log_prob")[steps], log_prob[steps], rtol=1e-4, atol=1e-5)
    assert list(check_store(store)) == []


def test_random_needs_no_agent(models, tmp_path):
    store = make(models, tmp_path, agent_file=None, behaviour="random", num_episodes=2)
    assert set(store.episodes["policy_id"]) == {"none"}
    assert store.manifest["hidden_size"] == 1
    np.testing.assert_allclose(store.steps("log_prob"), -np.log(15), rtol=1e-5)
    assert list(check_store(store)) == []


def test_names_and_places(models, tmp_path):
    assert (
        make(models, tmp_path, exp_name="mine", num_episodes=1, num_envs=1).path == tmp_path / "data" / "mine"
    )


MIXTURE = dict(behaviour="mixture", mixture_files=(Path("x"),), agent_file=None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(num_episodes=0), "nothing to record"),
        (dict(episodes_per_shard=0), "nothing to record"),
        (dict(num_envs=0), "at least one environment"),
        (dict(start_level=-1), "do not lie within"),
        (dict(seed=-1), "seed is -1"),
        (dict(num_levels=2**31), "do not lie within"),
        (dict(agent_file=None), "needs an agent"),
        (dict(agent_file=Path("nowhere.safetensors")), "no checkpoint"),
        (dict(behaviour="brave"), "unknown behaviour 'brave'.*seed-noise, mixture$"),
        (dict(behaviour="mixture"), "takes its agents from --mixture_files"),
        (dict(mixture_files=(Path("x"),)), "--mixture_files has no effect"),
        (dict(temperature=2.0), "--temperature has no effect"),
        (MIXTURE | dict(temperature=2.0), "--temperature has no effect"),
        (dict(mixture_behaviours=("agent",)), "--mixture_behaviours has no effect"),
        (MIXTURE | dict(mixture_behaviours=("agent", "greedy")), "names 2 behaviours for 1 agent"),
        (MIXTURE | dict(mixture_behaviours=("mixture",)), "unknown behaviour 'mixture'"),
        (MIXTURE | dict(mixture_behaviours=("greedy",), temperature=2.0), "--temperature has no effect"),
        (dict(top_k=1), "--top_k has no effect"),
        (dict(env_name="pong"), "unknown game 'pong'"),
        (dict(device="tpu"), "unknown device"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(models, tmp_path, changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        record.main(asked(models, tmp_path, **changed))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def described(path: Path, **env) -> Path:
    """The agent of a fresh file that says what it was trained on."""
    agent = ActorCritic(
        NetworkConfig(15, architecture="nature", feature_size=16, core="gru", hidden_size=8, precision="fp32")
    )
    save_agent(
        path,
        agent,
        {"env": vars(ProcgenConfig(**({"env_name": GAME, "num_levels": 7, "start_level": 3} | env)))},
    )
    return path


OWN = dict(distribution_mode="hard", use_backgrounds=True, center_agent=False, blink=True)


def test_the_game_is_the_agents_own_unless_a_flag_says_otherwise(tmp_path, caplog):
    """A flag that differs from the agent's description is logged in one line, option by option."""
    caplog.set_level(logging.INFO)
    small = dict(
        agent_file=described(tmp_path / "hard.safetensors", **OWN), num_episodes=1, num_envs=1, env_name=None
    )
    own = make(None, tmp_path, exp_name="own", **small).manifest["env"]
    assert own == vars(ProcgenConfig(GAME, **OWN))
    assert "otherwise" not in caplog.text
    other = make(
        None, tmp_path, exp_name="other", **(small | dict(distribution_mode="easy", blink=True))
    ).manifest["env"]
    assert other == own | {"distribution_mode": "easy"}
    assert (
        caplog.text.count(
            "the agent plays otherwise than it was trained: distribution_mode = easy, not hard\n"
        )
        == 1
    )


def test_agents_of_other_games_mix_only_when_told_which_to_play(tmp_path):
    files = (
        described(tmp_path / "hard.safetensors", **OWN),
        described(tmp_path / "easy.safetensors", center_agent=False),
    )
    small = dict(
        agent_file=None,
        behaviour="mixture",
        mixture_files=files,
        num_episodes=2,
        episodes_per_shard=1,
        num_envs=1,
        env_name=None,
    )
    with pytest.raises(
        UsageError,
        match="games that differ in distribution_mode, use_backgrounds, blink: give --distribution_mode$",
    ):
        record.main(asked(None, tmp_path, **small))
    game_flags = dict(distribution_mode="easy", use_backgrounds=False, blink=False)
    assert make(None, tmp_path, **small, **game_flags).manifest["env"] == vars(
        ProcgenConfig(GAME, center_agent=False)
    )
    described(files[1])
    with pytest.raises(UsageError, match="differ in center_agent: record them apart"):
        record.main(asked(None, tmp_path, exp_name="x", **small, **game_flags))


def test_an_agent_that_cannot_play_the_game_is_refused(tmp_path):
    for name, shape, message in (
        ("few", (5, (64, 64, 3)), "has 5 actions"),
        ("small", (15, (32, 32, 3)), "sees frames of .32, 32, 3."),
    ):
        save_agent(tmp_path / name, ActorCritic(NetworkConfig(*shape, feature_size=8, hidden_size=4)), {})
        with pytest.raises(UsageError, match=message):
            record.main(asked(None, tmp_path, agent_file=tmp_path / name))
    assert not (tmp_path / "data").exists()


def test_the_same_command_at_the_same_time_is_refused_and_other_shards_are_not(models, tmp_path):
    """Another process is at work on shard 1; other shards can be recorded, and it itself once that
    process is gone.
    """
    make(models, tmp_path, job=(0, 3))
    lock = tmp_path / "data" / "test" / ".shard_00001.lock"
    take = (
        "import sys; from pathlib import Path; from common.locks import hold; kept ="
        " hold(Path(sys.argv[1])); print(); sys.stdin.read()"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", take, str(lock)], cwd=ROOT, **pipes) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match=f"shard 1 .* is being made by process {other.pid} "):
            record.main(asked(models, tmp_path))
        assert shard_numbers(make(models, tmp_path, job=(2, 3))) == [0, 2]
        other.kill()
    assert shard_numbers(make(models, tmp_path)) == [0, 1, 2]


def test_agents_of_other_widths_do_not_mix(models, tmp_path):
    wide = make_agent(tmp_path / "wide.safetensors", 0, hidden_size=9)
    with pytest.raises(UsageError, match="one width; these have 8, 9"):
        record.main(
            asked(models, tmp_path, agent_file=None, behaviour="mixture", mixture_files=(models[0], wide))
        )


@pytest.mark.parametrize(
    "changed",
    [
        dict(seed=1),
        dict(num_envs=4),
        dict(num_episodes=11, seed=1),
        dict(behaviour="greedy"),
        dict(num_episodes=4, behaviour="greedy"),
    ],
    ids=str,
)
def test_another_recording_under_the_same_name_is_refused(store, models, changed):
    with pytest.raises(UsageError, match="choose another name"):
        record.main(asked(models, store.path.parents[1], **changed))


def test_inspector_prints_checks_and_replays(store, capsys):
    inspect_store.main(inspect_store.Args(store.path, check=True, replay=-1))
    out = capsys.readouterr().out
    assert f"episodes 10, steps {store.num_steps}, shards 3" in out
    assert store.id in out
    assert "every checksum and invariant holds" in out
    assert "0 differ" in out
    inspect_store.main(inspect_store.Args(store.path))
    assert "checks" not in capsys.readouterr().out


def test_inspector_counts_the_levels_of_real_episodes_only():
    assert inspect_store._levels(np.array([7, -1, 9, 7])) == "2, from 7 to 9"
    assert inspect_store._levels(np.array([-1, -1])) == "none: the episodes are simulated"


def test_inspector_names_what_is_missing_and_what_is_wrong(models, tmp_path, capsys):
    store = make(models, tmp_path, job=(1, 3))
    inspect_store.main(inspect_store.Args(store.path))
    assert "unfinished: 6 episodes" in capsys.readouterr().out
    data = store.path / "shard_00001.h5"
    image = bytearray(data.read_bytes())
    image[-5] ^= 1
    data.write_bytes(image)
    with pytest.raises(ValueError, match="is not sound: shard_00001.h5: its bytes"):
        inspect_store.main(inspect_store.Args(store.path, check=True))


@pytest.mark.parametrize("env", [{"gravity": 2}, {"env_name": "pong"}, "coinrun"])
def test_a_store_of_a_game_that_is_not_there_cannot_be_replayed(models, tmp_path, env):
    store = make(models, tmp_path, num_episodes=1)
    write_manifest(store.path, store.manifest | {"env": env})
    with pytest.raises(
        BadStore, match="recorded in a game that this version does not have|its env is 'coinrun'"
    ):
        inspect_store.main(inspect_store.Args(store.path, replay=1))


def test_manifest_describes_the_recording(store):
    manifest = store.manifest
    assert manifest["env"]["env_name"] == GAME
    assert manifest["core_parts"] == {"h": [0, 8]}
    assert manifest["noop"] == 4
    assert manifest["plan"] == Plan(10, 4).values()
    assert manifest["policies"] == [store.episodes["policy_id"][0]]
    assert "procgen-mirror" in manifest["made"]["packages"]


def test_the_place_of_a_recording_has_its_older_name_too():
    for flag in ("--out_dir", "--logdir"):
        assert parse(record.Args, words=[flag, "elsewhere"]).out_dir == Path("elsewhere")
