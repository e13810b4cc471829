"""The ablation: every variant leaves out what it says and nothing else, and the table holds what the report
cards say.
"""

import json
from dataclasses import asdict

import pytest

from benchmarks import ablation
from common.runs import UsageError
from generative.model.config import LossScales
from generative.training.losses import SCALE_OF


def test_every_variant_changes_the_weights_that_it_names_and_no_other():
    plain = asdict(LossScales()) | {"loss_scale_overshooting": 0.0}
    found = dict(ablation.variants())
    assert asdict(found["nothing"]) == plain
    left_out = set()
    for name, terms in ablation.LEFT_OUT.items():
        changed = {flag for flag, value in asdict(found[name]).items() if value != plain[flag]}
        assert changed == {f"loss_scale_{term}" for term in terms}, name
        assert all(getattr(found[name], flag) == 0 for flag in changed), name
        assert changed <= set(SCALE_OF.values())
        left_out |= changed
    assert {
        flag for flag, value in asdict(found[ablation.LATENT_OVERSHOOTING]).items() if value != plain[flag]
    } == {"loss_scale_overshooting"}
    assert {
        "loss_scale_start_recon",
        "loss_scale_self_conditioned_recon",
        "loss_scale_deterministic_rollout",
        "loss_scale_motion",
        "loss_scale_small_objects",
    } < left_out


def report(value):
    """A report in which every number is another one, by its place."""
    places = iter(range(100))

    def number():
        shown = value + 10 * next(places)
        return {"value": shown, "low": shown - 1, "high": shown + 1, "n": 7, "more": "not kept"}

    def by_step():
        return [number() for _ in range(11)]

    return {
        "held_out": {
            "frames": {
                "whole": {"open_loop": by_step()},
                "posterior": number(),
                "seen": {"open_loop": by_step()},
                "in_view": {"open_loop": by_step()},
            },
            "objects": {"hazards": {"open_loop": {"recall": by_step()}}},
            "motion": {"open_loop": {"sum": {"median": by_step()}}},
            "view": {"open_loop": {"kappa_deciding": by_step()}},
            "outcomes": {"open_loop": {"reward": {"auroc": number()}, "done": {"auroc": number()}}},
        }
    }


def test_each_model_is_trained_with_its_weights_and_scored_under_its_name(tmp_path, monkeypatch):
    trained = {}
    order = []

    def train(args):
        run = args.out_dir / "test_tgm" / "run"
        run.mkdir(parents=True)
        (run / f"model_{args.num_batches}.safetensors").touch()
        trained[run / f"model_{args.num_batches}.safetensors"] = args

    def card(args):
        assert (args.num_windows, args.training_windows, args.seed) == (5, 4, 3)
        order.append(trained[args.world_model_file].scales)
        home = args.out_dir / "card_run"
        home.mkdir(parents=True)
        (home / "report.json").write_text(json.dumps(report(len(order))))

    monkeypatch.setattr(ablation.train_gen_model, "main", train)
    monkeypatch.setattr(ablation.report_card, "main", card)
    args = ablation.Args(
        tmp_path / "agent",
        tmp_path / "store",
        "small",
        6,
        2,
        5,
        4,
        3,
        tmp_path / "log",
        tmp_path / "out.json",
    )
    ablation.main(args)
    assert order == [scales for _, scales in ablation.variants()]
    assert all(
        (a.interpreting_params_name, a.num_batches, a.batch_size, a.seed, a.agent_file)
        == ("small", 6, 2, 3, tmp_path / "agent")
        for a in trained.values()
    )
    found = json.loads(args.out_file.read_text())
    assert list(found["rows"]) == [name for name, _ in ablation.variants()]
    assert found["num_batches"] == 6
    for i, row in enumerate(found["rows"].values(), 1):
        assert row["first frame"] == {"value": i, "low": i - 1, "high": i + 1, "n": 7}
        shown = {name: score["value"] - i for name, score in row.items()}
        assert shown == {
            "first frame": 0,
            "open loop, one step": 10,
            "posterior frames, steps 1 to 12": 110,
            "open loop, seen pixels at ten steps": 220,
            "open loop, in view all along at ten steps": 330,
            "hazards in the first frame": 340,
            "motion ten steps ahead: median error": 550,
            "kappa on decision steps, step 1": 570,
            "reward: AUROC, open loop": 670,
            "end: AUROC, open loop": 680,
        }


def test_a_training_that_was_stopped_is_said_and_not_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation.train_gen_model, "main", lambda args: None)
    with pytest.raises(UsageError, match="stopped; the same command goes on"):
        ablation.main(
            ablation.Args(tmp_path / "agent", out_dir=tmp_path / "log", out_file=tmp_path / "out.json")
        )
    assert not (tmp_path / "out.json").exists()


def test_a_report_without_one_of_the_figures_is_refused():
    incomplete = report(1)
    del incomplete["held_out"]["frames"]["posterior"]
    with pytest.raises(KeyError):
        ablation.figures(incomplete)
