"""evaluate.py: a fixed list of episodes, scored by outcome, difficulty and cause, on levels with unseen
layouts.
"""

import json
import logging

import numpy as np
import pytest
import torch

import evaluate as script
from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from agents.behaviours import RandomPolicy
from agents.death_causes import ActionLog, causes, last_states
from agents.evaluate import OUTCOMES, Episodes, evaluate, fixed_jobs, jobs_over
from agents.scores import score, table
from common.cli import run_main
from common.stats import cluster_bootstrap
from envs.coinrun import difficulty
from envs.diagnostic_envs import DiagnosticVecEnv
from envs.layouts import first_states, layout_hash
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from evaluate import Args, main
from rollouts.play import EpisodeSpec, play

RIGHT = 7


class Rightwards(RandomPolicy):
    """Runs right, jumping at chance: short CoinRun episodes that end at saws, in lava and at the coin."""

    def heads(self, state):
        return torch.full((len(state), 15), -20.0).index_fill(1, torch.tensor([RIGHT, RIGHT + 1]), 0.0), None


def coinrun(num=8):
    return ProcgenVecEnv(num, ProcgenConfig("coinrun"), 0, 1)


@pytest.fixture(scope="module")
def run_right():
    """Levels 0-39 run through: episodes and the actions taken."""
    jobs = fixed_jobs(0, 40, 40)
    log = ActionLog(40)
    return jobs, evaluate(Rightwards(15), coinrun(), jobs, seed=0, watch=log.watch), log.actions


def test_jobs_repeat_levels_in_order():
    assert jobs_over([4, 9], 5) == [
        EpisodeSpec(4, 0),
        EpisodeSpec(9, 0),
        EpisodeSpec(4, 1),
        EpisodeSpec(9, 1),
        EpisodeSpec(4, 2),
    ]
    assert fixed_jobs(250, 3, 4) == [
        EpisodeSpec(250, 0),
        EpisodeSpec(251, 0),
        EpisodeSpec(252, 0),
        EpisodeSpec(250, 1),
    ]


def test_episodes_do_not_depend_on_their_company(run_right):
    _, episodes, _ = run_right
    again = evaluate(Rightwards(15), coinrun(3), fixed_jobs(10, 5, 5), seed=0)
    for column in ("total_reward", "length", "outcome"):
        np.testing.assert_array_equal(getattr(again, column), getattr(episodes, column)[10:15])


def test_every_episode_is_played_to_its_end(run_right):
    """Against the same actions taken in single environments, stepped by hand."""
    jobs, episodes, actions = run_right
    assert len(set(episodes.outcome[:12].tolist())) >= 2
    for job in range(12):
        env = coinrun(1)
        total = 0.0
        env.open_level(0, jobs[job].level)
        for t, action in enumerate(actions[job]):
            env.act(np.array([action]))
            total += env.observe()[0][0]
            assert env.observe()[2][0] == (t == len(actions[job]) - 1)
        assert len(actions[job]) == episodes.length[job]
        assert total == episodes.total_reward[job]
        assert (OUTCOMES[episodes.outcome[job]] == "solved") == (total == 10)


def test_a_time_out_is_its_own_outcome():
    class Stand(RandomPolicy):
        def heads(self, state):
            return torch.zeros(len(state), 15).index_fill(1, torch.tensor([4]), 50.0), None

    episodes = evaluate(Stand(15), coinrun(1), [EpisodeSpec(0)], seed=0)
    assert OUTCOMES[episodes.outcome[0]] == "timed out"
    assert episodes.length[0] == 1000


def test_reward_is_summed_over_the_episode():
    episodes = evaluate(RandomPolicy(2), DiagnosticVecEnv("match", 4, 0, 16), fixed_jobs(0, 64, 64), seed=0)
    assert set(episodes.total_reward) == {-1.0, 1.0}
    assert (episodes.length == 1).all()
    np.testing.assert_array_equal(episodes.outcome == 0, episodes.total_reward > 0)


def test_last_states_come_just_before_the_end(run_right):
    jobs, _, actions = run_right
    chosen = [3, 5, 11]
    env = coinrun(4)
    scratch = coinrun(3)
    scratch.restore(last_states(env, [jobs[job].level for job in chosen], [actions[job] for job in chosen]))
    assert scratch._steps.tolist() == [len(actions[job]) - 1 for job in chosen]
    scratch.act(np.array([actions[job][-1] for job in chosen]))
    assert scratch.observe()[2].all()


