"""The saliency benchmark from the real game: objects are deleted one at a time, and the commands score maps
against the effects.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.actor_critic import load_agent
from analysis import saliency_truth_plotting
from analysis.game_check.saliency_figures import choose_cases
from analysis.game_check.saliency_scores import (
    agent_maps,
    box_fill_effects,
    leaderboard,
    ranks_by_kind,
    states_of,
)
from analysis.game_check.saliency_states import Play, make_benchmark, search_scenes
from analysis.saliency_truth_precompute import Args, main
from common.checkpoints import load_checkpoint
from common.runs import UsageError
from envs.coinrun import COIN, CRATE, LAVAS
from envs.objects import KINDS, SceneObject, objects_in_view, without_object
from envs.procgen import ProcgenConfig, Snapshot
from envs.procgen_body import parse, serialize
from interpret.attribution.frame_functions import agent_log_probs, agent_value, chosen
from interpret.attribution.leaderboard import EFFECTS, Benchmark, painted
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS, sarfa_of
from interpret.forks.fork_points import PARTS, ForkPointSampler
from interpret.forks.object_deletion import continued_returns, pixel_of, rendered, scene_of
from interpret.forks.worlds import RealWorld
from rollouts.split import episode_layouts, training_layouts
from rollouts.states import replay_env
from rollouts.store import Rollouts
from tests.helpers.coinrun_runner import FRAMES, record_runner, save_runner, save_untrained
from tests.helpers.refusal_checks import HUGE, refused_at_once

COUNT = 10
PLAY = Play(3, 2, 5, 0.9, 2.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("saliency")
    agent = save_runner(path / "agent.safetensors")
    record_runner(path / "store", agent, episodes=40)
    save_untrained(path / "model.safetensors", agent)
    return path


@pytest.fixture(scope="module")
def env(files):
    env = replay_env(Rollouts.open(files / "store"), 16)
    yield env
    env.close()


@pytest.fixture(scope="module")
def sampler(files):
    return ForkPointSampler(Rollouts.open(files / "store"), FRAMES, PARTS["all"])


@pytest.fixture(scope="module")
def scenes(sampler, env):
    return search_scenes(sampler, env, COUNT, 2, 0)


@pytest.fixture(scope="module")
def agent(files):
    return load_agent(files / "agent.safetensors")[0]


@pytest.fixture(scope="module")
def made(sampler, scenes, env, agent):
    return make_benchmark(sampler, *scenes, env, agent, PLAY, {"part": "all"})


def pairs(scenes):
    points, found = scenes
    return [(points.snapshots[i], points.frames[-1, i], scene) for i, scene in enumerate(found)]


def test_states_have_several_objects_and_are_of_different_layouts(scenes):
    points, found = scenes
    assert len(found) == len(set(points.layout)) == COUNT
    assert min(len(scene.deletions) for scene in found) >= 2


def test_a_deletion_changes_its_box_and_nothing_else(scenes):
    for _, frame, scene in pairs(scenes):
        for one in scene.deletions:
            changed = (one.frame != frame).any(-1)
            top, left, bottom, right = one.box
            inside = changed[top:bottom, left:right]
            assert inside.sum() == changed.sum() == one.area
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_box_lies_where_the_object_stands(scenes):
    for snapshot, _, scene in pairs(scenes):
        state = parse(snapshot.data)
        for one in scene.deletions:
            if one.object.kind != "lava":  # a pool may be cut off by the edge of the screen
                row, column = pixel_of(state, one.object.x, one.object.y)
                top, left, bottom, right = one.box
                assert top - 3 <= row <= bottom + 3
                assert left - 3 <= column <= right + 3


def test_the_deleted_object_is_missing_and_the_others_are_there(scenes):
    for snapshot, _, scene in pairs(scenes):
        before = objects_in_view(parse(snapshot.data))
        for one in scene.deletions:
            after = objects_in_view(parse(one.snapshot.data))
            kinds = [[x.kind for x in some].count(one.object.kind) for some in (before, after)]
            assert kinds[1] == kinds[0] - 1
            assert len(after) == len(before) - 1


def test_an_object_that_is_hidden_is_left_out(scenes, env):
    snapshot, crate = next(
        (snapshot, one.object)
        for snapshot, _, scene in pairs(scenes)
        for one in scene.deletions
        if one.object.kind == "crate"
    )
    state = parse(snapshot.data)
    twin = state.entities[np.flatnonzero(state.entities["type"] == CRATE)[[crate.number]]]
    state.entities = np.concatenate([state.entities, twin])
    doubled = scene_of(Snapshot(serialize(state)), env, np.random.default_rng(0))
    places = {(one.object.x, one.object.y) for one in doubled.deletions}
    assert (crate.x, crate.y) not in places
    assert doubled.deletions


def test_coins_and_lava_are_deleted_from_the_grid(scenes):
    snapshot = scenes[0].snapshots[0]
    state = parse(snapshot.data)
    row, column = int(state.player["y"]), int(state.player["x"])
    state.grid[row, column + 2] = COIN
    state.grid[row, [column - 3, column - 2]] = LAVAS[1]
    found = {one.kind: one for one in objects_in_view(state) if abs(one.y - row - 0.5) < 0.1}
    without_coin = parse(without_object(state, found["coin"]).data)
    assert without_coin.grid[row, column + 2] != COIN
    assert (without_coin.grid != state.grid).sum() == 1
    assert found["coin"].cell == (row, column + 2)


def test_an_object_of_another_state_is_refused(scenes):
    state = parse(scenes[0].snapshots[0].data)
    for kind in KINDS:
        with pytest.raises(ValueError, match=f"no {kind} number 99"):
            without_object(state, SceneObject(kind, 99, 1.0, 1.0))


def test_an_empty_place_shows_the_sky_alone_at_a_like_distance(scenes):
    known = 0
    for _, frame, scene in pairs(scenes):
        for one in scene.deletions:
            if one.empty is not None:
                top, left, bottom, right = one.empty
                assert (bottom - top, right - left) == (one.box[2] - one.box[0], one.box[3] - one.box[1])
                patch = frame[top:bottom, left:right].reshape(-1, 3)
                assert (patch == patch[0]).all()
                known += 1
    assert known > COUNT


def test_effects_on_the_agent_are_with_the_object_minus_without(scenes, made, agent, env):
    """One object at a time, by the agent's own forward pass."""
    points, found = scenes
    classes = np.asarray(env.effect_classes)
    i = 0
    for s, scene in enumerate(found):
        for one in scene.deletions:
            outputs = []
            for frame in (points.frames[-1, s], one.frame):
                seen = torch.from_numpy(frame[None])
                state = agent.advance(seen, points.hidden[s : s + 1], torch.zeros(1).bool(), torch.zeros(1))
                logits, value = agent.heads(state)
                p = torch.softmax(logits, -1)[0].detach().numpy()
                outputs.append((value.item(), np.bincount(classes, p, 15)[np.unique(classes)]))
            (value, p), (value_after, p_after) = outputs
            taken = np.unique(classes, return_inverse=True)[1][made.action[s]]
            assert made.effects["value"][i] == pytest.approx((value - value_after) * 2.0, rel=1e-3, abs=1e-5)
            change = np.log(p) - np.log(p_after)
            assert made.effects["action"][i] == pytest.approx(change[taken], rel=1e-3, abs=1e-5)
            assert made.effects["kl"][i] == pytest.approx((p * change).sum(), rel=1e-2, abs=1e-6)
            assert (made.state[i], made.kind[i]) == (s, KINDS.index(one.object.kind))
            i += 1
    assert i == len(made.state)


