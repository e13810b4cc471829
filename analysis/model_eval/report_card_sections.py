"""Sections of the report card's page: tables of frames, motion, objects, the agent's view and outcomes."""

from pathlib import Path

from analysis.model_eval.frame_objects import KINDS
from analysis.model_eval.pixel_kinds import MARGIN
from analysis.model_eval.report_card_figures import (
    CALIBRATION_LINES,
    CALIBRATION_TITLES,
    draw_calibration,
    draw_reliability,
)
from analysis.model_eval.report_card_scores import PREDICTIONS
from analysis.model_eval.window_scores import AGENT_VIEWED
from analysis.plotting.page import Page

STEPS = (0, 1, 5, 10, 12)
LABELS = {
    "open_loop": "open loop, sampled",
    "modal": "open loop, modal",
    "composite": "composite: real where seen, own sample where new (ceiling)",
    "posterior": "posterior",
    "one_step": "one step after correction",
    "wrong_actions": "open loop, other actions",
    "copy": "copy of the last frame",
    "shifted_copy": "camera-shifted copy",
    "mean_frame": "mean frame",
    "other_episode": "another episode's frame",
    "real": "real frames (detector's own errors)",
}
VIEW_SCORES = {
    "total_variation": "total variation",
    "total_variation_deciding": "total variation, decision steps",
    "kappa": "kappa",
    "kappa_deciding": "kappa, decision steps",
    "hidden_cosine": "hidden state: whitened cosine",
    "hidden_r2": "hidden state: R²",
    "hidden_r2_whitened": "hidden state: R², whitened",
    "value_error": "value: mean error, agent's units",
    "encoder_distance": "distance in the agent's encoder (another episode = 1)",
}
FRAME_PARTS = {
    "whole": "whole frames",
    "in_view": "in view all along",
    "returned": "came back into view",
    "player": "the player and its ghost",
    "seen": "seen pixels",
}
MOTION_LABELS = {
    "open_loop": "own pictures",
    "teacher_forced": "real pictures",
    "registered": "measured between the real pictures",
    "still": "no motion",
}
MOTION_SPANS = {"sum": "since the last given frame", "step": "in one step"}
MOTION_SCORES = {
    "median": ("median", 2),
    "p90": ("90th percentile", 2),
    "large": ("share above 1 px", 3),
}
MOTION_STEPS = (1, 4, 10)
HAZARD_SCORES = {
    "kept": "of the first frame's hazards, those still near: recall",
    "drawn": "the same, of those found in the first frame",
}
DETECTION_SCORES = {
    "recall": "hazards: recall",
    "precision": "hazards: precision",
    "position_error": "hazards: position error, tiles",
}
OUTCOMES = {"reward": "reward", "done": "end", "coin_given_end": "coin against death, given an end"}


def with_interval(score: dict, digits: int = 2) -> str:
    """A score with its interval, or a dash if nothing was measured."""
    if score["value"] is None:
        return "–"
    bounds = "" if score["low"] is None else f" [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"
    return f"{score['value']:.{digits}f}{bounds}"


def _by_step(
    page: Page,
    title: str,
    part: dict,
    rows: dict[str, list[dict]],
    digits: int = 1,
    shown: tuple[int, ...] = STEPS,
) -> None:
    steps = [s for s in shown if s < len(part["alive"])]
    page.table(
        [title, *(f"step {s}" for s in steps)],
        [[name, *(with_interval(scores[s], digits) for s in steps)] for name, scores in rows.items()],
    )


def frames_section(page: Page, report: dict) -> None:
    held_out = report["held_out"]
    frames = held_out["frames"]
    page.heading("Frames")
    page.text(
        "PSNR in dB of the squared error pooled over all frames at a step, of one sampled rollout; modal "
        "rollouts are listed separately."
    )
    alive = [held_out["alive"][s] for s in STEPS]
    page.table(
        ["windows that reach the step", *(f"step {s}" for s in STEPS)],
        [["share", *(f"{a['value']:.0%} (n = {a['n']})" for a in alive)]],
    )
    for kind, title in FRAME_PARTS.items():
        rows = {LABELS[name]: frames[kind][name] for name in PREDICTIONS}
        rows["training levels: open loop, sampled"] = report["training"]["frames"][kind]["open_loop"]
        _by_step(page, title, held_out, rows)
    rows = {FRAME_PARTS.get(kind, "never seen"): share for kind, share in frames["area"].items()}
    _by_step(page, "share of the frame", held_out, rows, 2)
    page.text(
        f"Player: {MARGIN} pixels around its box and around where a copy of the last given frame, and of the "
        "frame before, leaves it. In view all along: in every frame from the last given one on. Came back: "
        "seen in a given frame, out of view in a later one. Seen: any place that a given frame showed. Never "
        "seen pixels get no PSNR. Camera and player are those of the state bytes.",
        note=True,
    )
    gap = with_interval(report["generalization_gap"])
    page.text(f"Training levels above held-out ones, largest gap of steps 1, 5, 10, seen pixels: {gap} dB.")