def test_causes_are_found_and_need_the_last_state(run_right):
    jobs, episodes, actions = run_right
    died = np.flatnonzero(episodes.outcome == OUTCOMES.index("died"))[:10]
    found = causes(coinrun(), jobs, actions, died)
    assert len(found) == len(died)
    assert set(found) <= {"saw", "enemy", "lava", "unknown"}
    assert "saw" in found
    assert found[3] == causes(coinrun(2), jobs, actions, died[3:4])[0]
    # one action short is not the last state
    with pytest.raises(ValueError, match="does not end the episode"):
        causes(coinrun(), jobs, [sequence[:-1] for sequence in actions], died)


def made_up(levels=12, repeats=3):
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(levels), repeats)
    outcome = rng.integers(0, 3, len(level))
    return Episodes(
        level,
        np.tile(np.arange(repeats), levels),
        10.0 * (outcome == 0),
        rng.integers(5, 99, len(level)),
        outcome,
    )


def test_scores_are_means_over_their_groups():
    episodes = made_up()
    hard = episodes.level % 3 + 1
    causes_of = ["saw", "lava"] * len(episodes.level)
    deaths = causes_of[: int((episodes.outcome == 1).sum())]
    scores = score(episodes, hard, deaths)
    for d in (1, 2, 3):
        group = scores["groups"][f"difficulty {d}"]
        assert group["return"][0] == pytest.approx(episodes.total_reward[hard == d].mean())
        assert group["episodes"] == 12
        assert group["levels"] == 4
        for i, name in enumerate(OUTCOMES):
            assert group[name][0] == pytest.approx((episodes.outcome[hard == d] == i).mean())
    everything = scores["groups"]["all"]
    assert everything["solved"] == pytest.approx(
        list(cluster_bootstrap(episodes.outcome == 0, episodes.level)[:3])
    )
    assert everything["solved"][0] * 10 == pytest.approx(everything["return"][0])
    assert everything["length"] == episodes.length.mean()
    assert sum(share[0] for share in scores["causes"].values()) == pytest.approx(everything["died"][0])
    assert scores["causes"]["saw"][0] == pytest.approx(deaths.count("saw") / len(episodes.level))


def test_the_table_shows_them():
    lines = table(score(made_up(), causes=None)).splitlines()
    assert len(lines) == 2
    assert "solved %" in lines[0]
    assert "36" in lines[1]


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory):
    """An agent that only runs right and jumps, so that its episodes are short; made on hard levels with
    backgrounds.
    """
    agent = ActorCritic(NetworkConfig(15, architecture="nature", feature_size=8, hidden_size=8))
    with torch.no_grad():
        agent.policy_head.weight.zero_()
        agent.policy_head.bias.copy_(
            torch.full((15,), -9.0).index_fill(0, torch.tensor([RIGHT, RIGHT + 1]), 2.0)
        )
    path = tmp_path_factory.mktemp("agent") / "model_1.safetensors"
    save_agent(path, agent, {"env": vars(ProcgenConfig("coinrun", 200, 0, "hard", True))})
    return path


def scored(tmp_path, agent_file, **changed) -> dict:
    asked = dict(agent_file=agent_file, num_levels=6, num_episodes=6, num_envs=6, num_threads=1, device="cpu")
    main(Args(out_file=tmp_path / "scores.json", **(asked | changed)))
    return json.loads((tmp_path / "scores.json").read_text())


def test_defaults_are_the_agents_own(tmp_path, agent_file):
    given = scored(tmp_path, agent_file)
    assert (
        given["env"]["distribution_mode"],
        given["env"]["use_backgrounds"],
        given["env"]["num_levels"],
    ) == ("hard", True, 0)
    assert given["per_episode"]["level"] == list(range(250, 256))
    assert len(given["manifest"]["inputs"]["agent_file"]) == 16
    own = ProcgenVecEnv(6, ProcgenConfig("coinrun", 0, 0, "hard", True), 0, 1)
    steps = list(play(own, script.load_agent(agent_file)[0], fixed_jobs(250, 6, 6), 0))
    assert sum(given["per_episode"]["length"]) == sum(len(step.t) for step in steps)


