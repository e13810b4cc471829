"""The report card end to end on a little real CoinRun, with planted models: a perfect one, a copy, one that
is deaf to actions, a shifted mask.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import analysis.model_eval.window_scores as window_scores
import loss_over_time_exp
from analysis import plot_loss_over_time, report_card
from analysis.model_eval.eval_references import fit_references, pack, unpack
from analysis.model_eval.eval_windows import EvalWindows, draw_windows, partners_of_other_layouts
from analysis.model_eval.film_strip import choose_cases
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.ground_truth import ground_truth
from analysis.model_eval.loss_over_time import open_loop_errors, summarize_errors
from analysis.model_eval.predictions import TeacherForced, open_loop, other_actions, teacher_forced
from analysis.model_eval.report_card_page import build_page, latest_report
from analysis.model_eval.report_card_scores import PREDICTIONS, frame_report, score_report
from analysis.model_eval.report_card_targets import CARD, TARGETS, card_statistics, statistic_scores
from analysis.model_eval.window_scores import AGENT_VIEWED
from common.cli import parse
from common.runs import UsageError
from common.stats import level_weights
from envs.procgen import action_space
from envs.vecenv import class_probabilities
from generative.model.frames import frames_to_bytes
from generative.model.painter import EncodedFrame
from generative.model.world_model import WorldModel
from generative.model.world_model_file import load_world_model, save_world_model
from generative.simulator_file import load_simulator
from generative.training.data import seeded_generator
from generative.training.teacher_forcing import draw_noise
from rollouts.split import episode_layouts, split_by_layout
from rollouts.states import replay_env
from rollouts.store import Rollouts
from tests.helpers.coinrun_store import PER_PART, write_world
from tests.helpers.refusal_checks import refused_at_once

pytestmark = pytest.mark.usefixtures("float32")

CLASSES = action_space("coinrun").effect_classes
K = 3
STEPS = 12
STILL = 4
FEW = dict(num_windows=12, training_windows=8)
COMMON_ACTIONS = (1, 4, 7, 9, 10, 11, 12, 13, 14)
"""Left, right, and all that do nothing."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def simulator(world):
    return load_simulator(world.world_model_file, world.agent_file)[0]


def arguments(world, out_dir, **changed):
    small = dict(num_windows=24, training_windows=24, batch_size=12, device="cpu", out_dir=out_dir)
    return report_card.Args(world.world_model_file, world.agent_file, world.store.path, **(small | changed))


@pytest.fixture(scope="module")
def card(world, tmp_path_factory):
    """A finished run's directory."""
    out_dir = tmp_path_factory.mktemp("runs")
    report_card.main(arguments(world, out_dir))
    return next(out_dir.glob("model_*"))


def varied(windows):
    """16 of the windows: 8 with an end, and 8 with a rare action at step 10, in 4 of which the likeliest
    action is to stand still. So there are ends, and decision steps with different choices.
    """
    segment = windows.windows.batch(np.arange(len(windows.table)))
    step = K - 1 + 10
    ended = ~segment.mask.numpy().all(0)
    rare = ~ended & ~np.isin(segment.action[step].numpy(), COMMON_ACTIONS)
    still = class_probabilities(segment.logits[step].numpy(), CLASSES).argmax(-1) == STILL
    chosen = [
        np.flatnonzero(mask)[:count] for mask, count in ((ended, 8), (rare & still, 4), (rare & ~still, 4))
    ]
    table = windows.table[np.concatenate(chosen)]
    assert len(table) == 16
    return EvalWindows("test", windows.rollouts, K + STEPS, table, episode_layouts(windows.rollouts))


@pytest.fixture(scope="module")
def batch(world):
    """Held-out windows, their scenes, partners, and references fit on training windows."""
    drawn, training = draw_windows(world.store, ("test", "train"), K + STEPS, K, (600, 24), 0)
    held_out = varied(drawn)
    env = replay_env(world[0], 4)
    references = unpack(pack(fit_references(training, range(K - 1, K + STEPS, 4), 24, env, 0)))
    segment, scenes, partner = held_out.read(np.arange(16), env)
    env.close()
    return held_out, segment, scenes, partner, references


def score(simulator, batch):
    _, segment, scenes, partner, references = batch
    return window_scores.score_windows(simulator, segment, scenes, partner, references, CLASSES, 0)


