"""Scores of Decision Transformers, clones and agents on the same episodes, as numbers and as a table."""

import numpy as np

from agents.evaluate import OUTCOMES, Episodes
from common.stats import Interval
from common.words import with_interval
from decision.calibration import difference, rank_correlation, slope


def summarize(rows: dict[str, tuple[float | None, Episodes]]) -> dict:
    """JSON-able scores: for each row its target, the mean return and the share of each outcome with intervals
    [mean, low, high] by level, and the paired difference of return from the agent where there is one.
    """
    agent = rows.get("agent")
    scored = {}
    for name, (target, episodes) in rows.items():
        scores = {"target": target, "episodes": len(episodes.level), "return": _plain(episodes.interval())}
        scores |= {outcome: _plain(episodes.share(outcome)) for outcome in OUTCOMES}
        scores["length"] = float(episodes.length.mean())
        if agent is not None and name != "agent":
            found = difference(episodes.total_reward, agent[1].total_reward, episodes.level)
            scores["difference_from_agent"] = list(found)
        scores["per_episode"] = {column: values.tolist() for column, values in vars(episodes).items()}
        scored[name] = scores
    return {"rows": scored}


def calibration(targets: list[float], played: list[Episodes]) -> dict:
    """Slope of achieved on asked return, of two or more targets, and rank correlation, of three or more; with
    intervals.
    """
    returns = np.stack([episodes.total_reward for episodes in played])
    levels = played[0].level
    least = {"rank_correlation": (3, rank_correlation), "slope": (2, slope)}
    return {
        name: [_number(x) for x in of(targets, returns, levels)]
        for name, (number, of) in least.items()
        if len(targets) >= number
    }


def without_episodes(report: dict) -> dict:
    """A report of evaluate_dt.py without its single episodes: rows with their numbers of levels, the range of
    levels, and what was computed from all rows.
    """
    rows = {
        name: {key: value for key, value in row.items() if key != "per_episode"}
        | {"levels": len(set(row["per_episode"]["level"]))}
        for name, row in report["rows"].items()
    }
    played = np.concatenate([row["per_episode"]["level"] for row in report["rows"].values()])
    kept = {key: report[key] for key in ("slope", "rank_correlation", "ablation", "env") if key in report}
    return {"rows": rows, "range": [int(played.min()), int(played.max())]} | kept


def _plain(interval: Interval) -> list[float | None]:
    return [_number(x) for x in interval[:3]]


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def table(report: dict) -> str:
    """The scores of evaluate_dt.py as text: means with 95% intervals by level."""
    levels = next(iter(report["rows"].values()))["per_episode"]["level"]
    lines = [
        f"{report['env']['env_name']}, levels {min(levels)} to {max(levels)}, behaviour"
        f" {report['asked']['behaviour']}; 95% intervals by level",
        f"{'':20}{'episodes':>9}{'return':>24}{'solved %':>24}{'return - agent':>24}",
    ]
    for name, row in report["rows"].items():
        paired = row.get("difference_from_agent")
        cells = (
            f"{_cell(row['return']):>24}{_cell(row['solved'], 100):>24}{_cell(paired) if paired else '':>24}"
        )
        lines.append(f"{name:20}{row['episodes']:>9}{cells}".rstrip())
    if "slope" in report:
        lines.append(f"achieved on asked: slope {_cell(report['slope'])} (1: as asked, 0: no effect)")
    if "rank_correlation" in report:
        lines.append(f"rank correlation of asked and achieved: {_cell(report['rank_correlation'])}")
    if "ablation" in report:
        lines.append("inputs replaced by those of other episodes:")
    for name, effect in report.get("ablation", {}).items():
        moved = f"KL {_cell(effect['kl'], digits=4)} nats"
        moved += f", another action in {_cell(effect['changed'], 100, 1)} % of steps"
        lines.append(f"{name:20}{moved}")
    return "\n".join(lines)


def _cell(interval: list[float | None], times: float = 1, digits: int = 2) -> str:
    return with_interval(*(None if x is None else times * x for x in interval), f".{digits}f")