def motion_section(page: Page, part: dict) -> None:
    page.heading("Motion")
    page.text(
        "Distance in pixels between the predicted motion of the picture and that of the camera in the state "
        "bytes. Own pictures: open loop, recorded actions. Real pictures: each step predicted from the true "
        "frames before it."
    )
    for span, title in MOTION_SPANS.items():
        for score, (words, digits) in MOTION_SCORES.items():
            rows = {label: part["motion"][name][span][score] for name, label in MOTION_LABELS.items()}
            _by_step(page, f"{title}: {words}", part, rows, digits, MOTION_STEPS)


def objects_section(page: Page, part: dict) -> None:
    page.heading("Objects")
    hazards = part["objects"]["hazards"]
    for score, title in (DETECTION_SCORES | HAZARD_SCORES).items():
        _by_step(page, title, part, {LABELS[name]: scores[score] for name, scores in hazards.items()}, 2)
    by_kind = part["objects"]["kinds"]
    rows = [
        [kind, LABELS[name], *(with_interval(by_kind[name][kind][score][0]) for score in DETECTION_SCORES)]
        for kind in KINDS
        for name in ("real", "open_loop", "posterior", "shifted_copy")
    ]
    page.table(["kind, steps 1 to 12", "frames", "recall", "precision", "position error"], rows)
    new = part["new_places"]
    rows = [
        [kind, *(with_interval(new[kind][world]) for world in ("real", "simulated")), f"{new[kind]['p']:.3f}"]
        for kind in KINDS
    ]
    page.table(
        ["newly visible places, per 100 square tiles", "real", "simulated", "p (sign flips by level)"], rows
    )
    page.text(
        "Saws, enemies and lava are hazards. Recall and precision: within 6 tiles of the player, at places "
        "that had been visible. Of the first frame's hazards: those within 6 tiles in the last given frame "
        "that still are. One detector reads every frame.",
        note=True,
    )


def view_section(page: Page, part: dict) -> None:
    page.heading("The agent's responses")
    view = part["view"]
    page.text(
        "The agent's responses to each kind of frame, compared with those recorded. "
        f"Decision steps: {sum(view['decision_steps'])} of {sum(a['n'] for a in part['alive'])}. "
        f"Standard deviation of the value: {view['value_standard_deviation']:.2f}."
    )
    share = {VIEW_SCORES[score]: values for score, values in view["share_of_composite"].items()}
    _by_step(page, "open loop as a share of the composite", part, share, 2)
    for name in AGENT_VIEWED:
        rows = {title: view[name][score] for score, title in VIEW_SCORES.items()}
        _by_step(page, LABELS[name], part, rows, 2)


def outcomes_section(page: Page, part: dict, run: Path) -> None:
    page.heading("Reward and end, from the prior")
    outcomes = part["outcomes"]
    rows = []
    for outcome, title in OUTCOMES.items():
        for name in ("open_loop", "one_step"):
            scores = outcomes[name][outcome]
            ranking = [with_interval(scores[score]) for score in ("auroc", "auprc")]
            rows.append([title, LABELS[name], *ranking, f"{scores['happened']} of {scores['auroc']['n']}"])
    page.table(["outcome", "prediction", "AUROC", "AUPRC", "happened"], rows)
    end = outcomes["end_within"]
    page.picture(
        draw_reliability(part, run / "reliability"),
        f"Calibration error {with_interval(end['ece'])}; Brier skill {with_interval(end['brier_skill'])}.",
    )
    _calibration(page, part, run)


def _calibration(page: Page, part: dict, run: Path) -> None:
    """Each step's probabilities by tenths: a figure, a table of totals and one for each outcome."""
    page.heading("Calibration of each step's probabilities")
    page.picture(
        draw_calibration(part, run / "calibration"),
        "Orange: open loop, on the simulator's own pictures. Blue: after the true frames. Death: an end "
        "without a coin.",
    )
    calibration = part["outcomes"]["calibration"]
    pictures = {name: label for name, (label, _, _) in CALIBRATION_LINES.items()}
    rows = [
        [
            title,
            label,
            *(with_interval(scores[score], digits) for score, digits in (("ratio", 2), ("ece", 4))),
        ]
        + [f"{scores['happened']} of {scores['ece']['n']}"]
        for outcome, title in CALIBRATION_TITLES.items()
        for label, scores in ((label, calibration[name][outcome]) for name, label in pictures.items())
    ]
    header = ["outcome", "pictures", "expected over happened", "calibration error", "happened"]
    page.table(header, rows)
    for outcome, title in CALIBRATION_TITLES.items():
        rows = [
            [f"{b['from']:.1f} to {b['to']:.1f}", label, b["observed"]["n"]]
            + [f"{b['predicted']['value']:.3f}", with_interval(b["observed"], 3)]
            for name, label in pictures.items()
            for b in calibration[name][outcome]["bins"]
        ]
        page.table([f"{title}: probability", "pictures", "steps", "mean predicted", "happened"], rows)