def plant(monkeypatch, segment, frames, view=None):
    """The model's predictions are replaced by `frames` [S, B, H, W, C], its view by what the agent really saw
    where asked.
    """
    done, coin = (x[K - 1 :].float() for x in (segment.terminated, segment.reward > 0))
    motion = torch.zeros(*frames.shape[:2], 2)
    real = replace(
        segment,
        obs=frames,
        hidden=segment.hidden[K - 1 :],
        logits=segment.logits[K - 1 :],
        value=segment.value[K - 1 :],
        extra={"done_prob": done, "reward_prob": coin, "motion": motion},
    )
    monkeypatch.setattr(window_scores, "open_loop", lambda *a, **k: real)
    monkeypatch.setattr(
        window_scores, "teacher_forced", lambda *a, **k: TeacherForced(frames, frames, done, coin, motion)
    )


def reported(arrays, batch):
    return score_report(arrays, batch[0].layout)


def test_a_perfect_model_scores_the_ceiling_everywhere(simulator, batch, monkeypatch):
    plant(monkeypatch, batch[1], batch[1].obs[K - 1 :])
    scores = score(simulator, batch)
    report = reported(scores, batch)
    assert (scores["error/open_loop"] == 0).all()
    assert (scores["seen_error/posterior"] == 0).all()
    view = report["view"]["open_loop"]
    for name, best in (
        ("total_variation", 0),
        ("kappa", 1),
        ("kappa_deciding", 1),
        ("hidden_r2", 1),
        ("value_error", 0),
        ("encoder_distance", 0),
    ):
        assert view[name][10]["value"] == pytest.approx(best, abs=1e-6), name
    posterior = report["view"][
        "posterior"
    ]  # the agent really shown the real frames makes of them what the store says
    assert posterior["total_variation"][10]["value"] < 1e-3
    assert posterior["hidden_r2"][10]["value"] > 0.999
    for measure in ("real", "hit", "distance", "detected", "true_positive", "new"):
        np.testing.assert_array_equal(
            scores[f"objects_{measure}/open_loop"], scores[f"objects_{measure}/real"]
        )
    ends = report["outcomes"]["open_loop"]["done"]
    assert ends["happened"] > 0
    assert ends["auroc"]["value"] == ends["auprc"]["value"] == 1
    assert report["outcomes"]["end_within"]["ece"]["value"] == 0
    assert report["new_places"]["saw"]["p"] == 1


def test_a_model_that_copies_the_last_frame_equals_the_copy_baseline(simulator, batch, monkeypatch):
    last = batch[1].obs[K - 1]
    plant(monkeypatch, batch[1], last.expand(STEPS + 1, *last.shape).contiguous())
    scores = score(simulator, batch)
    np.testing.assert_array_equal(scores["error/open_loop"], scores["error/copy"])
    report = reported(scores, batch)["frames"]
    assert report["whole"]["copy"][10]["value"] < report["whole"]["shifted_copy"][10]["value"]
    assert report["in_view_above_shifted_copy"][10]["value"] < 0
    assert report["whole"]["copy"][0]["value"] is None


def test_the_table_quotes_the_report(simulator, batch):
    scores = score(simulator, batch)
    report = reported(scores, batch)
    weights = level_weights(batch[0].layout, RESAMPLES)
    found = statistic_scores(card_statistics(scores, weights))
    frames, view, motion = report["frames"], report["view"], report["motion"]["open_loop"]["sum"]
    hazards = report["objects"]["hazards"]["open_loop"]
    outcomes = report["outcomes"]["open_loop"]
    assert found == {
        "motion_large": motion["large"][10],
        "motion_median": motion["median"][10],
        "first_frame": frames["whole"]["open_loop"][0],
        "one_step": frames["whole"]["open_loop"][1],
        "in_view": frames["in_view"]["open_loop"][10],
        "in_view_above_copy": frames["in_view_above_shifted_copy"][10],
        "returned": frames["returned"]["open_loop"][10],
        "hazards_first": hazards["recall"][0],
        "hazards_kept": hazards["kept"][12],
        "kappa_first": view["open_loop"]["kappa_deciding"][1],
        "kappa_share": view["share_of_composite"]["kappa_deciding"][10],
        "end_auprc": outcomes["done"]["auprc"],
        "reward_auprc": outcomes["reward"]["auprc"],
    }
    assert set(found) == {target.key for target in TARGETS if target.command == CARD}