def test_the_continued_return_is_rewards_and_the_value_after_them(scenes, agent, env):
    points = scenes[0]
    found = continued_returns(env, agent, points, *PLAY)
    for draw in range(PLAY.draws):
        run = RealWorld(env, agent).run(points, PLAY.steps + 1, points.keys(PLAY.seed, draw))
        discount = PLAY.gamma ** np.arange(PLAY.steps + 1)[:, None]
        gained = run.reward.numpy().copy()
        gained[-1] = PLAY.reward_scale * np.where(run.mask[-1], run.value[-1], 0)
        np.testing.assert_allclose(found[:, draw], (discount * gained).sum(0), rtol=1e-4, atol=1e-5)


def test_runs_with_and_without_an_object_share_their_noise(scenes, agent, env, made):
    points = scenes[0]
    first, again = (continued_returns(env, agent, points, *PLAY) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = continued_returns(env, agent, points, *PLAY._replace(seed=6))
    assert not np.array_equal(first, other)
    deletions = [one for scene in scenes[1] for one in scene.deletions]
    without = replace(points.take(made.state), snapshots=[one.snapshot for one in deletions])
    effect = (first[made.state] - continued_returns(env, agent, without, *PLAY)).mean(1)
    np.testing.assert_allclose(made.effects["return"], effect, rtol=1e-4, atol=1e-5)


def test_frames_are_drawn_in_batches_of_the_environments(scenes, env):
    snapshots = [one.snapshot for scene in scenes[1] for one in scene.deletions]
    assert len(snapshots) > env.num
    frames = rendered(env, snapshots)
    expected = [one.frame for scene in scenes[1] for one in scene.deletions]
    np.testing.assert_array_equal(frames, expected)


def test_layouts_that_the_agent_was_trained_on_are_left_out(files, sampler):
    rollouts = sampler.rollouts
    known = episode_layouts(rollouts)[:5]
    without = ForkPointSampler(rollouts, FRAMES, PARTS["all"], excluded=known)
    assert not set(known) & set(without.layouts[without.episodes])
    assert len(without) < len(sampler)
    assert len(training_layouts(vars(ProcgenConfig()))) == 0
    level = int(rollouts.episodes["level_seed"][0])
    assert list(training_layouts(vars(ProcgenConfig(start_level=level, num_levels=1)))) == [known[0]]


def test_filling_the_box_of_an_object_is_brute_force(made, agent):
    found = box_fill_effects(agent, made)["value"]
    i = len(found) // 2
    s = made.state[i]
    frame = torch.from_numpy(made.frames[s]).float() / 255
    filled = frame.clone()
    top, left, bottom, right = made.box[i]
    filled[top:bottom, left:right] = frame.mean((0, 1))
    hidden = torch.from_numpy(made.hidden[s : s + 1])
    values = [
        agent.heads(agent.advance(x[None], hidden, torch.zeros(1).bool(), torch.zeros(1)))[1]
        for x in (frame, filled)
    ]
    assert found[i] == pytest.approx((values[0] - values[1]).item(), rel=1e-3, abs=1e-5)


def test_the_leaderboard_ranks_a_planted_map_first(made):
    rng = np.random.default_rng(0)
    maps = {
        "value/occlusion": painted(made, made.effects["value"]),
        "value/blur": rng.random(made.frames.shape[:3]),
    }
    table = leaderboard(made, maps, {"value/occlusion": maps["value/blur"]})["value/value"]
    assert table["occlusion"]["spearman"]["value"] > table["blur"]["spearman"]["value"] + 0.2
    difference = table["occlusion"]["spearman"]["value"] - table["blur"]["spearman"]["value"]
    assert table["occlusion"]["above_untrained"]["value"] == pytest.approx(difference)
    assert "above_untrained" not in table["blur"]
    assert "signed" in table["occlusion"]
    assert "signed" not in table["blur"]
    kinds = ranks_by_kind(made, maps, "value", "value")
    assert sum(about["objects"] for about in kinds.values()) == len(made.state)


def asked(files, out, **changed):
    small = dict(part="all", num_states=5, min_objects=2, fork_steps=2, fork_draws=1, randomised_states=3)
    small |= dict(batch_size=3, smooth_draws=2, ig_steps=2, patch=32, stride=32)
    paths = {f"{name}_file": files / f"{file}.safetensors" for name, file in
             (("world_model", "model"), ("agent", "agent"))}  # fmt: skip
    return Args(**paths, data_dir=files / "store", out_dir=out, **(small | changed))


def outputs(args):
    directory = (args.out_dir / "saliency_truth_precomp" / "latest").resolve()
    numbers = json.loads((directory / "numbers.json").read_text())
    maps = {name: x.numpy() for name, x in load_checkpoint(directory / "maps_real.safetensors")[0].items()}
    return numbers, maps, Benchmark.open(directory / "benchmark"), directory


@pytest.fixture(scope="module")
def usual(files, tmp_path_factory):
    args = asked(files, tmp_path_factory.mktemp("usual"))
    main(args)
    return args, *outputs(args)


def test_the_command_scores_every_method_on_both_worlds(usual):
    _, numbers, maps, benchmark, _ = usual
    assert numbers["states"] == len(benchmark) == 5
    assert set(benchmark.effects) == set(EFFECTS)
    for world in ("real", "simulated", "untrained"):
        assert {"value/value", "value/return", "action/action", "action/kl"} <= set(numbers["scores"][world])
    assert "sarfa" in numbers["scores"]["real"]["action/action"]
    assert "gradient" in numbers["scores"]["real"]["later/return"]
    assert numbers["controls"]["value"]["effects_painted"]["spearman"]["value"] > 0.5
    assert numbers["randomisation"]["value/gradient"][0]["layer"] == "heads"
    assert max(np.abs(x).max() for x in maps.values()) <= 1


def test_a_second_run_reads_the_first(usual, caplog):
    caplog.set_level("INFO")
    main(usual[0])
    assert "is done" in caplog.text


@pytest.mark.parametrize(
    ("changed", "output"),
    [
        ({"part": "train"}, lambda numbers, maps, benchmark: benchmark.episode),
        ({"num_states": 4}, lambda numbers, maps, benchmark: benchmark.episode),
        ({"min_objects": 4}, lambda numbers, maps, benchmark: np.bincount(benchmark.state).min()),
        ({"seed": 1}, lambda numbers, maps, benchmark: benchmark.episode),
        ({"fork_steps": 4}, lambda numbers, maps, benchmark: benchmark.effects["return"]),
        ({"fork_draws": 3}, lambda numbers, maps, benchmark: benchmark.effects["return"]),
        (
            {"randomised_states": 2},
            lambda numbers, maps, benchmark: numbers["randomisation"]["value/blur"][0]["n"],
        ),
    ],
)
def test_every_flag_changes_what_it_names(files, tmp_path, usual, changed, output):
    args = asked(files, tmp_path, **changed)
    main(args)
    assert not np.array_equal(output(*usual[1:4]), output(*outputs(args)[:3]))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"smooth_draws": 3}, "value/smoothgrad"),
        ({"smooth_std": 0.5}, "value/smoothgrad"),
        ({"ig_steps": 9}, "value/integrated_gradients"),
        ({"patch": 40}, "value/occlusion"),
        ({"stride": 16}, "value/blur"),
        ({"mask_std": 9.0}, "action/sarfa"),
        ({"blur_std": 1.0}, "value/blur"),
    ],
)
def test_every_flag_of_a_method_changes_its_map(files, usual, agent, changed, name):
    """The command gives its own flags to the methods."""
    states = states_of(usual[3])._replace(frames=usual[3].frames[:2])
    plain, again, other = (
        agent_maps(agent, states, asked(files, files, **flags), 2, "maps")[name]
        for flags in ({}, {}, changed)
    )
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, other)


