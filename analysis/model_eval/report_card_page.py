"""The HTML page of a report card, from report.json and the film strip of its run."""

from pathlib import Path

from analysis.model_eval.film_strip import CASE_QUANTILES
from analysis.model_eval.frame_objects import KINDS
from analysis.model_eval.report_card_figures import draw_film_strip, draw_reliability, draw_scores_by_step
from analysis.model_eval.report_card_scores import PREDICTIONS
from analysis.plotting.page import Page
from common.checkpoints import load_checkpoint
from common.descriptions import look_up, read_json
from common.runs import UsageError

STEPS = (0, 1, 5, 10, 12)
LABELS = {
    "open_loop": "open loop, sampled",
    "modal": "open loop, modal",
    "posterior": "posterior (ceiling)",
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
DETECTION_SCORES = {
    "recall": "hazards: recall",
    "precision": "hazards: precision",
    "position_error": "hazards: position error, tiles",
}
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
    page = Page("Report card of a simulator")
    page.text(_introduction(held_out, report["manifest"]["inputs"]))
    _targets(page, report["targets"])
    _figures(page, held_out, run)
    _frames(page, report)
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
    rows = []
    for target in targets:
        bound = f"{'≥' if target['at_least'] else '≤'} {target['threshold']:g} {target['unit']}"
        rows.append([target["name"], bound, with_interval(target), target["n"], answers[target["reached"]]])
    page.table(["held-out levels", "target", "measured", "n", "reached"], rows)


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


def _by_step(page: Page, title: str, part: dict, rows: dict[str, list[dict]], digits: int = 1) -> None:
    steps = [s for s in STEPS if s < len(part["alive"])]
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
    whole, seen = ({LABELS[name]: frames[kind][name] for name in PREDICTIONS} for kind in ("whole", "seen"))
    seen["training levels: open loop, sampled"] = report["training"]["frames"]["seen"]["open_loop"]
    _by_step(page, "whole frames", held_out, whole)
    _by_step(page, "seen pixels", held_out, seen)
    _by_step(page, "share of seen pixels", held_out, {"share": frames["seen_share"]}, 2)
    page.text(
        "Seen: the pixel's place was visible in one of the frames given to the model, by the camera in the "
        "state bytes. Newly visible pixels get no PSNR.",
        note=True,
    )


def _objects(page: Page, part: dict) -> None:
    page.heading("Objects")
    hazards = part["objects"]["hazards"]
    for score, title in DETECTION_SCORES.items():
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
        "that had been visible. One detector reads every frame.",
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
    for name in ("open_loop", "posterior", "shifted_copy", "other_episode"):
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
