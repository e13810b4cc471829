"""What a world model is asked to reach on CoinRun easy, without backgrounds, on held-out layouts, and whether
it does.
"""

from typing import NamedTuple

STEP = 10
ACTIONS_STEP = 4


class Target(NamedTuple):
    """asked: the bound; at_least: whether from below. number: its entry of the report (value, low, high, n)."""

    name: str
    unit: str
    asked: float
    at_least: bool
    number: dict


def targets(held_out: dict, training: dict) -> list[Target]:
    """Every target with what was measured; reports of `part_report`."""
    frames = held_out["frames"]
    view = held_out["view"]["open_loop"]
    outcomes = held_out["outcomes"]["open_loop"]
    gap = generalization_gap(held_out, training)
    above = frames["late_above_floor"]
    return [
        Target("posterior frames, steps 1 to 12", "dB", 30, True, frames["posterior"]),
        Target("open loop, one step", "dB", 27, True, frames["whole"]["open_loop"][1]),
        Target("open loop, seen pixels at ten steps", "dB", 24, True, frames["seen"]["open_loop"][STEP]),
        Target(
            "the same, above the camera-shifted copy", "dB", 5, True, frames["seen_above_shifted_copy"][STEP]
        ),
        Target(
            f"whole frame at steps 5 to 10, above the best floor ({above['floor']})", "dB", 3, True, above
        ),
        Target("dPSNR at step 4: true against other actions", "dB", 1, True, frames["dpsnr"][ACTIONS_STEP]),
        Target("training levels above held-out ones, largest gap of steps 1, 5, 10", "dB", 1.5, False, gap),
        Target("kappa on decision steps, step 1", "", 0.6, True, view["kappa_deciding"][1]),
        Target("kappa on decision steps, step 10", "", 0.4, True, view["kappa_deciding"][STEP]),
        Target("reward: AUROC, open loop", "", 0.95, True, outcomes["reward"]["auroc"]),
        Target("end: AUROC, open loop", "", 0.95, True, outcomes["done"]["auroc"]),
    ]


def generalization_gap(held_out: dict, training: dict) -> dict:
    """The largest gap in seen-pixel PSNR between training levels and held-out ones at steps 1, 5 and 10;
    independent intervals combine.
    """
    gaps = []
    for step in (1, 5, STEP):
        known = training["frames"]["seen"]["open_loop"][step]
        unknown = held_out["frames"]["seen"]["open_loop"][step]
        if None not in (*known.values(), *unknown.values()):
            gaps.append(_difference(known, unknown))
    return max(gaps, key=lambda gap: gap["value"], default={"value": None, "low": None, "high": None, "n": 0})


def target_rows(found: list[Target]) -> list[dict]:
    """One row for each target: asked, measured, reached (None where nothing could be measured)."""
    measured = [{name: target.number[name] for name in ("value", "low", "high", "n")} for target in found]
    asked = [{"name": t.name, "unit": t.unit, "asked": t.asked, "at_least": t.at_least} for t in found]
    return [
        row | number | {"reached": is_reached(target)} for row, number, target in zip(asked, measured, found)
    ]


def is_reached(target: Target) -> bool | None:
    value = target.number["value"]
    if value is None:
        return None
    return value >= target.asked if target.at_least else value <= target.asked


def _difference(a: dict, b: dict) -> dict:
    """a - b of independent estimates; distances to the bounds add in squares."""
    value = a["value"] - b["value"]
    low = ((a["value"] - a["low"]) ** 2 + (b["high"] - b["value"]) ** 2) ** 0.5
    high = ((a["high"] - a["value"]) ** 2 + (b["value"] - b["low"]) ** 2) ** 0.5
    return {"value": value, "low": value - low, "high": value + high, "n": min(a["n"], b["n"])}
