"""The simulator as an environment: the frames of `simulate` to the bit, exact forks, and every player of the
real game plays in it.
"""

import numpy as np
import pytest
import torch

from agents.behaviours import make_behaviour
from agents.evaluate import evaluate, fixed_jobs
from envs.procgen_state import BadState
from envs.vecenv import ActionSpace, VecEnv
from generative.action_space import action_space_of
from generative.model.frames import frames_to_bytes
from generative.model.world_model import WorldModel
from generative.noise_keys import NoiseKeys
from generative.record import Sampling, record_samples
from generative.sim_env import SimVecEnv
from generative.simulator import Simulator
from generative.starts import InformedStarts, RandomStarts
from rollouts.check import check_store
from rollouts.play import EpisodeSpec, play
from rollouts.record import Actor, Plan, play_shard, record
from rollouts.store import Rollouts, create_store
from tests.helpers.toy_simulator import NAMES, toy_simulator, toy_store
from tests.helpers.toy_world import ACTIONS, NOOP, SIZE, toy_agent, toy_config

SPACE = ActionSpace(tuple(NAMES), NOOP, (0, 1, 2, 3, 4))
MANIFEST = {
    "num_actions": ACTIONS,
    "action_names": NAMES,
    "noop": NOOP,
    "hidden_size": 8,
    "obs_shape": [SIZE, SIZE, 3],
    "simulated": True,
}
N = 6
STEPS = 8


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


@pytest.fixture(scope="module")
def starts(simulator, tmp_path_factory):
    return InformedStarts(simulator, toy_store(tmp_path_factory.mktemp("real") / "store"), seed=0)


def made(simulator, starts, num=N, **changed) -> SimVecEnv:
    """Slot i is at starting point i."""
    env = SimVecEnv(simulator, starts, num, SPACE, **{"horizon": STEPS} | changed)
    env.open_levels(range(num), range(num))
    return env


def walk(env, actions):
    """Frames before each action, and reward, ends and probabilities after it: arrays [T, N, ...]."""
    rows = []
    for action in actions:
        frame = env.observe()[1]
        env.act(action)
        info = env.info()
        rows.append((frame, env.observe()[0], info["terminated"], info["done_prob"], info["reward_prob"]))
    return [np.stack(column) for column in zip(*rows)]


def check_same_as_simulate(simulator, starts, env, use_mode=False):
    places = np.arange(N)
    keys = NoiseKeys(0, places)
    with torch.no_grad():
        z = starts.latents(places, keys, "cpu")
    out = simulator.simulate(z, STEPS, keys, use_mode=use_mode)
    found = walk(env, out.action.numpy())
    alive = out.mask.numpy()
    expected = out.obs, out.reward, out.terminated, out.extra["done_prob"], out.extra["reward_prob"]
    assert out.terminated.sum() > 0
    assert alive.sum() > 2 * N
    for mine, theirs in zip(found, expected, strict=True):
        mine, theirs = mine[alive], theirs.numpy()[alive]
        if mine.dtype == bool:
            assert np.array_equal(mine, theirs)
        else:  # other samples start again, and the last bit of a sum depends on the other rows
            off = np.abs(mine.astype(np.float32) - theirs)
            assert off.max() <= (1 if mine.dtype == np.uint8 else 1e-5)
            assert (off > 1e-5).mean() < 0.01


@pytest.mark.parametrize("kind", ["informed", "random", "sphere"])
@pytest.mark.parametrize("use_mode", [False, True])
def test_frames_rewards_and_ends_are_those_of_simulate(simulator, starts, kind, use_mode):
    if kind == "sphere":
        simulator = toy_simulator(latent="sphere")
    starts = (
        InformedStarts(simulator, starts.windows.rollouts, 0, use_mode)
        if kind == "informed"
        else RandomStarts(simulator)
    )
    bias = simulator.model.outcome_head.out.bias.data
    keys = NoiseKeys(0, np.arange(N))
    with torch.no_grad():
        out = simulator.simulate(
            starts.latents(np.arange(N), keys, "cpu"), STEPS, keys, use_mode=use_mode, ends=False
        )
    shift = torch.logit(out.extra["done_prob"], 1e-6).quantile(
        0.9
    )  # so that some of these very steps end, and most do not
    bias[-1] -= shift
    try:
        check_same_as_simulate(simulator, starts, made(simulator, starts, use_mode=use_mode), use_mode)
    finally:
        bias[-1] += shift


def late(env):
    env._step += 1


def swapped(env):
    env.open_levels([0, 1], [1, 0])


