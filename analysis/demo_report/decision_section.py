"""Section of the demo's report: a Decision Transformer and a clone on the agent's levels."""

from pathlib import Path

from analysis.demo_report.demo_results import DemoResults
from analysis.plotting.page import Page
from common.descriptions import read_json
from common.words import counted, with_interval

HEADER = ["policy", "levels solved", "mean return", "less the agent's", "n"]
INPUTS = {"return_to_go": "returns-to-go", "state": "frames", "action": "past actions"}


def add_decision(page: Page, results: DemoResults, out: Path) -> None:
    """One table of agent, clone and Decision Transformer; calibration; what the transformer reads."""
    if results.dt_scores is None:
        return page.text("Left out: the shipped Decision Transformer and clone play CoinRun.")
    report = read_json(results.dt_scores, "run the demo again")
    page.text(
        "The same recordings, another kind of policy: a Decision Transformer is asked for a return, a "
        "behavioural clone is the same network without returns. Both come with the project, trained on other "
        "recordings of the shipped agent. All play the same unseen levels with the same action noise."
    )
    page.table(HEADER, score_rows(report))
    page.text(calibration(report))
    page.text(reads(report), note=True)


def score_rows(report: dict) -> list[list[str]]:
    """A row for each policy."""
    rows = []
    for name, row in report["rows"].items():
        paired = row.get("difference_from_agent")
        cells = with_interval(*row["solved"], ".0%"), with_interval(*row["return"])
        paired = with_interval(*paired, "+.2f") if paired else ""
        rows.append([name, *cells, paired, counted(row["episodes"], "level")])
    return rows


def calibration(report: dict) -> str:
    """Whether asking for more makes it achieve more."""
    slope, low, high = report["slope"]
    found = f"Slope of the achieved on the asked return: {with_interval(slope, low, high)}"
    if low is None or low <= 0 <= high:
        return f"{found}: no effect of asking can be seen. 1 would be as asked, 0 no effect."
    return f"{found} (1: as asked, 0: no effect)."


def reads(report: dict) -> str:
    """How far the policy moves where an input is that of another episode."""
    moved = ", ".join(
        f"{INPUTS[name]} {with_interval(*effect['kl'], '.4f')}" for name, effect in report["ablation"].items()
    )
    return f"KL of its policy, in nats, where an input is replaced by that of another episode: {moved}."
