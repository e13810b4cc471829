"""The check of a simulator against forks: a simulator that is the game passes with slope 1, one blind to
hazards gets slope 0.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from agents.actor_critic import load_agent
from analysis import real_check, true_q
from analysis.game_check.death_risk import death_risk, deletion_effects, teacher_forced_risk
from analysis.game_check.real_check_page import _hazard_sentences, build_page
from common.checkpoints import load_checkpoint
from common.runs import UsageError
from common.stats import Estimate, level_weights
from envs.edits import hazards, next_hazard
from envs.procgen_body import parse
from generative.model.motion import estimate_motion
from generative.simulator_file import load_simulator
from interpret.errors_in_variables import fit_line
from interpret.forks.fork_points import PARTS, ForkPointSampler, fork_points_at, state_after_frames
from interpret.forks.paired_outcomes import equal_outcomes
from interpret.forks.world_comparison import (
    Runs,
    action_agreement,
    event_probabilities,
    event_rates,
    mismatched_baseline,
    run_arrays,
)
from interpret.forks.worlds import RealWorld, TeacherForcedWorld, run_in_batches
from rollouts.states import replay_env
from rollouts.store import Rollouts
from tests.helpers.coinrun_runner import FRAMES, RIGHT, record_runner, save_runner, save_untrained
from tests.helpers.figure_checks import draws_and_notes
from tests.helpers.refusal_checks import HUGE, refused_at_once

SEED = 5
STEPS = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("real_check")
    agent = save_runner(path / "agent.safetensors")
    record_runner(path / "store", agent)
    return path, agent, save_untrained(path / "model.safetensors", agent)


@pytest.fixture(scope="module")
def bank(files):
    return ForkPointSampler(Rollouts.open(files[0] / "store"), FRAMES, PARTS["all"])


@pytest.fixture(scope="module")
def world(files, bank):
    env = replay_env(bank.rollouts, 48)
    yield RealWorld(env, load_agent(files[1])[0])
    env.close()


@pytest.fixture(scope="module")
def scenes(bank, world):
    return bank.sample_hazards(12, world.policy)


def args(files, **changed):
    path, agent, model = files
    small = dict(
        part="all",
        per_layout=1,
        num_fork_points=6,
        draws=2,
        num_hazards=6,
        hazard_draws=2,
        steps=STEPS,
        hold=(2,),
        device="cpu",
        out_dir=path / "out",
    )
    return real_check.Args(model, agent, path / "store", **(small | changed))


def test_fork_points_are_stored_steps_of_distinct_layouts(bank):
    points = bank.sample(10)
    rollouts = bank.rollouts
    assert len(points) == 10
    assert len(set(points.layout)) == 10
    assert points.frames.shape == (FRAMES, 10, 64, 64, 3)
    for i, (episode, step) in enumerate(zip(points.episode, points.step)):
        stored = rollouts.episode(episode)
        assert step >= FRAMES - 1
        assert points.level[i] == rollouts.episodes["level_seed"][episode]
        np.testing.assert_array_equal(points.frames[:, i], stored["obs"][step - FRAMES + 1 : step + 1])
        np.testing.assert_array_equal(points.hidden[i], stored["hidden"][step])
    assert len(np.unique(points.step)) > 5
    several = ForkPointSampler(rollouts, FRAMES, PARTS["all"], per_layout=3).sample(10**6)
    assert max(np.unique(several.layout, return_counts=True)[1]) == 3
    assert len(set(several.layout[: len(set(several.layout))])) == len(
        set(several.layout)
    )  # each layout once before any twice
    other = ForkPointSampler(rollouts, FRAMES, PARTS["all"], seed=1).sample(10)
    assert not np.array_equal(other.step, points.step)


def test_parts_of_the_split_share_no_layout(bank):
    banks = {name: ForkPointSampler(bank.rollouts, FRAMES, (name,)) for name in np.unique(real_part(bank))}
    assert sum(len(b.episodes) for b in banks.values()) == len(bank.episodes)
    for name, part in banks.items():
        assert set(part.sample(99).layout) == set(bank.layouts[bank.episodes][real_part(bank) == name])
    with pytest.raises(UsageError, match="no episode of 5000 frames"):
        ForkPointSampler(bank.rollouts, 5000, PARTS["all"])


def real_part(bank):
    from rollouts.split import split_by_layout

    return split_by_layout(bank.layouts)[bank.episodes]


def test_forks_with_the_recordings_noise_retrace_it_and_others_do_not(bank, world):
    points = bank.sample(10)
    found = world.run(points, STEPS, points.keys(SEED))
    for i, (episode, step) in enumerate(zip(points.episode, points.step)):
        stored = {name: x[step : step + STEPS] for name, x in bank.rollouts.episode(episode).items()}
        length = len(stored["action"])
        assert found.mask[:, i].sum() == length
        for name in ("obs", "action", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(found, name)[:length, i], stored[name])
        for name in ("logits", "value", "log_prob"):
            np.testing.assert_allclose(getattr(found, name)[:length, i], stored[name], atol=1e-4)
        np.testing.assert_allclose(
            found.hidden_after()[: length - 1, i], stored["hidden"][1:length], atol=1e-4
        )
        assert not found.obs[length:, i].any()
        assert not found.reward[length:, i].any()
    misaligned = world.run(points, STEPS, replace(points.keys(SEED), step=points.step + 1))
    assert (misaligned.action != found.action).any(0).float().mean() > 0.8
    other = world.run(points, STEPS, points.keys(SEED, 1))
    assert (other.action != found.action).any(0).float().mean() > 0.8


def test_given_actions_are_taken_then_the_agent_goes_on(bank, world):
    points = bank.sample(6)
    found = world.run(points, 6, points.keys(SEED), np.full((3, 6), RIGHT))
    assert (found.action[:3][found.mask[:3]] == RIGHT).all()
    assert (found.action[3:] != RIGHT).any()
    with pytest.raises(ValueError, match="do not fit into 48"):
        world.run(points.take(np.zeros(49)), 2, points.take(np.zeros(49)).keys(SEED))


def test_runs_do_not_depend_on_the_batch(bank, world):
    points = bank.sample(5)
    one, other = (run_in_batches(world, points, 8, SEED, 3, batch, run_arrays) for batch in (4, 15))
    assert one["action"].shape == (8, 5, 3)
    np.testing.assert_array_equal(one["action"], other["action"])
    np.testing.assert_array_equal(one["done"], other["done"])
    assert not np.array_equal(one["action"][:, :, 0], one["action"][:, :, 1])


def test_hazards_are_ahead_and_gone_from_frames_states_and_memory(bank, world, scenes):
    intact, deleted, ahead = scenes
    assert len(intact) == len(ahead) >= 8
    assert len(set(intact.layout)) == len(intact)
    for i, hazard in enumerate(ahead):
        before, after = (parse(m.snapshots[i].data) for m in (intact, deleted))
        assert next_hazard(before) == hazard
        assert 2 <= hazard.left - before.player["x"] <= 6
        assert len(hazards(after)) == len(hazards(before)) - 1
        assert next_hazard(after) != hazard
    pixels = (intact.frames != deleted.frames).any(-1)
    assert pixels.any((2, 3)).mean() > 0.8  # a hazard may be below the screen
    assert pixels.mean() < 0.05
    memory = bank.rollouts.episode(intact.episode[0])["hidden"][intact.step[0] - FRAMES + 1]
    seen = state_after_frames(world.policy, torch.from_numpy(memory)[None], deleted.frames[:-1, :1])
    torch.testing.assert_close(deleted.hidden[:1], seen)
    assert (deleted.hidden != intact.hidden).any(1).float().mean() > 0.5
    torch.testing.assert_close(
        state_after_frames(world.policy, torch.from_numpy(memory)[None], intact.frames[:-1, :1]),
        intact.hidden[:1],
    )


class Blind:
    """The real game, always started from the recorded fork point, as if no hazard had been deleted."""

    def __init__(self, world, bank):
        self.world = world
        self.bank = bank

    def run(self, points, steps, keys, actions=None):
        recorded = fork_points_at(self.bank.rollouts, points.episode, points.step, FRAMES, self.bank.layouts)
        return self.world.run(recorded, steps, keys, actions)


@pytest.fixture(scope="module")
def planted(files, bank, world):
    """What the check finds for a simulator that is the game, and for one that is blind to the deletion."""
    asked = args(files, num_hazards=10, hazard_draws=4, num_fork_points=5, batch_size=40)
    blind = Blind(world, bank)
    found = {
        name: real_check.Check(asked, world, toy, other, bank, SEED)
        for name, toy, other in (("same", world, blind), ("blind", blind, world))
    }
    return {name: check.hazards() for name, check in found.items()} | {"closed": found["same"].closed_loop()}


def test_a_simulator_that_is_the_game_has_slope_one(planted):
    changes = deletion_effects(planted["same"])
    assert changes["real"].mean() < -0.15  # deleting a hazard saves lives
    np.testing.assert_array_equal(changes["real"], changes["simulated"])
    fitted = fit_line(level_weights(planted["same"]["layout"], 50), changes["real"], changes["simulated"])
    assert fitted.slope[0] == pytest.approx(1)
    assert fitted.correlation[0] == pytest.approx(1)
    assert fitted.intercept[0] == pytest.approx(0)
    # "watched" is the blind simulator here, and the game itself where the blind simulator is compared
    assert not changes["watched"].any()
    np.testing.assert_array_equal(deletion_effects(planted["blind"])["watched"], changes["real"])


def test_what_is_foretold_of_steps_that_were_taken_is_not_discounted_by_what_was_foretold_before():
    done = np.full((2, 1, 2), 0.5)
    running = np.ones((2, 1, 2), bool)
    running[1, 0, 1] = False  # the second draw ended at once
    runs = Runs(done, np.array([[[0.0, 0.2]], [[0.0, 0.2]]]), running, *[None] * 4)
    assert teacher_forced_risk(runs).tolist() == [[1.0, 0.4]]
    assert death_risk(runs).tolist() == [[0.75, 0.4]]


def test_a_simulator_blind_to_hazards_has_slope_zero(planted):
    changes = deletion_effects(planted["blind"])
    assert changes["real"].mean() < -0.15
    assert not changes["simulated"].any()
    fitted = fit_line(level_weights(planted["blind"]["layout"], 50), changes["real"], changes["simulated"])
    assert fitted.slope[0] == pytest.approx(0, abs=1e-9)


def test_the_same_game_has_the_same_rates_and_retraces(planted):
    found = planted["closed"]
    worlds = [Runs(*(found[f"{name}/{field}"] for field in Runs._fields)) for name in ("real", "simulated")]
    weights = level_weights(found["layout"], 20)
    for event, draws in event_rates(worlds[0], weights).items():
        np.testing.assert_array_equal(draws, event_rates(worlds[1], weights)[event])
    assert np.nanmin(action_agreement(*worlds, np.arange(15), weights)[0]) == 1
    assert equal_outcomes(*worlds, weights) == pytest.approx(1)
    assert found["retraced"] == pytest.approx(1)


def test_a_teacher_forced_simulator_predicts_from_the_games_own_frames_step_by_step(files, bank, world):
    simulator = load_simulator(files[2], files[1])[0]
    model = simulator.model
    points = bank.sample(5)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.outcome_head.out.weight, std=0.3)
    watched = TeacherForcedWorld(world, simulator).run(points, 8, points.keys(SEED))
    real = world.run(points, 8, points.keys(SEED))
    for name in ("obs", "action", "mask", "terminated"):
        assert torch.equal(getattr(watched, name), getattr(real, name))
    given = torch.from_numpy(points.frames)
    frames = torch.cat([given[:-1], real.obs])
    with torch.no_grad():
        state = model.start(simulator.encode(given).mean).env
        canvas, position, before = model.blank_canvas(5), model.locate(given).position[0], frames[0]
        for t, frame in enumerate(frames, 1 - len(given)):
            moved = estimate_motion(torch.stack([before, frame]))[0]
            position, before = position - moved, frame
            seen = model.encoder(frame, position)
            state = model.observe(state, canvas, seen, position, moved)
            canvas = state.canvas
            if t < 0:
                continue
            state = model.step(state, real.action[t])
            outcome = model.outcome(state.outcome)
            here = real.mask[t]
            torch.testing.assert_close(
                watched.extra["done_prob"][t][here],
                torch.sigmoid(outcome.done_logit)[here],
                rtol=1e-3,
                atol=1e-5,
            )
            torch.testing.assert_close(
                watched.extra["reward_prob"][t][here],
                model.reward_probability(outcome)[here],
                rtol=1e-3,
                atol=1e-5,
            )
            assert not watched.extra["done_prob"][t][~here].any()
    assert watched.extra["done_prob"].std() > 0
    assert not real.mask.all()
    alone = TeacherForcedWorld(world, simulator).run(points.take([3]), 8, points.take([3]).keys(SEED))
    torch.testing.assert_close(
        alone.extra["done_prob"][:, 0], watched.extra["done_prob"][:, 3], rtol=1e-3, atol=1e-5
    )


def test_misaligned_noise_shows_in_what_is_retraced(files, bank, world):
    check = real_check.Check(args(files, num_fork_points=5), world, world, world, bank, SEED + 1)
    assert check.closed_loop()["retraced"].mean() < 0.8


def test_events_are_worked_out_by_hand():
    done = np.array([0.5, 0.0, 1.0])[:, None, None]
    runs = Runs(done, np.array([0.2, 0.9, 0.5])[:, None, None], np.ones((3, 1, 1), bool), *[None] * 4)
    found = {name: mass[:, 0, 0].tolist() for name, mass in event_probabilities(runs).items()}
    assert found == {"end": [0.5, 0, 0.5], "coin": [0.1, 0, 0.25], "death": [0.4, 0, 0.25]}
    assert event_rates(runs, np.ones((1, 1)))["death"][0] == pytest.approx(0.65 / 2)  # 1 + 0.5 + 0.5 steps
    cut = runs._replace(running=np.array([True, False, False])[:, None, None])
    assert event_probabilities(cut)["end"].sum() == 0.5


def test_the_mismatched_baseline_acts_by_this_fork_points_noise_and_the_next_ones_logits(bank, world):
    points = bank.sample(4)
    real = Runs(*run_in_batches(world, points, 6, SEED, 2, 8, run_arrays).values())
    own = mismatched_baseline(real._replace(logits=np.roll(real.logits, -1, axis=1)), points, SEED)
    both = real.running[:6] & own.running[:6]
    assert both.any()
    assert np.array_equal(own.action[:6][both], real.action[:6][both])
    wrong = mismatched_baseline(real._replace(logits=np.roll(real.logits, -1, axis=1)), points, SEED + 1)
    assert not np.array_equal(wrong.action[:6][both], real.action[:6][both])


def test_an_undefined_slope_has_no_verdict():
    undefined = Estimate(np.nan, np.nan, np.nan)
    zero = Estimate(-0.0, -0.001, 0.001)
    names = ("slope", "correlation", "watched slope", "watched correlation")
    numbers = dict.fromkeys(names, undefined) | dict.fromkeys(("real", "simulated", "watched"), zero)
    first = _hazard_sentences(numbers)[0]
    assert "by 0 points [0, 0] in the game" in first
    assert "too few hazard deaths" in first
    assert "undefined" not in first
    assert "outside" not in first


def test_a_defined_slope_is_judged_by_the_accepted_range():
    change = Estimate(-0.2, -0.3, 0.004)
    numbers = dict.fromkeys(("real", "simulated", "watched", "correlation"), change)
    numbers |= dict.fromkeys(("watched slope", "watched correlation"), change)
    outside = _hazard_sentences(numbers | {"slope": Estimate(0.2, 0.1, 0.3)})[0]
    within = _hazard_sentences(numbers | {"slope": Estimate(0.9, 0.8, 1.1)})[0]
    assert "by -20 points [-30, 0] in the game" in outside
    assert "outside 0.7-1.3" in outside
    assert "within 0.7-1.3" in within


def test_the_command_writes_a_page_goes_on_and_depends_on_its_flags(files, monkeypatch):
    real_check.main(args(files))
    (run,) = (files[0] / "out" / "real_check_precomp").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    page = (files[0] / "out" / "real_check_plots" / run.name / "real_check.html").read_text()
    assert page.count("data:image/png") == 5
    assert "slope" in page
    assert summary["inputs"]["data_dir"] in page
    assert summary["closed_loop"]["retraced"] == 1
    paired = summary["closed_loop"]["paired"]
    assert paired["runs"] == 12
    assert len(paired["by step"]["real"]["death"]) == STEPS
    assert "12 paired runs" in page
    assert summary["hazards"]["real/intact"][0] >= summary["hazards"]["real/deleted"][0]
    made = {path.name: path.stat().st_mtime_ns for path in run.glob("*.safetensors")}
    (run / "hazards.safetensors").unlink()
    real_check.main(args(files))
    again = {path.name: path.stat().st_mtime_ns for path in run.glob("*.safetensors")}
    assert again.keys() == made.keys()
    assert {name for name in made if made[name] != again[name]} == {"hazards.safetensors"}
    assert json.loads((run / "summary.json").read_text()) == summary
    seen = []
    monkeypatch.setattr(
        real_check, "build_page", lambda arrays, about, out: seen.append(arrays) or {"lines": []}
    )
    real_check.main(
        args(files, num_fork_points=3, draws=1, num_hazards=4, hazard_draws=3, steps=5, hold=(1, 3))
    )
    assert set(seen[0]) == {"effects_1", "effects_3", "closed_loop", "hazards"}
    assert seen[0]["closed_loop"]["real/done"].shape == (5, 3, 1)
    assert seen[0]["hazards"]["simulated/deleted/done"].shape == (5, 4, 3)
    assert not np.array_equal(seen[0]["effects_1"]["error"], seen[0]["effects_3"]["error"])
    real_check.main(
        args(
            files,
            num_fork_points=3,
            draws=1,
            num_hazards=1,
            hazard_draws=1,
            steps=5,
            hold=(1,),
            seed=1,
            new=True,
        )
    )
    assert not np.array_equal(seen[1]["closed_loop"]["step"], seen[0]["closed_loop"]["step"])


def test_the_page_of_another_game_speaks_neither_of_coins_nor_of_deaths(files, tmp_path, monkeypatch):
    made = []
    cut = []
    monkeypatch.setattr(
        real_check, "build_page", lambda arrays, about, out: made.append((arrays, about)) or {"lines": []}
    )
    real_check.main(
        args(files, num_fork_points=3, draws=1, num_hazards=1, hazard_draws=1, steps=5, hold=(1,))
    )
    arrays, about = made[0]
    arrays.pop("hazards")
    monkeypatch.setattr(Figure, "savefig", draws_and_notes(cut))
    pages = {}
    for game in ("coinrun", "starpilot"):
        summary = build_page(arrays, about | {"game": game}, tmp_path / game)
        text = re.sub(r"data:image[^\"]*", "", (tmp_path / game / "real_check.html").read_text())
        pages[game] = text + json.dumps(summary)
    assert re.search(r"\bcoin\b", pages["coinrun"])
    assert re.search(r"\bdeath\b", pages["coinrun"])
    assert not re.search(r"\b(coins?|deaths?|dies)\b", pages["starpilot"])
    assert "end without a reward" in pages["starpilot"]
    assert cut == [], "every text is inside its picture"


def test_sizes_beyond_the_store_and_the_game_are_lowered_before_work_begins(files, bank, caplog):
    check = real_check.open_worlds(
        args(
            files,
            num_fork_points=10**9,
            num_hazards=10**9,
            steps=10**9,
            hold=(2, 10**9),
            draws=1,
            hazard_draws=1,
        )
    )
    check.env.close()
    found = check.args
    assert found.num_fork_points == found.num_hazards == len(bank)
    assert found.steps == check.env.timeout
    assert found.hold == (2,)
    (line,) = caplog.messages
    assert f"--num_fork_points 1000000000 to {len(bank)} ({len(bank)} fork points of layouts for all)" in line
    assert "--steps 1000000000 to 1000" in line


def test_no_more_environments_are_made_than_forks_run(files):
    check = real_check.open_worlds(args(files, batch_size=10**9))
    assert check.env.num == 12
    check.env.close()


def test_sizes_that_cannot_be_had_are_refused_before_work_begins(files, tmp_path, monkeypatch):
    path, agent, _ = files

    def refused(message, **changed):
        refused_at_once(real_check.main, args(files, out_dir=tmp_path, **changed), tmp_path, message)

    refused(
        "--num_fork_points is 0: give 1 or more; --batch_size is 0: give 1 or more",
        num_fork_points=0,
        batch_size=0,
    )
    refused(r"\(--num_fork_points, --draws, .* GiB, and this machine has .* ask for less", draws=HUGE)
    asked = true_q.Args(agent, path / "store", device="cpu", out_dir=tmp_path, draws=HUGE)
    refused_at_once(true_q.main, asked, tmp_path, r"forks \(--num_fork_points, --draws\) takes .* GiB")
    monkeypatch.setattr(ForkPointSampler, "__len__", lambda bank: 1)
    refused_at_once(
        true_q.main,
        replace(asked, draws=2),
        tmp_path,
        "--num_fork_points needs 2 or more, and 1 fork point of layouts for all allow 1",
    )


def test_true_q_lowers_sizes_to_what_the_store_and_the_game_carry(files, caplog):
    path, agent, _ = files
    asked = true_q.Args(agent, num_fork_points=10**9, steps=10**9, draws=2, batch_size=10**9)
    bank = true_q.make_sampler(asked, Rollouts.open(path / "store"))
    found = true_q.fit_flags(asked, bank, 9)
    assert (found.num_fork_points, found.steps, found.batch_size) == (len(bank), 1000, len(bank) * 9 * 2)
    assert len(caplog.messages) == 1


def test_what_cannot_be_checked_is_refused_in_a_line(files):
    path, agent, model = files
    for wrong, message in (
        (dict(draws=0), "--draws is 0"),
        (dict(hold=()), "--hold"),
        (dict(hold=(0,)), "--hold"),
    ):
        with pytest.raises(UsageError, match=message):
            real_check.main(args(files, **wrong))
    stranger = save_runner(path / "stranger.safetensors", seed=3)
    with pytest.raises(UsageError, match="another agent"):
        real_check.main(real_check.Args(model, stranger, path / "store", device="cpu", out_dir=path / "out"))
    with pytest.raises(UsageError, match="another agent"):
        true_q.main(true_q.Args(stranger, path / "store", device="cpu", out_dir=path / "out"))
    for wrong, message in (
        (dict(draws=1), "--draws is 1"),
        (dict(gamma=0), "--gamma is 0"),
        (dict(num_fork_points=1), "2 or more"),
    ):
        with pytest.raises(UsageError, match=message):
            true_q.main(true_q.Args(agent, path / "store", device="cpu", out_dir=path / "out", **wrong))


real_forks = true_q.fork_returns


@pytest.mark.parametrize(
    ("asked", "trained_with", "taken"),
    [(None, {"gamma": 0.5}, 0.5), (None, {}, 0.999), (0.25, {"gamma": 0.5}, 0.25)],
)
def test_true_q_discounts_as_the_agent_was_trained_unless_told(
    files, monkeypatch, tmp_path, asked, trained_with, taken
):
    path, agent, _ = files
    (network, meta), used = load_agent(agent), []
    monkeypatch.setattr(true_q, "load_recorder", lambda *_: (network, meta | trained_with))
    monkeypatch.setattr(true_q, "fork_returns", lambda *given: used.append(given[5]) or real_forks(*given))
    small = dict(num_fork_points=4, draws=2, steps=2, device="cpu", out_dir=tmp_path)
    true_q.main(true_q.Args(agent, path / "store", gamma=asked, **small))
    assert used == [taken]
    assert f"gamma = {taken}" in next(tmp_path.rglob("true_q.html")).read_text()


def test_true_q_writes_a_page_and_its_flags_change_it(files, bank):
    path, agent, _ = files
    small = dict(
        num_fork_points=12, draws=2, steps=40, batch_size=108, gamma=0.9, device="cpu", out_dir=path / "q"
    )
    true_q.main(true_q.Args(agent, path / "store", **small))
    (run,) = (path / "q" / "true_q_precomp").iterdir()
    page = (path / "q" / "true_q_plots" / run.name / "true_q.html").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert page.count("data:image/png") >= 2
    assert "slope" in page
    assert summary["inputs"]["data_dir"] in page
    assert 0 <= summary["cut"] <= 1

    def found(**changed):
        asked = true_q.Args(agent, path / "store", **(small | changed))
        return true_q.compute_returns(
            asked, true_q.make_sampler(asked, bank.rollouts), load_agent(agent)[0], "cpu"
        )

    base = found()
    known, _ = load_checkpoint(run / "true_q.safetensors")
    assert all(np.array_equal(known[name].numpy(), base[name]) for name in ("returns", "cut", "shares"))
    assert np.array_equal(found(batch_size=100)["returns"], base["returns"])
    assert found(steps=2)["cut"].mean() > base["cut"].mean()
    assert found(gamma=0.5)["returns"].sum() < base["returns"].sum()
    assert found(draws=3)["returns"].shape == (12, 9, 3)
    assert found(num_fork_points=3)["returns"].shape == (
        3,
        9,
        2,
    )
    assert not np.array_equal(found(seed=1)["step"], base["step"])
    assert len(found(num_fork_points=60, per_layout=2, draws=1, steps=1)["step"]) > len(set(bank.layouts))
    trained = bank.episodes[real_part(bank) == "train"]
    assert np.isin(found(part="train", num_fork_points=60, draws=1, steps=1)["episode"], trained).all()
