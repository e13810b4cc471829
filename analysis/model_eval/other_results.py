"""Rows of the report card's table that other commands measure, from a directory of their results."""

from collections.abc import Callable, Mapping
from pathlib import Path

from analysis.model_eval.report_card_targets import (
    GRADIENT_CHECK,
    REAL_CHECK,
    SIMULATION_SPEED,
    TRAINING_SPEED,
)
from common.descriptions import look_up, read_json
from common.runs import UsageError

SPEED_PRESET, SPEED_BATCH = "small", 256
Scores = dict[str, dict]


def other_scores(directory: Path, model_id: str) -> Scores:
    """Value, low, high and n by key of a target, from the files of READERS that the directory has.

    Args:
        directory: holds real_check.json, gradient_check.json, simulation.json, joint_training.json, or some.
        model_id: of the world model that is scored.

    Raises:
        UsageError: the directory has none of them, or one is of another world model or damaged.
    """
    found = [name for name in READERS if (directory / name).is_file()]
    if not found:
        raise UsageError(
            f"{directory} has none of {', '.join(READERS)}: give --results_dir one that has some"
        )
    scores = {}
    for name in found:
        command, of_a_model, reader = READERS[name]
        content = read_json(directory / name, f"make it again with {command}")
        if of_a_model:
            _check_model(content, directory / name, model_id, command)
        try:
            scores |= reader(content)
        except (KeyError, IndexError, TypeError, StopIteration) as error:
            raise UsageError(
                f"{directory / name} lacks what the report card reads ({error}): make it again with {command}"
            ) from error
    return scores


def _check_model(content: dict, path: Path, model_id: str, command: str) -> None:
    about = look_up(content, "inputs.world_model_file", str, path)
    if about != model_id:
        raise UsageError(
            f"{path} is of the world model {about}, not of {model_id}: make it again with {command}"
        )


def _real_check(content: dict) -> Scores:
    paired = content["closed_loop"]["paired"]
    return {
        "death_ratio": _score(paired["ratios"]["death"], paired["runs"]),
        "deletion_slope": _score(content["hazards"]["slope"], content["asked"]["num_hazards"]),
    }


def _gradient_check(content: dict) -> Scores:
    return {f"gradient_{k}": _share_of_ceiling(content, k) for k in (4, 8)}


def _share_of_ceiling(content: dict, k: int) -> dict:
    cell = next(
        cell
        for cell in content["cells"]
        if (cell["path"], cell["quantity"], cell["k"]) == ("environment", "value", k)
    )
    if not cell["ceiling"] or cell["ceiling"] <= 0:  # too few rollouts to tell
        return _score([None] * 3, content["states"])
    return _score([bound / cell["ceiling"] for bound in cell["correlation"]], content["states"])


def _simulation(content: dict) -> Scores:
    ratios = [
        row["ratio"]
        for row in content["rows"]
        if (row["preset"], row["batch"], row["grad"]) == (SPEED_PRESET, SPEED_BATCH, False)
    ]
    return {"simulation_speed": _score([ratios[-1], min(ratios), max(ratios)], len(ratios))}


def _joint_training(content: dict) -> Scores:
    rounds = content["ratio_by_round"]
    return {"training_speed": _score([content["ratio"], min(rounds), max(rounds)], len(rounds))}


def _score(interval: list, n: int) -> dict:
    return dict(zip(("value", "low", "high"), interval, strict=True)) | {"n": n}


READERS: Mapping[str, tuple[str, bool, Callable[[dict], Scores]]] = {
    "real_check.json": (REAL_CHECK, True, _real_check),
    "gradient_check.json": (GRADIENT_CHECK, True, _gradient_check),
    "simulation.json": (SIMULATION_SPEED, False, _simulation),
    "joint_training.json": (TRAINING_SPEED, False, _joint_training),
}
"""By file: the command that writes it, whether it is of one world model, and what reads it. Of speeds, low
and high are the least and the greatest of the rows or rounds.
"""
