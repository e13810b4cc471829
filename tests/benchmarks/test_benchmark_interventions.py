"""The comparison of paired forks with recording: both arms are counted, and the edit acts."""

import json

import numpy as np

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from benchmarks import interventions as benchmark
from benchmarks.interventions import Args, fork_points, fork_steps, main, record_steps
from envs.make import make_env
from envs.procgen import ProcgenConfig
from interpret.forks.fork_points import ForkPoints

GAME = ProcgenConfig(env_name="dodgeball")


def make_agent() -> ActorCritic:
    shape = dict(architecture="nature", feature_size=8, hidden_size=4, precision="fp32")
    return ActorCritic(NetworkConfig(15, **shape)).eval()


def test_steps_of_both_arms_count():
    env, agent = make_env(4, GAME, num_threads=0), make_agent()
    points = fork_points(env, 6, 0)
    points = ForkPoints(**vars(points) | {"hidden": agent.initial_state(6)})
    args = Args(steps=3, num_episodes=2)
    assert fork_steps(env, agent, points, args, 0) == 2 * 6 * 3
    assert record_steps(env, agent, args, 0) > 2
    assert len(np.unique(points.frames[0].reshape(6, -1), axis=0)) == 6
    env.close()


def test_the_share_is_of_the_two_speeds(monkeypatch, tmp_path):
    save_agent(tmp_path / "agent.safetensors", make_agent(), {"env": vars(GAME)})
    spent = iter([9.0, 9.0, 100.0, 90.0, 100.0, 110.0, 100.0, 100.0])  # the first turn warms up
    monkeypatch.setattr(benchmark, "steps_per_second", lambda play, turn: next(spent))
    out = tmp_path / "out.json"
    main(Args(tmp_path / "agent.safetensors", num_envs=2, num_fork_points=2, out_file=out))
    found = json.loads(out.read_text())
    assert found["steps_per_second"] == {"recording": 100, "paired_forks": 100}
    assert found["share"] == 1
