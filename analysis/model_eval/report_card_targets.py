"""Targets of a world model of CoinRun easy, without backgrounds, on held-out layouts."""

from typing import NamedTuple

STEP = 10
ACTIONS_STEP = 4


class Target(NamedTuple):
    """A bound on one score of the report."""

    name: str
    unit: str
    threshold: float
    at_least: bool
    """Whether the threshold is a lower bound; else an upper one."""
    score: dict
    """Entry of the report: value, low, high, n."""


def targets(held_out: dict, training: dict) -> list[Target]:
    """Every target with its score, from the reports of held-out and of training windows by `score_report`."""
    frames = held_out["frames"]
    view = held_out["view"]["open_loop"]
    outcomes = held_out["outcomes"]["open_loop"]
    late = frames["late_above_baseline"]
    late_name = f"whole frame at steps 5 to 10, above the best baseline ({late['baseline']})"
    gap = generalization_gap(held_out, training)
    gap_name = "training levels above held-out ones, largest gap of steps 1, 5, 10"
    above_copy = frames["seen_above_shifted_copy"][STEP]
    return [
        Target("posterior frames, steps 1 to 12", "dB", 30, True, frames["posterior"]),
        Target("open loop, one step", "dB", 27, True, frames["whole"]["open_loop"][1]),
        Target("open loop, seen pixels at ten steps", "dB", 24, True, frames["seen"]["open_loop"][STEP]),
        Target("the same, above the camera-shifted copy", "dB", 5, True, above_copy),
        Target(late_name, "dB", 3, True, late),
        Target("dPSNR at step 4: true against other actions", "dB", 1, True, frames["dpsnr"][ACTIONS_STEP]),
        Target(gap_name, "dB", 1.5, False, gap),
        Target("kappa on decision steps, step 1", "", 0.6, True, view["kappa_deciding"][1]),
        Target("kappa on decision steps, step 10", "", 0.4, True, view["kappa_deciding"][STEP]),
        Target("reward: AUROC, open loop", "", 0.95, True, outcomes["reward"]["auroc"]),
        Target("end: AUROC, open loop", "", 0.95, True, outcomes["done"]["auroc"]),
    ]


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


def target_rows(found: list[Target]) -> list[dict]:
    """One row of JSON for each target: threshold, score, and `reached` (None where nothing was measured)."""
    return [
        {"name": target.name, "unit": target.unit, "threshold": target.threshold, "at_least": target.at_least}
        | {name: target.score[name] for name in ("value", "low", "high", "n")}
        | {"reached": is_reached(target)}
        for target in found
    ]


def is_reached(target: Target) -> bool | None:
    """Whether the score meets the threshold; None where nothing was measured."""
    value = target.score["value"]
    if value is None:
        return None
    return value >= target.threshold if target.at_least else value <= target.threshold


def _difference(a: dict, b: dict) -> dict:
    """a - b of independent estimates; distances to the bounds add in quadrature."""
    value = a["value"] - b["value"]
    low = ((a["value"] - a["low"]) ** 2 + (b["high"] - b["value"]) ** 2) ** 0.5
    high = ((a["high"] - a["value"]) ** 2 + (b["value"] - b["low"]) ** 2) ** 0.5
    return {"value": value, "low": value - low, "high": value + high, "n": min(a["n"], b["n"])}
