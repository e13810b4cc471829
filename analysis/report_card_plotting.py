"""Draws the page of a report card from its artefacts alone: the targets, scores by step, film strips, and
every score in a table.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    run_dir: Path | None = None
    """Directory of a report card; left out, the latest of results/report_card_precomp."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.model_eval.film_strip import CASE_QUANTILES
from analysis.model_eval.frame_objects import KINDS
from analysis.model_eval.report_card_figures import draw_card, draw_film, draw_reliability
from analysis.model_eval.report_card_scores import PREDICTIONS
from analysis.plotting.page import Page
from common.checkpoints import load_checkpoint
from common.descriptions import look_up, read_json
from common.runs import UsageError

STEPS = (0, 1, 5, 10, 12)
WORDS = {
    "open_loop": "open loop, sampled",
    "modal": "open loop, modal",
    "posterior": "posterior (ceiling)",
    "one_step": "one step after correction",
    "wrong_actions": "open loop, other actions",
    "copy": "copy of the last frame",
    "shifted_copy": "camera-shifted copy",
    "mean_frame": "mean frame",
    "other_episode": "another episode's frame",
    "real": "real frames (the detector's own)",
}
VIEWS = {
    "total_variation": "total variation",
    "total_variation_deciding": "total variation, decision steps",
    "kappa": "kappa",
    "kappa_deciding": "kappa, decision steps",
    "hidden_cosine": "hidden: whitened cosine",
    "hidden_r2": "hidden: R²",
    "hidden_r2_whitened": "hidden: R², whitened",
    "value_error": "value: mean error, its units",
    "encoder_distance": "distance in the agent's encoder (another episode = 1)",
}


def main(args: Args) -> None:
    print(build(args.run_dir or latest(Path("results/report_card_precomp"))))


REMAKE = "make it again with the same python -m analysis.report_card command and --new"


