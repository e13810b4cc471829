"""The memory command on a small recording: keyed, resumable, exactly nothing for an agent without memory, refused where it cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from coinrun_runner import CONFIG, JUMP_RIGHT, RIGHT, save_runner
from made_store import make_store

import analysis.memory_precompute as command
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from analysis.concepts_precompute import Args as ConceptArgs, main as concepts
from analysis.memory_pasts import chosen_moments, drawn_velocities
from analysis.memory_precompute import Args, arm, check_asked, main, one_of_each_level, others
from analysis.memory_summary import COMMAND, STEP, VERSION
from analysis.steps import find_step, read_numbers, read_part
from common.runs import UsageError, file_id
from envs.make import make_env
from envs.procgen import action_space
from rollouts.play import Job
from rollouts.record import Actor, play_shard
from rollouts.store import Rollouts, create_store, write_shard

LEVELS = (3011, 3012, 3013, 3014, 3015, 3016, 3019, 3027, 3036, 3038, 3040, 3044)
"""The runner is soon through with them, one way or the other."""
SMALL = dict(start_level=3011, num_levels=4, play_frames=(0, 1), num_moments=10, num_envs=12, num_threads=0, device="cpu")


def forgetful_runner(path):
    """The runner without a recurrent core."""
    torch.manual_seed(0)
    agent = ActorCritic(NetworkConfig(15, architecture="nature", feature_size=16, core="none", precision="fp32"))
    with torch.no_grad():
        agent.policy_head.weight.mul_(100)
        agent.policy_head.bias[RIGHT], agent.policy_head.bias[JUMP_RIGHT] = 4, 3
    save_agent(path, agent, {"env": vars(CONFIG), "reward_scale": 2.0})
    return path


def recorded(path, agent_file) -> Rollouts:
    """An episode on each of LEVELS, the last one on the first of them again."""
    agent, actions = load_agent(agent_file)[0], action_space("coinrun")
    about = {"num_actions": 15, "action_names": actions.names, "noop": actions.noop, "env": vars(CONFIG)}
    create_store(path, about | {"hidden_size": agent.core.state_size})
    env = make_env(len(LEVELS) + 1, CONFIG, num_threads=0)
    jobs = [Job(level, i) for i, level in enumerate((*LEVELS, LEVELS[0]))]
    write_shard(path, 0, *play_shard(env, Actor(agent, "agent", file_id(agent_file)), jobs, 0))
    env.close()
    return Rollouts.open(path)


def run_of(args: Args):
    run = find_step(args.out_dir, STEP, VERSION, COMMAND)
    return run, read_numbers(run)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Arguments of a run that is done."""
    path = tmp_path_factory.mktemp("memory")
    agent_file = save_runner(path / "agent.safetensors")
    recorded(path / "store", agent_file)
    concepts(ConceptArgs(path / "store", path))
    args = Args(agent_file, path / "store", out_dir=path, **SMALL)
    main(args)
    return args


def test_the_recurrent_agent_has_a_memory_that_ends(world):
    run, summary = run_of(world)
    kl = np.array([starts[0][0] for starts in summary["steps"]["all"]["kl"]])
    assert kl[0] > kl[1] > kl[-1] and kl[1] > 1e-6
    steps = read_part(run, "steps")
    rollouts = Rollouts.open(world.data_dir)
    assert summary["steps"]["all"]["levels"] == len(LEVELS) and len(steps["t"]) == rollouts.episodes["length"][:-1].sum()
    assert np.array_equal(steps["t"], rollouts.step_table()[steps["row"], 1])
    assert np.array_equal(steps["level"], rollouts.episodes["level_seed"][rollouts.step_table()[steps["row"], 0]])
    assert list(summary["levels"]) == ["all", "0", "1", "other"] and len(summary["lines"]) >= 4
    assert "NaN" not in (run / "numbers.json").read_text()


def test_the_same_command_computes_nothing_again_and_new_does(world, monkeypatch):
    run, before = run_of(world)
    written = {path: path.stat().st_mtime_ns for path in run.glob("*.safetensors")}
    monkeypatch.setattr(command, "steps", None)
    main(world)
    assert run_of(world)[1] == before and written == {path: path.stat().st_mtime_ns for path in run.glob("*.safetensors")}
    with pytest.raises(TypeError):
        main(replace(world, new=True))