FLAGS = {
    "start_level": (300, lambda s: s["per_episode"]["level"]),
    "num_levels": (3, lambda s: s["groups"]["all"]["levels"]),
    "num_episodes": (8, lambda s: s["groups"]["all"]["episodes"]),
    "distribution_mode": ("easy", lambda s: s["per_episode"]["length"]),
    "seed": (1, lambda s: s["per_episode"]["length"]),
    "behaviour": ("greedy", lambda s: s["per_episode"]["length"]),
    "causes": (True, lambda s: "causes" in s),
    "exclude_layouts_of": ((250, 2), lambda s: s["levels_dropped"]),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_change_what_they_name(tmp_path, agent_file, flag):
    value, of = FLAGS[flag]
    assert of(scored(tmp_path, agent_file)) != of(scored(tmp_path, agent_file, **{flag: value}))


def test_options_reach_environment_and_behaviour(tmp_path, agent_file, monkeypatch):
    made = []
    behaved = []
    make_env = script.make_env
    make_behaviour = script.make_behaviour
    monkeypatch.setattr(script, "make_env", lambda *given: made.append(given) or make_env(*given))
    monkeypatch.setattr(
        script, "make_behaviour", lambda *given: behaved.append(given) or make_behaviour(*given)
    )
    options = dict(
        use_backgrounds=False, paint_vel_info=True, blink=True, env_name="dodgeball", distribution_mode="easy"
    )
    scored(tmp_path, agent_file, **options, num_envs=2, num_threads=2, behaviour="top-k", top_k=2)
    (num, config, seed, threads), (_, name, temperature, top_k, *_) = made[0], behaved[0]
    assert {name: getattr(config, name) for name in options} == options
    assert (num, seed, threads) == (2, 0, 2)
    assert (name, temperature, top_k) == ("top-k", 1.0, 2)
    scored(tmp_path, agent_file, **options, num_envs=2, behaviour="temperature", temperature=3.0)
    assert behaved[1][1:3] == ("temperature", 3.0)
    scored(tmp_path, agent_file, **options, num_envs=2, behaviour="epsilon-greedy", epsilon=0.4)
    assert (behaved[2][1], behaved[2][-1]) == ("epsilon-greedy", 0.4)


def test_excluded_layouts_are_gone_and_further_levels_take_their_place(caplog):
    """Levels from 0 on against the layouts of 1,000-1,079: exactly those with a twin are passed over, until
    there are 60.
    """
    caplog.set_level(logging.INFO)
    env = coinrun()
    known = {layout_hash(next(first_states(env, [level]))) for level in range(1000, 1080)}
    kept = script.unseen_layouts(env, 0, 60, (1000, 80))
    fresh = [
        level for level in range(kept[-1] + 1) if layout_hash(next(first_states(env, [level]))) not in known
    ]
    assert kept == fresh
    assert len(kept) == 60
    assert kept[-1] > 60
    assert f"passed over {kept[-1] - 59} of the levels 0 to {kept[-1]}" in caplog.text
    assert {difficulty(level) for level in set(range(kept[-1])) - set(kept)} <= {1, 2}
    assert script.unseen_layouts(env, 3, 5, None) == [3, 4, 5, 6, 7]


def test_as_many_levels_are_played_as_asked(tmp_path, agent_file, capsys):
    scores = scored(tmp_path, agent_file, exclude_layouts_of=(250, 2))
    levels = scores["per_episode"]["level"]
    assert len(set(levels)) == 6 == scores["groups"]["all"]["levels"]
    assert min(levels) == 252
    assert scores["levels_dropped"] == max(levels) + 1 - 250 - 6
    assert f"6 levels from 252 to {max(levels)}" in capsys.readouterr().out


def test_an_option_that_is_not_the_agents_own_is_said(tmp_path, agent_file, caplog):
    caplog.set_level(logging.INFO)
    scored(tmp_path, agent_file, distribution_mode="hard")
    assert "otherwise" not in caplog.text
    scored(tmp_path, agent_file, distribution_mode="easy", blink=True)
    assert (
        caplog.text.count(
            "the agent plays otherwise than it was trained: distribution_mode = easy, not hard;"
            " blink = True, not False"
        )
        == 1
    )


def test_a_moved_coin_is_played_for(tmp_path):
    """Random play of a level whose coin is moved one tile ends otherwise than that of the plain one."""
    asked = dict(behaviour="random", env_name="coinrun", num_levels=30, num_episodes=30, start_level=0)
    plain, moved = (scored(tmp_path / str(on), None, random_coin=on, **asked) for on in (False, True))
    assert (plain["env"]["random_coin"], moved["env"]["random_coin"]) == (False, True)
    assert plain["per_episode"]["length"] != moved["per_episode"]["length"]


def test_random_needs_no_agent(tmp_path):
    given = scored(tmp_path, None, behaviour="random", env_name="dodgeball")
    assert given["env"]["env_name"] == "dodgeball"
    assert list(given["groups"]) == ["all"]
    assert "causes" not in given


BAD = {
    "no agent": (dict(agent_file=None), "--behaviour random"),
    "no episodes": (dict(num_episodes=0), "nothing to evaluate"),
    "no levels": (dict(num_levels=0), "nothing to evaluate"),
    "no environments": (dict(num_envs=0), "num_envs must be"),
    "negative": (dict(start_level=-1), "do not lie within 0"),
    "causes elsewhere": (dict(causes=True, env_name="maze"), "know only coinrun"),
    "game": (dict(env_name="pong"), "unknown game"),
    "behaviour": (dict(behaviour="wild"), "unknown behaviour"),
    "temperature": (dict(behaviour="temperature", temperature=0.0), "above zero"),
    "all excluded": (
        dict(exclude_layouts_of=(250, 100), num_levels=1),
        "only 0 of the 10 levels from 250 on",
    ),
    "nothing excluded": (dict(exclude_layouts_of=(0, 0)), "such as 0 200"),
    "levels beyond the last": (dict(start_level=2**31 - 3), "do not lie within 0 .. 2147483646"),
    "no effect": (
        dict(behaviour="greedy", temperature=3.0),
        "--temperature has no effect on the behaviour 'greedy'",
    ),
    "no effect either": (dict(behaviour="temperature", top_k=2), "--top_k has no effect"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line_and_writes_nothing(tmp_path, agent_file, case):
    changed, message = BAD[case]
    asked = Args(
        **(
            dict(
                agent_file=agent_file,
                num_levels=6,
                num_episodes=6,
                out_file=tmp_path / "scores.json",
                device="cpu",
            )
            | changed
        )
    )
    with pytest.raises(SystemExit) as ended:
        run_main(main, asked)
    assert message in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
    assert not (tmp_path / "scores.json").exists()


def test_the_same_command_again_says_that_it_is_done_and_shows_the_scores(
    tmp_path, agent_file, monkeypatch, capsys, caplog
):
    caplog.set_level(logging.INFO)
    first = scored(tmp_path, agent_file)
    table = capsys.readouterr().out
    monkeypatch.setattr(script, "evaluate", None)
    assert scored(tmp_path, agent_file, num_threads=2) == first
    assert capsys.readouterr().out == table
    assert f"{tmp_path / 'scores.json'} is done; delete it" in caplog.text
    for damage in ("", "null", "[]", "{}", '{"asked": 3}'):
        (tmp_path / "scores.json").write_text(damage)
        with pytest.raises(TypeError):  # scored again
            scored(tmp_path, agent_file)


@pytest.mark.parametrize("place", ["", "file/scores.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, agent_file, monkeypatch, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(script, "evaluate", None)
    with pytest.raises(SystemExit, match="^error: .*check the path"):
        run_main(
            main,
            Args(
                agent_file=agent_file, num_levels=6, num_episodes=6, out_file=tmp_path / place, device="cpu"
            ),
        )


def test_frames_of_another_size_are_named(tmp_path):
    save_agent(
        tmp_path / "small.safetensors", ActorCritic(NetworkConfig(15, (32, 32, 3), feature_size=8)), {}
    )
    with pytest.raises(SystemExit, match="sees frames of .32, 32, 3. and coinrun shows .64, 64, 3."):
        run_main(main, Args(agent_file=tmp_path / "small.safetensors", num_episodes=1, device="cpu"))


def test_another_action_space_is_named(tmp_path, agent_file):
    save_agent(
        tmp_path / "two.safetensors", ActorCritic(NetworkConfig(2, architecture="nature", feature_size=8)), {}
    )
    with pytest.raises(SystemExit, match="2 actions"):
        run_main(main, Args(agent_file=tmp_path / "two.safetensors", num_episodes=1, device="cpu"))