def test_the_size_of_a_batch_does_not_matter(files, usual, agent):
    args = asked(files, files)
    for size in (2, 5):
        maps = agent_maps(agent, states_of(usual[3]), args, size, "maps")
        ours, theirs = (x["value/occlusion"].astype(float) for x in (usual[2], maps))
        np.testing.assert_allclose(ours, theirs, atol=2e-2)


def test_the_figures_numbers_and_benchmark_are_written(usual, tmp_path):
    args, _, maps, benchmark, _ = usual
    plot = saliency_truth_plotting.Args(
        out_dir=args.out_dir,
        results=tmp_path / "numbers.json",
        images=tmp_path / "images",
        benchmark=tmp_path / "made_v1",
    )
    saliency_truth_plotting.main(plot)
    assert (tmp_path / "images" / "saliency_leaderboard.png").stat().st_size > 10_000
    assert (tmp_path / "images" / "saliency_misleads.png").stat().st_size > 10_000
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["best"]["value/value"] in numbers["scores"]["real"]["value/value"]
    again = Benchmark.open(tmp_path / "made_v1")
    np.testing.assert_array_equal(again.frames, benchmark.frames)
    cases = choose_cases(benchmark, maps, "occlusion")
    by_state = benchmark.by_state(maps["value/occlusion"], "value")
    assert by_state[cases["good"]] >= by_state[cases["median"]] >= by_state[cases["worst decile"]]