def reseeded(env):
    env.seed = 1


def stale(env):
    cache, update = env._textures, env._textures.update
    cache.update = lambda *given: update(*given) if cache.textures is None else cache.textures


@pytest.mark.parametrize("mutant", [late, swapped, reseeded, stale])
def test_the_comparison_catches_mutants(simulator, starts, mutant):
    env = made(simulator, starts)
    mutant(env)
    with pytest.raises(AssertionError):
        check_same_as_simulate(simulator, starts, env)


def test_it_has_the_face_of_an_environment(simulator, starts):
    env = made(simulator, starts)
    reward, obs, first = env.observe()
    assert isinstance(env, VecEnv)
    assert (env.num, env.num_actions, env.obs_shape, env.noop) == (
        N,
        ACTIONS,
        (SIZE, SIZE, 3),
        NOOP,
    )
    assert env.action_names == tuple(NAMES)
    assert env.effect_classes == SPACE.effect_classes
    assert (obs.dtype, reward.dtype, first.dtype) == (np.uint8, np.float32, bool)
    assert obs.shape == (N, SIZE, SIZE, 3)
    assert first.all()
    env.act(np.zeros(N, int))
    for wrong in (np.zeros(N + 1, int), np.full(N, ACTIONS), np.full(N, -1)):
        with pytest.raises(ValueError, match=f"{N} actions from 0 to {ACTIONS - 1}"):
            env.act(wrong)


def test_episodes_end_where_the_model_says_or_at_the_horizon_and_others_begin(simulator, starts):
    env = made(simulator, starts, horizon=3)
    ended = np.zeros(N, bool)
    for step in range(3):
        before = env.info()["level_seed"]
        shown = env.observe()[1]
        env.act(np.zeros(N, int))
        info, (_, obs, first) = env.info(), env.observe()
        ended_now = info["terminated"] | info["truncated"]
        assert np.array_equal(first, ended_now)
        assert not (info["terminated"] & info["truncated"]).any()
        assert np.array_equal(info["prev_level_seed"], before)
        assert (info["level_seed"] == before)[~ended_now].all()
        assert np.array_equal(info["level_complete"], info["terminated"] & (info["reward_prob"] > 0.5))
        assert (obs != shown).any()
        assert np.array_equal(info["truncated"][~ended], ~info["terminated"][~ended] & (step == 2))
        ended |= ended_now
    assert ended.all()


def test_every_frame_is_its_states_also_after_restarts(simulator, starts):
    env = made(simulator, starts, horizon=3)
    begun = 0
    for action in np.random.default_rng(0).integers(0, ACTIONS, (STEPS, N)):
        env.act(action)
        begun += env.observe()[2].sum()
        with torch.no_grad():
            drawn = frames_to_bytes(simulator.model.paint(env._env).frame).numpy()
        assert np.abs(env.observe()[1].astype(int) - drawn).max() <= 1
    assert begun > N


def test_a_queued_place_comes_next_and_an_open_one_at_once(simulator, starts):
    env = made(simulator, starts, horizon=1)
    env.queue_level(2, 9)
    env.act(np.zeros(N, int))
    assert env.info()["level_seed"][2] == 9
    again = made(simulator, starts, horizon=1)
    again.open_level(2, 9)
    assert again.info()["level_seed"].tolist() == [0, 1, 9, 3, 4, 5]
    assert np.array_equal(again.observe()[1][2], env.observe()[1][2])
    env.act(np.zeros(N, int))
    assert env.info()["level_seed"][2] != 9  # queued once
    assert not again.info()["truncated"][2]
    with pytest.raises(ValueError, match="numbered 0 to"):
        env.open_level(0, starts.count)
    with pytest.raises(ValueError, match="numbered 0 to"):
        env.queue_level(0, -1)


def test_without_a_queue_places_are_drawn_from_all_by_the_seed(simulator, starts):
    def visited(seed):
        env = SimVecEnv(simulator, starts, N, SPACE, seed, horizon=1)
        levels = [env.info()["level_seed"]]
        for _ in range(10):
            env.act(np.zeros(N, int))
            levels.append(env.info()["level_seed"])
        return np.array(levels)

    assert np.array_equal(visited(0), visited(0))
    assert not np.array_equal(visited(0), visited(1))
    assert len(np.unique(visited(0))) > 20
    assert visited(0).max() < starts.count