def test_the_ceiling_shows_the_agent_real_pixels_where_seen_and_the_models_where_new(
    simulator, batch, monkeypatch
):
    segment = batch[1]
    frames = torch.full_like(segment.obs[K - 1 :], 255)
    plant(monkeypatch, segment, frames)
    shown = {}
    seen_by_agent = window_scores.run_agent

    def look(agent, x, hidden):
        shown[len(shown)] = x
        return seen_by_agent(agent, x, hidden)

    monkeypatch.setattr(window_scores, "run_agent", look)
    scores = score(simulator, batch)
    truth = ground_truth(segment, batch[2], K)
    composite = shown[1 + AGENT_VIEWED.index("composite")]  # the real frames come first
    np.testing.assert_array_equal(composite[truth.visible], truth.frames[truth.visible])
    assert (composite[~truth.visible] == 255).all()
    assert (~truth.visible).mean() > 0.05
    alive = truth.alive
    assert scores["tv/composite"][0][alive[0]].max() < 1e-3  # nothing is new yet
    white = run_on(simulator, frames, segment)
    assert np.abs(white - scores["tv/composite"])[alive].max() > 0.01


def run_on(simulator, frames, segment):
    """Total variation between the policy on given frames and the recorded one, [S, b]."""
    logits = window_scores.run_agent(simulator.agent, frames.numpy(), segment.hidden[K - 1])[1]
    p, q = (class_probabilities(x, CLASSES) for x in (logits, segment.logits[K - 1 :].numpy()))
    return 0.5 * np.abs(p - q).sum(-1)


def test_a_perfect_composite_makes_the_share_that_of_its_kappa(simulator, batch, monkeypatch):
    plant(monkeypatch, batch[1], batch[1].obs[K - 1 :])
    view = reported(score(simulator, batch), batch)["view"]
    assert view["composite"]["kappa_deciding"][10]["value"] == pytest.approx(1)
    assert view["share_of_composite"]["kappa_deciding"][10]["value"] == pytest.approx(1)


def test_a_model_that_is_deaf_to_actions_has_no_dpsnr_and_one_that_hears_them_has(
    simulator, batch, monkeypatch
):
    segment = batch[1]
    wrong = other_actions(segment.action[K - 1 :], CLASSES)
    assert (np.array(CLASSES)[wrong] != np.array(CLASSES)[segment.action[K - 1 :]]).all()
    assert set(np.array(CLASSES)[wrong].ravel()) == set(CLASSES)
    plant(monkeypatch, segment, segment.obs[K - 1 :])
    scores = score(simulator, batch)
    np.testing.assert_array_equal(scores["error/wrong_actions"], scores["error/open_loop"])
    perfect = window_scores.open_loop()
    hearing = replace(perfect, obs=perfect.obs.roll(1, 1))

    def heard(*args, actions=None, **options):
        return perfect if actions is None else hearing

    monkeypatch.setattr(window_scores, "open_loop", heard)
    assert reported(score(simulator, batch), batch)["frames"]["whole"]["wrong_actions"][4]["value"] < 20


def test_a_mask_from_another_camera_is_noticed(simulator, batch):
    """The shifted copy at seen pixels is nearly right; with the scenes of the wrong windows it is not."""
    held_out, segment, scenes, *rest = batch
    frames = score(simulator, batch)
    order = np.roll(np.arange(len(held_out.table)), 5)
    by_window = [field.reshape(-1, len(order))[:, order].ravel() for field in scenes.camera]
    moved = scenes._replace(camera=type(scenes.camera)(*by_window))
    wrong = score(simulator, (held_out, segment, moved, *rest))

    def psnr(scores):
        return -10 * np.log10(
            (scores["seen_error/shifted_copy"][5] * scores["alive"][5]).sum() / scores["seen_pixels"][5].sum()
        )

    assert psnr(frames) > 17
    assert psnr(wrong) < psnr(frames) - 3
    assert (frames["seen_pixels"] <= 64 * 64).all()
    assert (frames["seen_share"][0][frames["alive"][0]] == 1).all()
    assert frames["seen_share"][10].sum() < 0.95 * frames["alive"][10].sum()


