"""The ablation: every variant leaves out what it says and nothing else, and a row holds the mean over seeds
and its paired difference.
"""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from analysis.model_eval.report_card_targets import Statistic
from benchmarks import ablation
from common.runs import UsageError
from common.stats import level_counts
from generative.model.config import LossScales
from generative.training.losses import SCALE_OF
from rollouts.labels import BadLabels
from tests.helpers.coinrun_runner import record_runner, save_runner

KEY = "one_step"


def test_every_variant_leaves_out_one_thing():
    plain = asdict(LossScales())
    found = dict(ablation.variants())
    assert found["nothing"] == ablation.Variant(LossScales(), "use")
    assert found["labels"] == ablation.Variant(LossScales(), "ignore")
    for name in found.keys() - {"nothing", "labels"}:
        changed = {flag: value for flag, value in asdict(found[name].scales).items() if value != plain[flag]}
        assert changed == {f"loss_scale_{name}": 0.0}
        assert found[name].labels == "use"
    assert {f"loss_scale_{name}" for name in found} >= {field.name for field in fields(LossScales)}
    assert set(SCALE_OF.values()) <= {f"loss_scale_{name}" for name in found}


def statistics(values):
    """Of one seed: the data, then four resamples of layouts."""
    return {KEY: Statistic(np.array([values, values - 1, values, values, values + 1.0]), 7)}


def test_differences_are_paired_by_seed_and_layout():
    counts = level_counts(3, 4, seed=1)
    whole = [statistics(value) for value in (10.0, 20.0, 60.0)]
    same = ablation.row(whole, whole, counts)[KEY]
    assert same["value"]["value"] == 30
    assert [same["difference"][name] for name in ("value", "low", "high")] == [0, 0, 0]
    lower = ablation.row(whole, [statistics(value) for value in (9.0, 18.0, 57.0)], counts)[KEY]
    assert lower["difference"]["value"] == -2
    assert -3 <= lower["difference"]["low"] <= -2 <= lower["difference"]["high"] <= -1
    assert lower["difference"]["n"] == 7
    mismatched = ablation.row(whole, [statistics(value) for value in (57.0, 9.0, 18.0)], counts)[KEY]
    assert mismatched["difference"]["value"] == -2
    widths = [row["difference"]["high"] - row["difference"]["low"] for row in (lower, mismatched)]
    assert widths[1] > 5 * widths[0]


def test_a_seed_that_a_resample_does_not_draw_does_not_count():
    undefined = Statistic(np.full(2, np.nan), 1)
    found = ablation.over_seeds([Statistic(np.array([1.0, 2.0]), 5), undefined], np.array([[1, 1], [2, 0]]))
    assert np.isnan(found.values[0])
    assert found.values[1] == 2
    few = Statistic(np.array([3.0, 5.0]), 1)  # costly measures have fewer resamples
    assert ablation.over_seeds([few], np.ones((9, 1))).values.tolist() == [3, 5]


def arguments(tmp_path, **changed):
    sizes = dict(seeds=(0, 4), out_dir=tmp_path / "log", out_file=tmp_path / "out.json")
    return ablation.Args(tmp_path / "agent.safetensors", tmp_path / "store", **(sizes | changed))


def test_every_variant_is_trained_with_every_seed_and_scored(tmp_path, monkeypatch):
    asked, scored = [], []

    def train(args):
        asked.append((args.seed, args.labels, args.scales, args.interpreting_params_name))
        run = args.out_dir / "test_tgm" / "run"
        run.mkdir(parents=True, exist_ok=True)
        (run / f"model_{args.num_batches}.safetensors").touch()

    def score(args, name, model, seed):
        scored.append((name, seed, model.is_file()))
        return {"seed": np.array([seed + len(name)])}, np.array(["a", "b"])

    monkeypatch.setattr(ablation, "check", lambda args: None)
    monkeypatch.setattr(ablation.train_gen_model, "main", train)
    monkeypatch.setattr(ablation, "scored", score)
    monkeypatch.setattr(
        ablation,
        "card_statistics",
        lambda scores, weights: {KEY: Statistic(np.full(1001, scores["seed"]), 2)},
    )
    args = arguments(tmp_path, preset="small")
    ablation.main(args)
    wanted = [(seed, v.labels, v.scales, "small") for _, v in ablation.variants() for seed in (0, 4)]
    assert asked == wanted
    assert scored == [(name, seed, True) for name, _ in ablation.variants() for seed in (0, 4)]
    found = json.loads(args.out_file.read_text())
    assert list(found["rows"]) == [name for name, _ in ablation.variants()]
    assert found["rows"]["obs"][KEY]["value"]["value"] == 2 + len("obs")
    assert found["rows"]["obs"][KEY]["difference"]["value"] == len("obs") - len("nothing")


def test_a_training_that_was_stopped_is_said_and_not_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "check", lambda args: None)
    monkeypatch.setattr(ablation.train_gen_model, "main", lambda args: None)
    with pytest.raises(UsageError, match="stopped; the same command goes on"):
        ablation.main(arguments(tmp_path))
    assert not (tmp_path / "out.json").exists()


def test_a_store_without_labels_is_refused_before_any_training(tmp_path):
    save_runner(tmp_path / "agent.safetensors")
    record_runner(tmp_path / "store", tmp_path / "agent.safetensors")
    with pytest.raises(BadLabels, match="label"):
        ablation.main(arguments(tmp_path))
    with pytest.raises(UsageError, match="--seeds is empty"):
        ablation.main(arguments(tmp_path, seeds=()))
