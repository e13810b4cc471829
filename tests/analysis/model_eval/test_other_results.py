"""Rows that other commands measure: planted files are read, and a file of another model is refused."""

import json
from pathlib import Path

import pytest

from analysis.model_eval.other_results import READERS, other_scores
from analysis.model_eval.report_card_targets import CARD, TARGETS, target_rows
from common.runs import UsageError

MODEL = "abc"
REAL_CHECK = {
    "inputs": {"world_model_file": MODEL},
    "asked": {"num_hazards": 256},
    "hazards": {"slope": [0.9, 0.6, 1.2]},
    "closed_loop": {"paired": {"runs": 1024, "ratios": {"death": [1.1, 0.7, 1.6], "coin": [9, 9, 9]}}},
}
CELLS = [
    {"path": path, "quantity": quantity, "k": k, "correlation": [0.4, 0.3, 0.5], "ceiling": ceiling}
    for path, quantity, ceiling in (
        ("agent", "value", 0.1),
        ("environment", "value", 0.5),
        ("environment", "x", 0.1),
    )
    for k in (4, 8)
]
GRADIENT_CHECK = {"inputs": {"world_model_file": MODEL}, "states": 200, "cells": CELLS}
SIMULATION = {
    "rows": [
        {"preset": preset, "batch": batch, "grad": grad, "ratio": ratio}
        for preset, batch, grad, ratio in (
            ("small", 256, False, 1.7),
            ("small", 256, False, 1.6),
            ("tiny", 256, False, 9),
            ("small", 1, False, 9),
            ("small", 256, True, 9),
        )
    ]
}
JOINT = {"ratio": 2.5, "ratio_by_round": [2.4, 2.6, 2.5]}
FILES = dict(zip(READERS, (REAL_CHECK, GRADIENT_CHECK, SIMULATION, JOINT)))


def written(directory: Path, files: dict) -> Path:
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


def test_every_row_of_the_table_that_is_measured_elsewhere_is_read(tmp_path):
    scores = other_scores(written(tmp_path, FILES), MODEL)
    assert set(scores) == {target.key for target in TARGETS if target.command != CARD}
    assert scores["death_ratio"] == {"value": 1.1, "low": 0.7, "high": 1.6, "n": 1024}
    assert scores["deletion_slope"] == {"value": 0.9, "low": 0.6, "high": 1.2, "n": 256}
    assert scores["gradient_8"] == pytest.approx({"value": 0.8, "low": 0.6, "high": 1.0, "n": 200})
    assert scores["simulation_speed"] == {"value": 1.6, "low": 1.6, "high": 1.7, "n": 2}
    assert scores["training_speed"] == {"value": 2.5, "low": 2.4, "high": 2.6, "n": 3}
    assert all(row["reached"] for row in target_rows(scores) if row["command"] != CARD)


def test_a_directory_with_some_of_the_files_gives_some_of_the_rows(tmp_path):
    scores = other_scores(written(tmp_path, {"joint_training.json": JOINT}), MODEL)
    assert list(scores) == ["training_speed"]
    rows = {row["key"]: row["reached"] for row in target_rows(scores)}
    assert rows["training_speed"]
    assert rows["death_ratio"] is None


def test_a_ceiling_of_nothing_leaves_the_gradient_unmeasured(tmp_path):
    cells = [cell | {"ceiling": None if cell["k"] == 4 else -0.1} for cell in CELLS]
    scores = other_scores(
        written(tmp_path, {"gradient_check.json": GRADIENT_CHECK | {"cells": cells}}), MODEL
    )
    assert {score["value"] for score in scores.values()} == {None}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has none of real_check.json"),
        (
            {"real_check.json": REAL_CHECK | {"inputs": {"world_model_file": "xyz"}}},
            "world model xyz, not of abc",
        ),
        ({"gradient_check.json": {"states": 3}}, "lacks inputs.world_model_file"),
        ({"real_check.json": REAL_CHECK | {"closed_loop": {}}}, "'paired'.*python -m analysis.real_check"),
        ({"simulation.json": {"rows": []}}, "python -m benchmarks.simulation"),
        ({"gradient_check.json": GRADIENT_CHECK | {"cells": []}}, "python -m analysis.gradient_check"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, files, message):
    with pytest.raises(UsageError, match=message) as refused:
        other_scores(written(tmp_path, files), MODEL)
    assert "\n" not in str(refused.value)