def test_a_fork_equals_its_twin_wherever_it_is_put(simulator, starts):
    rng = np.random.default_rng(0)
    actions = rng.integers(0, ACTIONS, (STEPS, N))
    env = made(simulator, starts, horizon=5)
    walk(env, actions[:2])
    saved = env.snapshot()
    frames = env.observe()[1].copy()
    once = walk(env, actions)
    env.restore(saved)
    assert np.array_equal(env.observe()[1], frames)
    assert not env.observe()[0].any()
    assert not env.info()["terminated"].any()
    (seen, *rest), (seen_again, *rest_again) = once, walk(env, actions)
    assert np.abs(seen.astype(int) - seen_again).max() <= 1  # textures may be computed with other tiles
    for one, other in zip(rest, rest_again, strict=True):
        assert np.array_equal(one, other)
    env.restore([saved[4]], [1])
    assert np.array_equal(env.observe()[1][1], frames[4])
    assert env.info()["level_seed"][1] == saved[4].level
    assert all(torch.equal(a, b) for a, b in zip(env.snapshot([1])[0].env, saved[4].env))
    assert env.snapshot([1])[0].step == saved[4].step


def test_foreign_snapshots_are_refused_and_change_nothing(simulator, starts):
    env = made(simulator, starts)
    small = Simulator(WorldModel(toy_config(vector_size=16)), toy_agent(), NOOP)
    frames = env.observe()[1].copy()
    with pytest.raises(BadState, match="another shape"):
        env.restore(env.snapshot([0]) + SimVecEnv(small, RandomStarts(small), 1, SPACE).snapshot(), [1, 2])
    with pytest.raises(ValueError, match="1 snapshots for 6 slots"):
        env.restore(env.snapshot([0]))
    assert np.array_equal(env.observe()[1], frames)


def test_playing_in_it_is_recording_in_the_simulator(simulator, starts, tmp_path):
    """`play`, the loop for the real game, against the store that record_gen_samples writes."""
    sampling = Sampling(10, STEPS, 10, 0, env_state="none")
    record_samples(simulator, starts, sampling, tmp_path / "store", MANIFEST, "toy", "cpu")
    store = Rollouts.open(tmp_path / "store")
    for slots in (10, 3):
        env = SimVecEnv(simulator, starts, slots, SPACE, horizon=STEPS)
        steps, episodes = play_shard(
            env, Actor(simulator.agent, "agent", "toy"), [EpisodeSpec(i) for i in range(10)], seed=0
        )
        assert np.array_equal(episodes["length"], store.episodes["length"])
        assert np.array_equal(episodes["complete"], store.episodes["complete"])
        assert np.array_equal(steps["action"], store.steps("action"))
        assert np.array_equal(steps["terminated"], store.steps("terminated"))
        assert np.abs(steps["obs"].astype(int) - store.steps("obs")).max() <= 1
        for name in ("hidden", "reward", "logits", "log_prob", "value"):
            np.testing.assert_allclose(steps[name], store.steps(name), rtol=1e-3, atol=1e-4, err_msg=name)
    assert steps["hidden"].any(1).all()  # the agent comes with a past


def test_another_agent_comes_without_a_past(simulator, starts):
    other = Simulator(simulator.model, toy_agent(), NOOP, own_agent=False)
    env = made(other, starts)
    assert env.arriving_state() is None
    assert made(simulator, starts).arriving_state().any()
    opening = next(play(env, other.agent, [EpisodeSpec(i) for i in range(N)], 0))
    assert not opening.hidden.any()
    assert opening.hidden_after.any()


def test_every_player_of_the_game_plays_here(simulator, starts, tmp_path):
    jobs = fixed_jobs(0, 5, 10)
    for name in ("greedy", "random", "temperature"):
        scored = evaluate(make_behaviour(simulator.agent, name), made(simulator, starts), jobs, seed=0)
        assert (scored.length >= 1).all()
        assert (scored.length <= STEPS).all()
    create_store(tmp_path, MANIFEST)
    actor = Actor(simulator.agent, "agent", "toy")
    plan = Plan(8, 4, num_levels=20)
    record(
        tmp_path,
        plan,
        range(2),
        lambda: SimVecEnv(simulator, starts, 3, SPACE, horizon=STEPS),
        lambda shard: actor,
    )
    assert list(check_store(Rollouts.open(tmp_path))) == []


def test_actions_come_from_the_models_description():
    names = [str(i) for i in range(15)]
    known = action_space_of({"action_names": names, "noop": 4, "env": {"env_name": "leaper"}})
    assert known.names == tuple(names)
    assert known.noop == 4
    assert len(set(known.effect_classes)) == 5
    assert action_space_of({"action_names": ["a", "b"], "noop": 0, "env": {}}).effect_classes == (0, 1)
