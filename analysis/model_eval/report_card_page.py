"""The HTML page of a report card, from report.json and the film strip of its run."""

from pathlib import Path

from analysis.model_eval.film_strip import CASE_QUANTILES
from analysis.model_eval.report_card_figures import (
    draw_film_strip,
    draw_scores_by_step,
)
from analysis.model_eval.report_card_sections import (
    frames_section,
    motion_section,
    objects_section,
    outcomes_section,
    view_section,
    with_interval,
)
from analysis.plotting.page import Page
from common.checkpoints import load_checkpoint
from common.descriptions import look_up, read_json
from common.runs import UsageError

COMPARED = {"first": "this model", "second": "the other", "difference": "difference"}
_COMMAND = "python -m analysis.report_card"
_REMAKE = f"make it again with the same {_COMMAND} command and --new"


def latest_report(parent: Path) -> Path:
    """The run with the newest report. Raises UsageError if there is none."""
    reports = sorted(parent.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        raise UsageError(f"no report card in {parent}; make one with: {_COMMAND} --help")
    return reports[-1].parent


def build_page(run: Path) -> Path:
    """Writes `run/report.html` and its figures. Raises UsageError if the run has no report."""
    if not (run / "report.json").exists():
        raise UsageError(
            f"{run} holds no report.json; finish the run with the same {_COMMAND} command as before"
        )
    report = read_json(run / "report.json", _REMAKE)
    for part in ("held_out", "manifest.inputs"):
        look_up(report, part, dict, run / "report.json")
    held_out = report["held_out"]
    if "motion" not in held_out:
        raise UsageError(f"{run / 'report.json'} lacks the measures of this report card; {_REMAKE}")
    page = Page("Report card of a simulator")
    page.text(_introduction(held_out, report["manifest"]["inputs"]))
    _targets(page, report["targets"])
    _compared(page, report)
    _figures(page, held_out, run)
    frames_section(page, report)
    motion_section(page, held_out)
    objects_section(page, held_out)
    view_section(page, held_out)
    outcomes_section(page, held_out, run)
    page.write(run / "report.html")
    return run / "report.html"


def _introduction(held_out: dict, inputs: dict[str, str]) -> str:
    return (
        f"World model {inputs['world_model_file']} with agent {inputs['agent_file']}, on recordings "
        f"{inputs['data_dir']}: {held_out['windows']} windows from {held_out['levels']} {held_out['part']} "
        "layouts that no model was trained on. Intervals are 95%, by level; n counts windows, steps or "
        "objects."
    )


def _targets(page: Page, targets: list[dict]) -> None:
    page.heading("Targets")
    answers = {True: "yes", False: "no", None: "not measured"}
    rows = [
        [
            target["name"],
            target["asked"],
            with_interval(target),
            target["n"],
            answers[target["reached"]],
            target["command"],
        ]
        for target in targets
    ]
    page.table(["held-out levels", "asked", "measured", "n", "reached", "command"], rows)


def _compared(page: Page, report: dict) -> None:
    """The table of two models on the same windows, if there are two."""
    if not report.get("compared"):
        return
    page.heading("Two models on the same windows")
    rows = [
        [f"{row['name']} {row['unit']}".strip(), *(with_interval(row[which]) for which in COMPARED)]
        for row in report["compared"]
    ]
    page.table(["held-out levels", *COMPARED.values()], rows)
    other = report["manifest"]["inputs"]["compare_with"]
    page.text(
        f"The other: {other}. Difference: the other's score minus this model's, with a 95% interval from the "
        "same resamples of layouts for both.",
        note=True,
    )


def _figures(page: Page, held_out: dict, run: Path) -> None:
    page.heading("By step, with baselines and ceiling")
    page.picture(
        draw_scores_by_step(held_out, run / "card"),
        "Grey: baselines that need no model. Dotted orange: frames decoded from states that have seen them.",
    )
    film = {name: x.numpy() for name, x in load_checkpoint(run / "film.safetensors")[0].items()}
    if len(film["window"]):
        page.heading("The same actions in the game and in the simulator")
        page.picture(
            draw_film_strip(film, list(CASE_QUANTILES), held_out, run / "film"),
            "Recorded actions, from the same state in the real game and in the simulator.",
        )
