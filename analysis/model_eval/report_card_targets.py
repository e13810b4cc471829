"""What a world model of CoinRun easy, without backgrounds, must reach on held-out layouts.

Rows that this report measures are statistics of bootstrap weights, so that two models scored on the same
windows can be compared in pairs. The others are read from the results of other commands.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from analysis.model_eval.agent_view import decision_steps, kappa
from analysis.model_eval.frame_objects import HAZARDS
from analysis.model_eval.motion_error import error_statistics
from common.stats import json_estimate, ratio
from interpret.classification_scores import ranking_scores
from interpret.psnr import pooled_psnr, psnr_difference

STEP = 10
LAST_STEP = 12
CARD, REAL_CHECK, GRADIENT_CHECK = (
    f"python -m analysis.{name}" for name in ("report_card", "real_check", "gradient_check")
)
SIMULATION_SPEED = "python -m benchmarks.simulation"
TRAINING_SPEED = "python -m benchmarks.gen_training"
Arrays = Mapping[str, np.ndarray]


class Target(NamedTuple):
    """A row of the table: bounds on a value, and optionally on its whole interval."""

    key: str
    name: str
    unit: str
    least: float = -math.inf
    most: float = math.inf
    interval: tuple[float, float] = (-math.inf, math.inf)
    """Open bounds that the interval must lie within."""
    command: str = CARD


class Statistic(NamedTuple):
    """A statistic for each row of bootstrap weights [1 + R], and its number of observations."""

    values: np.ndarray
    n: int


TARGETS = (
    Target("motion_large", "motion ten steps ahead, own pictures: more than 1 px off", "", most=0.08),
    Target("motion_median", "motion ten steps ahead, own pictures: median error", "px", most=0.3),
    Target("one_step", "one step", "dB", least=27),
    Target("in_view", "in view all along, ten steps", "dB", least=24),
    Target("in_view_above_copy", "the same, above the copy shifted with the true camera", "dB", least=2),
    Target("returned", "came back into view, ten steps", "dB", least=18),
    Target("first_frame", "first frame", "dB", least=31),
    Target("hazards_first", "hazards within 6 tiles recalled, first frame", "", least=0.95),
    Target("hazards_kept", "of those, after 12 steps", "", least=0.9),
    Target("kappa_first", "kappa on decision steps, step 1", "", least=0.75),
    Target("kappa_share", "kappa on decision steps, step 10, as a share of the composite's", "", least=0.8),
    Target(
        "death_ratio", "deaths per step, simulated over real", "", 0.7, 1.4, (0.5, 2.0), command=REAL_CHECK
    ),
    Target("deletion_slope", "deleting a hazard: slope", "", 0.7, 1.3, (0.4, math.inf), command=REAL_CHECK),
    Target("end_auprc", "end: AUPRC, open loop", "", least=0.65),
    Target("reward_auprc", "reward: AUPRC, open loop", "", least=0.85),
    *(
        Target(
            f"gradient_{k}",
            f"gradient of the value, environment's path, k = {k}: share of the ceiling",
            "",
            least=0.8,
            command=GRADIENT_CHECK,
        )
        for k in (4, 8)
    ),
    Target(
        "simulation_speed",
        "simulated frames/s against the plain loop, batch 256",
        "",
        least=1.5,
        command=SIMULATION_SPEED,
    ),
    Target(
        "training_speed",
        "training: frames/s of the joint stage against the former code",
        "",
        least=2,
        command=TRAINING_SPEED,
    ),
)


def card_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    """The rows of TARGETS that this report measures, by key.

    Args:
        a: per-window scores of `score_windows`, windows last.
        weights: bootstrap weights [1 + R, n].
    """
    return (
        _frame_statistics(a, weights)
        | _motion_statistics(a, weights)
        | _hazard_statistics(a, weights)
        | _view_statistics(a, weights)
        | _outcome_statistics(a, weights)
    )


def _frame_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    alive = a["alive"]
    first, one_step = (
        Statistic(pooled_psnr(weights, error, exists), int(exists.sum()))
        for error, exists in zip(a["error/open_loop"][:2], alive)
    )
    in_view, returned, copy = (
        pooled_psnr(weights, a[f"{kind}_error/{name}"][STEP], a[f"{kind}_pixels"][STEP])
        for kind, name in (("in_view", "open_loop"), ("returned", "open_loop"), ("in_view", "shifted_copy"))
    )
    windows = {kind: int((a[f"{kind}_pixels"][STEP] > 0).sum()) for kind in ("in_view", "returned")}
    return {
        "first_frame": first,
        "one_step": one_step,
        "in_view": Statistic(in_view, windows["in_view"]),
        "in_view_above_copy": Statistic(psnr_difference(in_view, copy), windows["in_view"]),
        "returned": Statistic(returned, windows["returned"]),
    }


def _motion_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    alive = a["alive"][STEP]
    found = error_statistics(weights, a["motion_sum/open_loop"][STEP], alive)
    return {f"motion_{name}": Statistic(found[name], int(alive.sum())) for name in ("large", "median")}


def _hazard_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    def recall(measure: str, step: int) -> Statistic:
        hit, real = (
            a[f"objects_{count}/open_loop"][list(HAZARDS), step].sum(0)
            for count in (f"{measure}hit", f"{measure}real")
        )
        return Statistic(ratio(weights, hit, real, axis=-1), int(real.sum()))

    return {"hazards_first": recall("", 0), "hazards_kept": recall("kept_", LAST_STEP)}


def _view_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    deciding = decision_steps(a["taken"], a["alive"], a["hazard_near"])
    classes = int(a["real_class"].max()) + 1

    def of(name: str, step: int) -> np.ndarray:
        rows = slice(step, step + 1)
        return kappa(weights, a[f"agrees/{name}"][rows], a["real_class"][rows], deciding[rows], classes)[:, 0]

    share = share_of_ceiling(of("open_loop", STEP), of("composite", STEP))
    return {
        "kappa_first": Statistic(of("open_loop", 1), int(deciding[1].sum())),
        "kappa_share": Statistic(share, int(deciding[STEP].sum())),
    }


def _outcome_statistics(a: Arrays, weights: np.ndarray) -> dict[str, Statistic]:
    steps, windows = a["alive"].shape
    window = np.tile(np.arange(windows), steps)
    alive = a["alive"].ravel()
    return {
        f"{name}_auprc": Statistic(
            ranking_scores(weights, a[f"{score}_prob/open_loop"].ravel(), a[happened].ravel(), alive, window)[
                "auprc"
            ],
            int(alive.sum()),
        )
        for name, score, happened in (("end", "done", "done"), ("reward", "reward", "coin"))
    }


def share_of_ceiling(score: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """Score over ceiling; NaN where the ceiling is not above 0, so that there is nothing to share."""
    return np.divide(score, ceiling, out=np.full(score.shape, np.nan), where=ceiling > 0)


def generalization_gap(held_out: dict, training: dict) -> dict:
    """Largest difference in seen-pixel PSNR between training and held-out levels at steps 1, 5 and 10.

    The intervals of the two are independent and combine.
    """
    gaps = []
    for step in (1, 5, STEP):
        on_training, on_held_out = (
            part["frames"]["seen"]["open_loop"][step] for part in (training, held_out)
        )
        if None not in (*on_training.values(), *on_held_out.values()):
            gaps.append(_difference(on_training, on_held_out))
    return max(gaps, key=lambda gap: gap["value"], default={"value": None, "low": None, "high": None, "n": 0})


def target_rows(scores: Mapping[str, dict]) -> list[dict]:
    """One row of JSON for each of TARGETS: what is asked, the score, and `reached` (None: not measured).

    scores: value, low, high and n by key; a row without one is not measured.
    """
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    rows = []
    for target in TARGETS:
        score = {name: scores.get(target.key, nothing)[name] for name in nothing}
        rows.append(
            {name: getattr(target, name) for name in ("key", "name", "unit", "command")}
            | {"asked": asked(target)}
            | score
            | {"reached": is_reached(target, score)}
        )
    return rows


def statistic_scores(statistics: Mapping[str, Statistic]) -> dict[str, dict]:
    """Value, low, high and n of each statistic."""
    return {key: json_estimate(*statistic) for key, statistic in statistics.items()}


def paired_rows(first: Mapping[str, Statistic], second: Mapping[str, Statistic]) -> list[dict]:
    """One row of JSON for each of TARGETS that both models were scored for: their values, and the difference
    of the second to the first with its interval, paired by bootstrap resample.
    """
    rows = []
    for target in TARGETS:
        if target.key in first and target.key in second:
            a, b = first[target.key], second[target.key]
            with np.errstate(invalid="ignore"):
                difference = json_estimate(b.values - a.values, min(a.n, b.n))
            scores = {"first": json_estimate(*a), "second": json_estimate(*b), "difference": difference}
            rows.append({"key": target.key, "name": target.name, "unit": target.unit} | scores)
    return rows


def asked(target: Target) -> str:
    """The bounds in words: "<= 0.3 px", "0.7 to 1.4, interval within 0.5 to 2"."""
    if math.isinf(target.least):
        bound = f"≤ {target.most:g} {target.unit}".strip()
    elif math.isinf(target.most):
        bound = f"≥ {target.least:g} {target.unit}".strip()
    else:
        bound = f"{target.least:g} to {target.most:g}"
    low, high = target.interval
    if math.isinf(low):
        return bound
    return (
        f"{bound}, interval above {low:g}"
        if math.isinf(high)
        else f"{bound}, interval within {low:g} to {high:g}"
    )


def is_reached(target: Target, score: Mapping) -> bool | None:
    """Whether the score, and its interval where one is asked for, meet the target; None: not measured."""
    if score["value"] is None:
        return None
    low, high = target.interval
    if not target.least <= score["value"] <= target.most:
        return False
    if math.isinf(low) and math.isinf(high):
        return True
    return None not in (score["low"], score["high"]) and low < score["low"] and score["high"] < high


def _difference(a: dict, b: dict) -> dict:
    """a - b of independent estimates; distances to the bounds add in quadrature."""
    value = a["value"] - b["value"]
    low = ((a["value"] - a["low"]) ** 2 + (b["high"] - b["value"]) ** 2) ** 0.5
    high = ((a["high"] - a["value"]) ** 2 + (b["value"] - b["low"]) ** 2) ** 0.5
    return {"value": value, "low": value - low, "high": value + high, "n": min(a["n"], b["n"])}
