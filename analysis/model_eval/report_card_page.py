"""The HTML page of a report card, from report.json and the film strip of its run."""

from pathlib import Path

from analysis.model_eval.film_strip import CASE_QUANTILES
from analysis.model_eval.frame_objects import KINDS
from analysis.model_eval.pixel_kinds import MARGIN
from analysis.model_eval.report_card_figures import draw_film_strip, draw_reliability, draw_scores_by_step
from analysis.model_eval.report_card_scores import PREDICTIONS
from analysis.model_eval.window_scores import AGENT_VIEWED
from analysis.plotting.page import Page
from common.checkpoints import load_checkpoint
from common.descriptions import look_up, read_json
from common.runs import UsageError

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
COMPARED = {"first": "this model", "second": "the other", "difference": "difference"}
OUTCOMES = {"reward": "reward", "done": "end", "coin_given_end": "coin against death, given an end"}
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
    _frames(page, report)
    _motion(page, held_out)
    _objects(page, held_out)
    _view(page, held_out)
    _outcomes(page, held_out, run)
    page.write(run / "report.html")
    return run / "report.html"


def with_interval(score: dict, digits: int = 2) -> str:
    """A score with its interval, or a dash if nothing was measured."""
    if score["value"] is None:
        return "–"
    bounds = "" if score["low"] is None else f" [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"
    return f"{score['value']:.{digits}f}{bounds}"


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


def _frames(page: Page, report: dict) -> None:
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


def _motion(page: Page, part: dict) -> None:
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


def _objects(page: Page, part: dict) -> None:
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


def _view(page: Page, part: dict) -> None:
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


def _outcomes(page: Page, part: dict, run: Path) -> None:
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