def test_nothing_counts_after_an_end(simulator, batch):
    held_out, segment, scenes, partner, references = batch
    scores = score(simulator, batch)
    assert not scores["alive"].all()
    changed = replace(segment, obs=torch.where(segment.mask[..., None, None, None], segment.obs, 255))
    again = score(simulator, (held_out, changed, scenes, partner, references))
    alive = scores["alive"]
    for name in PREDICTIONS:
        np.testing.assert_array_equal(
            scores[f"error/{name}"][alive], again[f"error/{name}"][alive], err_msg=name
        )
    weights = level_weights(batch[0].layout, 1000)
    before, after = (frame_report(x, weights)["whole"]["copy"] for x in (scores, again))
    assert before == after


def test_predictions_are_what_the_model_says_step_by_step(simulator, batch):
    segment = batch[1]
    forced = teacher_forced(simulator, segment)
    mask = segment.mask[K - 1 :]
    model = simulator.model
    noise = draw_noise(model.config, *mask.shape, seeded_generator(torch.device("cpu"), 0))
    with torch.no_grad():
        view = model.locate(segment.obs)
        hidden = simulator.agent_burn_in(segment.obs[:K])
        seen = model.encode_frames(segment.obs, view.position)
        latent = model.encode(segment.obs[:K], hidden)
        state = prior = model.start(latent.sample(noise.z)).env
        canvas = model.fuse(EncodedFrame(*(part[: K - 1] for part in seen)), view.position[: K - 1])
        for i in range(6):
            t = K - 1 + i
            encoded = EncodedFrame(*(part[t] for part in seen))
            state = model.observe(state, canvas, encoded, view.position[t], view.motion[t - 1])
            canvas = state.canvas
            here = mask[i]
            posterior = model.paint(state) if i else prior
            for ours, by_hand in ((forced.one_step, prior), (forced.posterior, posterior)):
                shown = frames_to_bytes(by_hand.frame)[here].float()
                torch.testing.assert_close(ours[i][here].float(), shown, atol=1.01, rtol=0)
            state = prior = model.step(state, segment.action[t], noise.tiles[i])
            done = torch.sigmoid(model.outcome(state.outcome).done_logit)
            torch.testing.assert_close(forced.done_prob[i][here], done[here], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(forced.motion[i + 1][here], state.motion[here], rtol=1e-3, atol=1e-4)
    assert not forced.posterior[~mask].any()
    assert torch.equal(forced.posterior[0], forced.one_step[0])
    assert not torch.allclose(forced.motion[1:], view.motion[K - 1 :])
    alone = replace(
        segment,
        **{name: getattr(segment, name)[:, 3:4] for name in ("obs", "action")},
        episode=segment.episode[3:4],
        start=segment.start[3:4],
    )
    together = open_loop(simulator, segment)
    torch.testing.assert_close(
        open_loop(simulator, alone).obs[:, 0].float(), together.obs[:, 3].float(), atol=1.01, rtol=0
    )
    assert not torch.equal(open_loop(simulator, segment, use_mode=True).obs, together.obs)
    assert not torch.equal(open_loop(simulator, segment, 1).obs, together.obs)


def test_windows_come_from_their_part_and_partners_from_another_layout(world):
    layouts = episode_layouts(world.store)
    parts = draw_windows(world.store, ("test", "train"), 15, K, (40, 30), 0)
    for part, name in zip(parts, ("test", "train")):
        assert set(split_by_layout(layouts)[part.table[:, 0]]) == {name}
        assert len(np.unique(part.layout)) == len(np.unique(layouts[part.table[:, 0]]))
    assert [len(part.table) for part in parts] == [40, 30]
    assert len(np.unique(parts[0].table, axis=0)) == 40
    assert [len(b) for b in parts[0].batches(13)] == [13, 14, 13][:1] + [13, 14]
    assert (draw_windows(world.store, ("test",), 15, K, (40,), 1)[0].table != parts[0].table).any()
    clusters = np.array([0, 0, 1, 1, 0])
    assert partners_of_other_layouts(clusters).tolist() == [2, 2, 4, 4, 2]
    with pytest.raises(UsageError, match="unknown part 'all'"):
        draw_windows(world.store, ("all",), 15, K, (4,), 0)


def test_one_command_writes_report_and_page_and_says_so_when_it_is_done(card, world, caplog):
    report = json.loads((card / "report.json").read_text())
    assert len(report["targets"]) == 19
    assert report["held_out"]["windows"] == 24
    assert report["held_out"]["levels"] <= PER_PART["test"]
    assert report["held_out"]["part"] == "test"
    assert report["training"]["part"] == "train"
    assert report["held_out"]["frames"]["whole"].keys() == set(PREDICTIONS)
    assert list(report["manifest"]["inputs"]) == ["world_model_file", "agent_file", "data_dir", "version"]
    assert report["compared"] == []
    page = (card / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<img") == 4
    assert "<h2>Targets" in page
    first = report["targets"][0]
    assert f"{first['value']:.2f} [{first['low']:.2f}, {first['high']:.2f}]" in page
    with caplog.at_level("INFO"):
        report_card.main(arguments(world, card.parent))
    assert "is done" in caplog.text
    assert len(list(card.parent.glob("model_*"))) == 1


def test_an_interrupted_run_goes_on_to_the_same_report(card, world):
    before = json.loads((card / "report.json").read_text())
    kept = {path: path.stat().st_mtime_ns for path in (card / "scores").iterdir()}
    for name in ("done.json", "report.json", "film.safetensors", "scores/test_0001.safetensors"):
        (card / name).unlink()
    report_card.main(arguments(world, card.parent))
    after = json.loads((card / "report.json").read_text())
    assert {k: v for k, v in after.items() if k != "manifest"} == {
        k: v for k, v in before.items() if k != "manifest"
    }
    remade = [path.name for path, when in kept.items() if path.stat().st_mtime_ns != when]
    assert remade == ["test_0001.safetensors"]


@pytest.fixture(scope="module")
def other_model(world, tmp_path_factory):
    """A world model like the first, with other weights."""
    torch.manual_seed(9)
    path = tmp_path_factory.mktemp("other") / "model.safetensors"
    model, meta = load_world_model(world.world_model_file)
    for parameter in model.parameters():
        parameter.data.mul_(1 + 0.3 * torch.randn_like(parameter))
    save_world_model(path, model, meta)
    return path


def test_two_models_are_compared_on_the_same_windows(world, other_model, tmp_path):
    def rows(model, other):
        out_dir = tmp_path / model.parent.name
        asked = replace(arguments(world, out_dir, compare_with=other, **FEW), world_model_file=model)
        report_card.main(asked)
        (path,) = out_dir.glob("*/report.json")
        return json.loads(path.read_text()), path.with_name("report.html").read_text()

    pair, page = rows(world.world_model_file, other_model)
    report = rows(other_model, world.world_model_file)[0]
    scored_first = {target["key"]: target for target in report["targets"]}
    back = {row["key"]: row for row in report["compared"]}
    assert [row["key"] for row in pair["compared"]] == [t.key for t in TARGETS if t.command == CARD]
    for row in pair["compared"]:
        # scored first, the other model has the same windows and the same noise, and so the same scores
        assert row["second"] == {name: scored_first[row["key"]][name] for name in row["second"]}, row["key"]
        for name, sign in (("value", "value"), ("low", "high"), ("high", "low")):
            there, back_again = row["difference"][name], back[row["key"]]["difference"][sign]
            assert (there is None) == (back_again is None)
            assert there is None or there == pytest.approx(-back_again)
    assert any(row["difference"]["value"] for row in pair["compared"])
    assert "Two models on the same windows" in page


def test_a_model_compared_with_itself_differs_by_nothing(world, tmp_path):
    report_card.main(arguments(world, tmp_path, compare_with=world.world_model_file, **FEW))
    (path,) = tmp_path.glob("*/report.json")
    differences = [row["difference"] for row in json.loads(path.read_text())["compared"]]
    assert {d["value"] for d in differences} <= {0.0, None}
    assert {d["high"] for d in differences} <= {0.0, None}


def test_models_that_are_given_different_frames_are_not_compared(world, tmp_path):
    torch.manual_seed(0)
    model, meta = load_world_model(world.world_model_file)
    longer = WorldModel(replace(model.config, num_initializing_steps=K + 1))
    save_world_model(
        tmp_path / "longer.safetensors", longer, {name: meta[name] for name in ("agent", "noop")}
    )
    asked = arguments(world, tmp_path / "out", compare_with=tmp_path / "longer.safetensors")
    refused_at_once(report_card.main, asked, tmp_path / "out", "takes 3 first frames and .* 4: they cannot")


def test_a_report_of_the_former_card_is_refused_with_the_command_that_makes_it_again(card, tmp_path):
    report = json.loads((card / "report.json").read_text())
    del report["held_out"]["motion"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(UsageError, match="lacks the measures.*--new"):
        build_page(tmp_path)


def test_rows_of_other_commands_join_a_finished_report(card, world, tmp_path):
    before = json.loads((card / "report.json").read_text())
    kept = {path: path.stat().st_mtime_ns for path in (card / "scores").iterdir()}
    (tmp_path / "joint_training.json").write_text(json.dumps({"ratio": 2.5, "ratio_by_round": [2.4, 2.6]}))
    report_card.main(arguments(world, card.parent, results_dir=tmp_path))
    after = json.loads((card / "report.json").read_text())
    changed = [b["key"] for a, b in zip(before["targets"], after["targets"]) if a != b]
    assert changed == ["training_speed"]
    assert "2.50 [2.40, 2.60]" in (card / "report.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in (card / "scores").iterdir()} == kept
    assert {k: v for k, v in after.items() if k != "targets"} == {
        k: v for k, v in before.items() if k != "targets"
    }
    (card / "report.json").write_text(json.dumps(before))


def test_the_page_is_drawn_from_artefacts_alone(card, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (card / "report.html").unlink()
    assert build_page(card) == card / "report.html"
    assert (card / "report.html").exists()
    with pytest.raises(UsageError, match="no report card in"):
        latest_report(tmp_path)
    with pytest.raises(UsageError, match="holds no report.json"):
        build_page(tmp_path)
    assert latest_report(card.parent) == card


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_windows": 1}, "--num_windows is 1"),
        ({"training_windows": 0}, "--training_windows"),
        ({"batch_size": 1}, "--batch_size"),
        ({"part": "train"}, "--part is 'train'"),
    ],
)
def test_bad_demands_are_refused_in_one_line(world, tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        report_card.main(arguments(world, tmp_path, **changed))


def test_film_cases_stand_at_their_ranks():
    alive = np.ones((13, 12), bool)
    alive[5:, 0] = False
    error = np.tile(np.arange(12.0), (13, 1))
    chosen = choose_cases({"alive": alive, "seen_pixels": np.ones((13, 12)), "seen_error/open_loop": error})
    assert chosen == {"good": 2, "median": 6, "worst decile": 10}
    assert (
        choose_cases(
            {"alive": ~alive & False, "seen_pixels": np.ones((13, 12)), "seen_error/open_loop": error}
        )
        == {}
    )


def test_losses_are_in_their_own_units_and_stop_with_the_episode(simulator, batch):
    segment = batch[1]
    found = open_loop_errors(simulator, segment)
    run = open_loop(simulator, segment)
    s = 4
    b = int(torch.nonzero(segment.mask[K + 3])[0])
    by_hand = ((run.obs[s, b].float() - segment.obs[K - 1 + s, b].float()) / 255).square().mean()
    assert found["obs"][s, b] == pytest.approx(by_hand.item(), rel=1e-5)
    assert found["hx"][s, b] == pytest.approx(
        ((run.hidden[s + 1, b] - segment.hidden[K + s, b]) ** 2).sum().item(), rel=1e-4
    )
    assert (found["obs_copy"][0] == 0).all()
    assert (np.isnan(found["done"]) == ~segment.mask[K - 1 :].numpy()).all()
    table = summarize_errors(found)
    assert table["n"] == segment.mask[K - 1 :].sum(1).tolist()
    assert table["obs_min"][3] <= table["obs_low"][3] <= table["obs_mean"][3] <= table["obs_max"][3]


def test_loss_over_time_writes_its_figure_and_refuses_other_files(world, tmp_path):
    small = dict(num_batches=2, batch_size=8, num_sim_steps=6, device="cpu", out_dir=tmp_path)
    args = loss_over_time_exp.Args(world.world_model_file, world.agent_file, world.store.path, **small)
    loss_over_time_exp.main(args)
    (path,) = tmp_path.glob("test/*/loss_over_time.json")
    data = json.loads(path.read_text())
    assert len(data["obs_mean"]) == 6
    assert data["windows"] == 16
    assert data["part"] == "test"
    assert path.with_name("loss_over_time.png").exists()
    loss_over_time_exp.main(replace(args, part="train", seed=1))
    assert len(list(tmp_path.glob("test/*/loss_over_time.json"))) == 2
    (tmp_path / "other.json").write_text("{}")
    for wrong in (tmp_path / "other.json", tmp_path / "nothing.json"):
        with pytest.raises(UsageError, match="give the loss_over_time.json"):
            plot_loss_over_time.draw(wrong)
    with pytest.raises(UsageError, match="--num_batches is 0"):
        loss_over_time_exp.main(replace(args, num_batches=0))


def test_the_flags_of_loss_over_time_say_where_it_goes_and_which_levels_it_is_of(world, tmp_path):
    small = dict(num_batches=1, batch_size=4, num_sim_steps=2, device="cpu", out_dir=tmp_path, part="train")
    levels = np.sort(
        world.store.episodes["level_seed"][
            draw_windows(world.store, ("train",), 15, K, (9999,), 0)[0].table[:, 0]
        ]
    )
    half = int(levels[len(levels) // 2])

    def data(**changed) -> dict:
        loss_over_time_exp.main(
            loss_over_time_exp.Args(
                world.world_model_file, world.agent_file, world.store.path, **(small | changed)
            )
        )
        (path,) = tmp_path.glob(f"{changed['exp_name']}/*/loss_over_time.json")
        return json.loads(path.read_text())

    assert data(exp_name="mine")["obs_mean"]
    assert not (tmp_path / "test").exists()
    assert (
        parse(
            loss_over_time_exp.Args,
            words=["--world_model_file", "m", "--agent_file", "a", "--gen_mod_exp_name", "x"],
        ).exp_name
        == "x"
    )
    assert data(exp_name="late", start_level=half, env_name="coinrun")["first_level"] >= half
    assert data(exp_name="early", num_levels=half + 1, distribution_mode="easy")["last_level"] <= half
    for changed in (
        {"env_name": "jumper"},
        {"distribution_mode": "hard"},
        {"num_levels": 1},
        {"start_level": -1},
    ):
        with pytest.raises(UsageError, match="recorded with|fewer than two layouts|count from 0"):
            data(exp_name="none", **changed)
    for changed, message in (
        ({"num_batches": 0, "batch_size": 0}, "--num_batches is 0: .* --batch_size is 0"),
        ({"num_sim_steps": 10**12}, "GiB"),
    ):
        with pytest.raises(UsageError, match=message):
            data(exp_name="none", **changed)
    assert not (tmp_path / "none").exists()


def test_sizes_beyond_the_store_are_lowered_before_work_begins(world, simulator, caplog):
    asked = arguments(world, None, num_windows=10**9, training_windows=10**9)
    args, parts = report_card.choose_windows(asked, simulator, world.store)
    assert (args.num_windows, args.training_windows) == tuple(len(part.table) for part in parts)
    (line,) = caplog.messages
    assert f"--num_windows 1000000000 to {args.num_windows}" in line
    assert f"--training_windows 1000000000 to {args.training_windows}" in line


def test_sizes_that_cannot_be_had_are_refused_before_work_begins(world, tmp_path, monkeypatch):
    def refused(message, **changed):
        refused_at_once(report_card.main, arguments(world, tmp_path, **changed), tmp_path, message)

    refused(
        "--num_windows is 1: give 2 or more; --batch_size is 0: give 2 or more", num_windows=1, batch_size=0
    )
    monkeypatch.setattr(
        "analysis.model_eval.eval_windows.split_by_layout", lambda layouts: np.full(len(layouts), "train")
    )
    refused("fewer than two layouts for test .*larger --num_episodes")
    monkeypatch.undo()
    monkeypatch.setattr("common.integrity.machine_memory", lambda: 10_000)
    refused(r"a batch of 12 windows \(--batch_size\) takes .* GiB, and this machine has")


def test_a_store_of_another_game_is_refused(world, tmp_path):
    store = Rollouts.open(world.store.path)
    store.manifest["env"]["env_name"] = "jumper"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rollouts, "open", classmethod(lambda cls, path: store))
        with pytest.raises(UsageError, match="recorded in jumper"):
            report_card.load(arguments(world, tmp_path), torch.device("cpu"))