def test_impossible_requests_are_refused(files, tmp_path):
    for changed in ({"num_states": 1}, {"min_objects": 1}, {"smooth_std": 0.0}, {"patch": 0}):
        with pytest.raises(UsageError, match=f"--{next(iter(changed))}"):
            main(asked(files, tmp_path, **changed))
    for changed, message in (
        ({"stride": 40}, "leaves gaps between squares"),
        ({"patch": 100}, "--patch is 100, and frames are 64 x 64"),
        ({"batch_size": HUGE}, "--batch_size.* GiB, and this machine has"),
        ({"min_objects": 90}, "no picture with 90 objects"),
    ):
        if "min_objects" in changed:
            with pytest.raises(UsageError, match=message):
                main(asked(files, tmp_path / "few", **changed))
        else:
            refused_at_once(main, asked(files, tmp_path, **changed), tmp_path, message)


def test_methods_that_share_their_outputs_give_the_same_maps(made, agent):
    """Blur of value and action and SARFA share one forward pass."""
    states = states_of(made)._replace(frames=made.frames[:3])
    config = MethodConfig(smooth_draws=2, ig_steps=2, patch=32, stride=32)
    maps = agent_maps(agent, states, config, 3, "maps")
    frames = torch.from_numpy(states.frames).float() / 255
    log_probs = agent_log_probs(agent, states.hidden, states.effect_classes)
    expected = {
        "value/blur": METHODS["blur"].compute(agent_value(agent, states.hidden), frames, config),
        "action/blur": METHODS["blur"].compute(chosen(log_probs, states.taken), frames, config),
        "action/sarfa": sarfa_of(log_probs, states.taken[:3], frames, config),
    }
    for name, some in expected.items():
        largest = some.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
        np.testing.assert_allclose(maps[name].astype(float), (some / largest).numpy(), atol=2e-3)
