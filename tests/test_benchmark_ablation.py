"""The ablation: every variant leaves out what it says and nothing else, and the table holds what the report cards say."""

import json
from dataclasses import asdict

import pytest

from benchmarks import ablation
from common.runs import UsageError
from generative.config import LossScales
from generative.losses import SCALE_OF


def test_every_variant_changes_the_weights_that_it_names_and_no_other():
    plain = asdict(LossScales()) | {"loss_scale_free_kl": 0.0}
    found = dict(ablation.variants())
    assert asdict(found["nothing"]) == plain
    left_out = set()
    for name, terms in ablation.LEFT_OUT.items():
        changed = {flag for flag, value in asdict(found[name]).items() if value != plain[flag]}
        assert changed == {f"loss_scale_{term}" for term in terms} and all(getattr(found[name], flag) == 0 for flag in changed), name
        assert changed <= set(SCALE_OF.values())
        left_out |= changed
    assert {flag for flag, value in asdict(found[ablation.LATENT_OVERSHOOTING]).items() if value != plain[flag]} == {"loss_scale_free_kl"}
    assert {"loss_scale_first", "loss_scale_repainted", "loss_scale_blind", "loss_scale_motion", "loss_scale_detail"} < left_out


def report(value):
    number = {"value": value, "low": value - 1, "high": value + 1, "n": 7, "more": "not kept"}
    names = ("posterior frames, steps 1 to 12", "open loop, one step", "open loop, seen pixels at ten steps", "kappa on decision steps, step 1",
             "reward: AUROC, open loop", "end: AUROC, open loop")  # fmt: skip
    targets = [number | {"name": name, "value": value + 10 * i} for i, name in enumerate(names, 1)]
    held_out = {"frames": {"whole": {"open_loop": [number, None]}}, "things": {"hazards": {"open_loop": {"recall": [number | {"value": 0.5}]}}}}
    return {"targets": targets, "held_out": held_out}


def test_each_model_is_trained_with_its_weights_and_scored_under_its_name(tmp_path, monkeypatch):
    trained, order = {}, []

    def train(args):
        run = args.out_dir / "test_tgm" / "run"
        run.mkdir(parents=True)
        (run / f"model_{args.num_batches}.safetensors").touch()
        trained[run / f"model_{args.num_batches}.safetensors"] = args

    def card(args):
        assert (args.num_windows, args.training_windows, args.seed) == (5, 4, 3)
        order.append(trained[args.model_file].scales)
        home = args.out_dir / "card_run"
        home.mkdir(parents=True)
        (home / "report.json").write_text(json.dumps(report(len(order))))

    monkeypatch.setattr(ablation.train_gen_model, "main", train)
    monkeypatch.setattr(ablation.report_card, "main", card)
    args = ablation.Args(tmp_path / "agent", tmp_path / "store", "small", 6, 2, 5, 4, 3, tmp_path / "log", tmp_path / "out.json")
    ablation.main(args)
    assert order == [scales for _, scales in ablation.variants()]
    assert all((a.interpreting_params_name, a.num_batches, a.batch_size, a.seed, a.agent_file) == ("small", 6, 2, 3, tmp_path / "agent") for a in trained.values())
    found = json.loads(args.output.read_text())
    assert list(found["rows"]) == [name for name, _ in ablation.variants()] and found["num_batches"] == 6
    for i, row in enumerate(found["rows"].values(), 1):
        assert row["first frame"] == {"value": i, "low": i - 1, "high": i + 1, "n": 7}
        assert row["hazards in the first frame"]["value"] == 0.5 and row["end: AUROC, open loop"]["value"] == i + 60


def test_a_training_that_was_stopped_is_said_and_not_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation.train_gen_model, "main", lambda args: None)
    with pytest.raises(UsageError, match="stopped; the same command goes on"):
        ablation.main(ablation.Args(tmp_path / "agent", out_dir=tmp_path / "log", output=tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()


def test_a_report_without_one_of_the_figures_is_refused():
    with pytest.raises(KeyError):
        ablation.figures(report(1) | {"targets": []})