def latest(parent: Path) -> Path:
    """The run whose report is newest. Raises UsageError where there is none."""
    reports = sorted(parent.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        raise UsageError(f"no report card in {parent}; make one with: python -m analysis.report_card --help")
    return reports[-1].parent


def build(run: Path) -> Path:
    """Writes `run/report.html` and its figures. Raises UsageError where the run holds no report."""
    if not (run / "report.json").exists():
        raise UsageError(
            f"{run} holds no report.json; finish it with the same python -m analysis.report_card command as before"
        )
    report = read_json(run / "report.json", REMAKE)
    for part in ("held_out", "manifest.inputs"):
        look_up(report, part, dict, run / "report.json")
    film = {name: x.numpy() for name, x in load_checkpoint(run / "film.safetensors")[0].items()}
    held_out = report["held_out"]
    inputs = report["manifest"]["inputs"]
    page = Page("Report card of a simulator")
    page.text(
        f"World model {inputs['world_model_file']} with agent {inputs['agent_file']} inside, on recordings {inputs['data_dir']}: "
        f"{held_out['windows']} windows from {held_out['levels']} {held_out['part']} layouts that no model is trained on. "
        "Intervals are 95%, by level; n counts windows, steps or things."
    )
    _targets(page, report["targets"])
    page.heading("By step, with floors and ceiling")
    note = "Grey: what is reached without a model. Dotted orange: frames drawn by the model after it has seen them."
    page.picture(draw_card(held_out, run / "card"), note)
    if len(film["window"]):
        page.heading("One state, two worlds")
        page.picture(
            draw_film(film, list(CASE_QUANTILES), held_out, run / "film"),
            "The same recorded actions in the real game and in the simulator.",
        )
    _frames(page, report)
    _things(page, held_out)
    _view(page, held_out)
    _outcomes(page, held_out, run)
    page.write(run / "report.html")
    return run / "report.html"


def shown(score: dict, digits: int = 2) -> str:
    """A score with its interval, or a dash where nothing could be measured."""
    if score["value"] is None:
        return "–"
    bounds = "" if score["low"] is None else f" [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"
    return f"{score['value']:.{digits}f}{bounds}"


def _targets(page: Page, targets: list[dict]) -> None:
    page.heading("Asked and measured")
    marks = {True: "yes", False: "no", None: "not measured"}
    rows = [
        [
            t["name"],
            f"{'≥' if t['at_least'] else '≤'} {t['asked']:g} {t['unit']}",
            shown(t),
            t["n"],
            marks[t["reached"]],
        ]
        for t in targets
    ]
    page.table(["held-out levels", "asked", "measured", "n", "reached"], rows)


def _by_step(page: Page, title: str, part: dict, rows: dict[str, list[dict]], digits: int = 1) -> None:
    steps = [s for s in STEPS if s < len(part["alive"])]
    page.table(
        [title, *(f"step {s}" for s in steps)],
        [[name, *(shown(scores[s], digits) for s in steps)] for name, scores in rows.items()],
    )


def _frames(page: Page, report: dict) -> None:
    held_out = report["held_out"]
    training = report["training"]
    page.heading("Frames")
    page.text(
        "PSNR in dB of the squared error pooled over all frames at a step, of one sampled rollout; modal rollouts are listed apart."
    )
    alive = [held_out["alive"][s] for s in STEPS]
    page.table(
        ["windows that last", *(f"step {s}" for s in STEPS)],
        [["share", *(f"{a['value']:.0%} (n = {a['n']})" for a in alive)]],
    )
    _by_step(
        page,
        "whole frames",
        held_out,
        {WORDS[name]: held_out["frames"]["whole"][name] for name in PREDICTIONS},
    )
    rows = {WORDS[name]: held_out["frames"]["seen"][name] for name in PREDICTIONS}
    rows["training levels: open loop, sampled"] = training["frames"]["seen"]["open_loop"]
    _by_step(page, "seen pixels", held_out, rows)
    _by_step(page, "share of pixels that were seen", held_out, {"share": held_out["frames"]["seen_share"]}, 2)
    note = "Seen: the place was on one of the frames that the model was given, by the camera in the state bytes. New pixels get no PSNR."
    page.text(note, note=True)


def _things(page: Page, part: dict) -> None:
    page.heading("Things")
    hazards = part["things"]["hazards"]
    for score, title in (
        ("recall", "hazards: recall"),
        ("precision", "hazards: precision"),
        ("position_error", "hazards: position error, tiles"),
    ):
        _by_step(page, title, part, {WORDS[name]: found[score] for name, found in hazards.items()}, 2)
    rows = [
        [
            kind,
            WORDS[name],
            *(
                shown(part["things"]["kinds"][name][kind][score][0])
                for score in ("recall", "precision", "position_error")
            ),
        ]
        for kind in KINDS
        for name in ("real", "open_loop", "posterior", "shifted_copy")
    ]
    page.table(["kind, steps 1 to 12", "frames", "recall", "precision", "position error"], rows)
    new = part["new_places"]
    rows = [
        [kind, shown(new[kind]["real"]), shown(new[kind]["simulated"]), f"{new[kind]['p']:.3f}"]
        for kind in KINDS
    ]
    page.table(["at new places, per 100 square tiles", "real", "simulated", "p (sign flips by level)"], rows)
    note = "Saws, enemies and lava are hazards; all within 6 tiles of the player, at places that had been shown. One detector reads every frame."
    page.text(note, note=True)


def _view(page: Page, part: dict) -> None:
    page.heading("The agent's view")
    page.text(
        "What the agent makes of each kind of frame, against the recording. "
        f"Decision steps: {sum(part['view']['decision_steps'])} of {sum(a['n'] for a in part['alive'])}. "
        f"The value's standard deviation is {part['view']['value_standard_deviation']:.2f}."
    )
    for name in ("open_loop", "posterior", "shifted_copy", "other_episode"):
        _by_step(
            page, WORDS[name], part, {words: part["view"][name][score] for score, words in VIEWS.items()}, 2
        )


def _outcomes(page: Page, part: dict, run: Path) -> None:
    page.heading("Reward and end, from the prior")
    kinds = {"reward": "reward", "done": "end", "coin_given_end": "coin against death, given an end"}
    rows = [
        [
            words,
            WORDS[name],
            shown(found["auroc"]),
            shown(found["auprc"]),
            f"{found['happened']} of {found['auroc']['n']}",
        ]
        for kind, words in kinds.items()
        for name in ("open_loop", "one_step")
        for found in [part["outcomes"][name][kind]]
    ]
    page.table(["what", "from", "AUROC", "AUPRC", "happened"], rows)
    end = part["outcomes"]["end_within"]
    page.picture(
        draw_reliability(part, run / "reliability"),
        f"Calibration error {shown(end['ece'])}; Brier skill {shown(end['brier_skill'])}.",
    )


if __name__ == "__main__":
    run_main(main, ARGS)