def test_an_agent_without_memory_changes_in_nothing_from_one_frame_on(world, tmp_path):
    agent_file = forgetful_runner(tmp_path / "agent.safetensors")
    recorded(tmp_path / "store", agent_file)
    concepts(ConceptArgs(tmp_path / "store", tmp_path))
    args = Args(agent_file, tmp_path / "store", out_dir=tmp_path, **SMALL)
    main(args)
    _, summary = run_of(args)
    assert summary["largest_change_from_1_frame_on"] == {"kl": 0, "total_variation": 0, "value_change": 0}
    assert all(summary["levels"][name]["as the whole agent"] == 1 for name in ("1", "other"))
    assert summary["levels"]["0"]["as the whole agent"] < 1
    changes = np.array(summary["pasts"]["all"]["kl"])  # 0 but for the rounding of float32 logits, which is squared in a KL
    assert changes.shape == (3, 3) and np.abs(changes).max() < 1e-12 and summary["pasts"]["all"]["n"] > 0
    assert run_of(world)[1]["pasts"]["all"]["kl"][1][0] > 1e-6


def test_numbers_depend_on_every_flag_that_says_so(world):
    rollouts = Rollouts.open(world.data_dir)
    concept = {"support": np.arange(100) % 2 == 0, "vx": np.linspace(-1, 1, 100), "vy": np.linspace(-2, 2, 100)}
    a, b = (drawn_velocities(concept, np.arange(20), seed) for seed in (0, 1))
    assert not np.array_equal(a, b) and (a[::2, 1] == 0).all() and (np.abs(a) <= [1, 2]).all()
    short, long = (chosen_moments(rollouts, 5, past, 0) for past in (1, 20))
    assert len(short[0]) == 5 and long[1].min() >= 20 > short[1].min() and len(chosen_moments(rollouts, 3, 1, 0)[0]) == 3
    assert not np.array_equal(chosen_moments(rollouts, 5, 1, 1)[1], short[1])
    identities = {json.dumps(command.settings(replace(world, **changed))) for changed in (
        {}, {"num_episodes": 11}, {"start_level": 7}, {"num_levels": 5}, {"play_frames": (0,)}, {"num_moments": 11},
        {"past": 3}, {"seed": 1},
    )}  # fmt: skip
    assert len(identities) == 8
    assert command.settings(replace(world, num_envs=3, num_threads=1)) == command.settings(world)
    assert len(one_of_each_level(rollouts, 99, 0)) == len(LEVELS)
    few = [tuple(one_of_each_level(rollouts, 10, seed)) for seed in (0, 0, 1)]
    assert all(len(set(found)) == 10 for found in few) and few[0] == few[1] != few[2]


def test_the_levels_are_the_ones_asked_for(world):
    env, args = make_env(2, CONFIG, num_threads=0), replace(world, num_levels=2)
    agent = load_agent(args.model_file)[0]
    assert command.played(env, agent, args, "cpu")["level"].tolist() == [3011, 3012]
    rollouts = Rollouts.open(args.data_dir)
    bank = others(rollouts, np.arange(12), 0)
    assert bank.shape == (12, rollouts.episodes["length"].max() + 1, agent.core.state_size)
    assert arm(agent, "all", bank) is agent and arm(agent, "4", bank).frames == 4 and arm(agent, "4", bank).others is None
    assert arm(agent, "other", bank).frames == 1 and arm(agent, "other", bank).others is bank
    env.close()


def test_what_makes_no_sense_is_refused_in_one_line(world, tmp_path):
    wrong = {"num_episodes": (9, "give 10 or more"), "num_levels": (1, "give 2"), "num_moments": (3, "give 10")}
    wrong |= {"past": (0, "give 1"), "num_envs": (0, "give 1"), "start_level": (-1, "do not lie within")}
    wrong |= {"play_frames": ((0, 3), "some of 0 1 2")}
    for name, (value, words) in wrong.items():
        with pytest.raises(UsageError, match=words):
            check_asked(replace(world, **{name: value}))
    with pytest.raises(UsageError, match="concepts_precompute --data_dir"):
        main(replace(world, out_dir=tmp_path))
    stranger = save_runner(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(UsageError, match="recorded by another agent"):
        main(replace(world, model_file=stranger))
    jumper = tmp_path / "jumper.safetensors"
    save_agent(jumper, load_agent(world.model_file)[0], {"env": vars(CONFIG) | {"env_name": "jumper"}})
    with pytest.raises(UsageError, match="recorded in coinrun, and .* plays jumper"):
        main(replace(world, model_file=jumper))
    with pytest.raises(UsageError, match="episodes of 2 levels; 10 or more"):
        one_of_each_level(make_store(tmp_path / "two", [3, 2]), 100, 0)
    with pytest.raises(UsageError, match="smaller --past"):
        chosen_moments(Rollouts.open(world.data_dir), 10, 1000, 0)
