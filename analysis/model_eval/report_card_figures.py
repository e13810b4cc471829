"""Figures of the report card: scores by step with baselines and ceiling, film strips, reliability."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure

LABELS = {
    "open_loop": "simulated, open loop",
    "posterior": "posterior",
    "composite": "composite (ceiling of the view)",
    "shifted_copy": "camera-shifted copy",
    "copy": "copy of the last frame",
    "other_episode": "another episode",
    "real": "real frames (detector's own errors)",
}
LINE_STYLES = {
    "open_loop": SIMULATED,
    "posterior": SIMULATED | {"linestyle": ":"},
    "composite": REAL | {"linestyle": ":"},
    "real": REAL,
    "shifted_copy": NULL | {"linestyle": "--"},
    "copy": NULL | {"linestyle": ":"},
    "other_episode": NULL | {"linestyle": "-."},
}
FRAME_LINES = ("open_loop", "posterior", "shifted_copy", "copy")
VIEW_LINES = ("open_loop", "composite", "posterior", "shifted_copy", "other_episode")
OBJECT_LINES = ("real", "open_loop", "posterior", "shifted_copy")
CALIBRATION_TITLES = {
    "end": "End",
    "death": "Death",
    "coin": "Coin",
    "coin_given_end": "Coin, given an end",
}
CALIBRATION_LINES = {
    "open_loop": ("on own pictures, open loop", SIMULATED, "o"),
    "one_step": ("on real pictures", REAL, "s"),
}
FEW = 5
"""Steps in a tenth of the probability, below which its share means little."""
SHOWN_STEPS = (0, 1, 2, 4, 8, 12)
_STRIP_ROWS = ("real", "simulated", "difference")
_FRAME_PANELS = (
    ("in_view", "In view all along"),
    ("returned", "Came back into view"),
    ("player", "The player and its ghost"),
)
_VIEW_PANELS = (
    ("kappa_deciding", "Policy, decision steps", "kappa", (None, 1.05)),
    ("hidden_r2", "Hidden state", "$R^2$", (-1, 1.05)),
    ("value_error", "Value", "mean error (agent's units)", (0, None)),
)


def draw_scores_by_step(part: dict, path: Path) -> Path:
    """Nine panels of scores by step after the last given frame. part: a report by `score_report`."""
    figure, axes = new_figure(rows=3, columns=3, panel=(3.7, 2.6))
    frames = part["frames"]
    for ax, (kind, title) in zip(axes[0], _FRAME_PANELS):
        _panel(ax, {name: frames[kind][name] for name in FRAME_LINES}, title, "PSNR (dB)")
    _panel(axes[1, 0], {name: frames["whole"][name] for name in FRAME_LINES}, "Whole frames", "PSNR (dB)")
    _motion_panel(axes[1, 1], part["motion"])
    kept = {name: part["objects"]["hazards"][name]["kept"] for name in OBJECT_LINES}
    _panel(axes[1, 2], kept, "Hazards of the first frame", "recall", (0, 1.05))
    for ax, (score, title, unit, limits) in zip(axes[2], _VIEW_PANELS):
        _panel(ax, {name: part["view"][name][score] for name in VIEW_LINES}, title, unit, limits)
        ax.set_xlabel("steps after the last given frame")
    _shared_legend(figure, axes)
    last = part["alive"][-1]
    text = (
        "Recorded actions, one sampled rollout; bands are 95% intervals by level. Hazards: within 6 tiles in "
    )
    text += (
        "the first frame and still. Motion: median (thick) and 90th percentile (thin) of the distance to the "
    )
    text += f"true displacement. {last['value']:.0%} of the windows last to the end."
    add_caption(figure, text, f"{part['windows']} windows, {part['levels']} layouts", _levels(part))
    return save_figure(figure, path)[0]


def _motion_panel(ax, motion: dict) -> None:
    """Error of the accumulated motion by step, on own and on real pictures."""
    for name, label, style in (
        ("open_loop", LABELS["open_loop"], SIMULATED),
        ("teacher_forced", "motion on real pictures", REAL | {"linestyle": "--"}),
        ("still", LABELS["copy"], LINE_STYLES["copy"]),
    ):
        for score, width in (("median", 1.8), ("p90", 0.9)):
            if name == "still" and score == "p90":
                continue
            line = motion[name]["sum"][score]
            _panel(ax, {name: line}, "Motion", "error (pixels)", (0, 6), {name: style | {"linewidth": width}})
            ax.lines[-1].set_label(label if score == "median" else "_")


def _panel(
    ax,
    lines: dict[str, list[dict]],
    title: str,
    unit: str,
    limits: tuple = (None, None),
    styles: dict[str, dict] = LINE_STYLES,
) -> None:
    """Scores by step, one line for each prediction, the simulator's with its interval."""
    for name, scores in lines.items():
        value, low, high = (
            np.array([np.nan if s[k] is None else s[k] for s in scores]) for k in ("value", "low", "high")
        )
        ax.plot(value, label=LABELS.get(name), **styles[name])
        if name == "open_loop":
            steps = np.arange(len(value))
            ax.fill_between(steps, low, high, color=SIMULATED["color"], alpha=0.18, linewidth=0)
    ax.set(title=title, ylabel=unit, ylim=limits)


def _shared_legend(figure, axes) -> None:
    """One legend for all panels, each name once."""
    lines = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=3)


def _levels(part: dict) -> str:
    return f"{part['first_level']}-{part['last_level']}, {part['part']}"


def draw_film_strip(film: dict[str, np.ndarray], cases: list[str], part: dict, path: Path) -> Path:
    """Real frames, simulated frames and their difference at SHOWN_STEPS, for each case.

    Args:
        film: from `render_film_strip`.
        cases: names of its windows.
        part: the report of the windows, for the caption.
        path: where the figure goes.
    """
    steps = [s for s in SHOWN_STEPS if s < len(film["real"])]
    rows = len(_STRIP_ROWS)
    figure, axes = new_figure(rows=rows * len(cases), columns=len(steps), panel=(1.15, 1.1))
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, hspace=0, wspace=0)
    for case, name in enumerate(cases):
        title = f"{name}: level {film['level'][case]}, from step {film['start'][case]}"
        real, simulated = film["real"][:, case], film["simulated"][:, case]
        _draw_case(axes[case * rows : (case + 1) * rows], real, simulated, steps, title)
    text = (
        "Recorded actions, open loop. Cases chosen by rule: among the windows that last to the end, those at "
        "the 10th, 50th and 90th percentile of seen-pixel error at ten steps. Difference: of the worst "
        "channel, brighter is worse."
    )
    add_caption(figure, text, f"{len(cases)} of {part['windows']} windows", _levels(part))
    return save_figure(figure, path)[0]


def _draw_case(axes, real: np.ndarray, simulated: np.ndarray, steps: list[int], title: str) -> None:
    """Three rows of frames [S, H, W, C]. axes [3, columns]."""
    difference = np.abs(real.astype(np.int16) - simulated).max(-1, keepdims=True)
    strips = (real, simulated, difference.repeat(3, -1).astype(np.uint8))
    for row, (label, frames) in enumerate(zip(_STRIP_ROWS, strips)):
        for ax, step in zip(axes[row], steps):
            ax.imshow(frames[step])
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        axes[row, 0].set_ylabel(label, fontsize=7)
    for column, step in enumerate(steps):
        words = f"{title}\nk = {step}" if column == 0 else f"k = {step}"
        axes[0, column].set_title(words, fontsize=7, fontweight="normal")


def draw_reliability(part: dict, path: Path) -> Path:
    """Reliability diagram: observed against predicted probability that the episode ends within some steps."""
    calibration = part["outcomes"]["end_within"]
    figure, axes = new_figure(panel=(3.6, 3.0))
    ax = axes[0, 0]
    points = [(b["predicted"], b["observed"]) for b in calibration["bins"]]
    ax.plot([0, 1], [0, 1], **NULL)
    ax.plot(*zip(*points), marker="o", markersize=4, **SIMULATED)
    label = {"textcoords": "offset points", "xytext": (3, 5), "fontsize": 7, "color": "#555555"}
    for b, point in zip(calibration["bins"], points):
        ax.annotate(f"{b['n']}", point, **label)
    ax.set(
        xlabel=f"predicted P(end within {calibration['steps']} steps)",
        ylabel="observed share",
        xlim=(-0.03, 1.05),
        ylim=(-0.04, 1.08),
    )
    add_caption(
        figure, "Open loop. Numbers: windows in each bin.", f"{part['windows']} windows", _levels(part)
    )
    return save_figure(figure, path)[0]


def draw_calibration(part: dict, path: Path) -> Path:
    """What happened against its predicted probability, by tenths, on own and on real pictures."""
    calibration = part["outcomes"]["calibration"]
    figure, axes = new_figure(columns=len(CALIBRATION_TITLES), panel=(2.9, 2.9))
    for ax, (outcome, title) in zip(axes[0], CALIBRATION_TITLES.items()):
        ax.plot([0, 1], [0, 1], **NULL | {"linewidth": 1.0})
        for pictures, (label, style, marker) in CALIBRATION_LINES.items():
            _with_bars(ax, calibration[pictures][outcome]["bins"], style | {"marker": marker, "label": label})
        ax.set(title=title, xlabel="predicted probability", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("share that happened")
    _shared_legend(figure, axes)
    steps = sum(alive["n"] for alive in part["alive"])
    text = "Probabilities of each step, in tenths; recorded actions. Bars: 95% intervals by level. "
    text += f"Faint: tenths of fewer than {FEW} steps."
    add_caption(figure, text, f"{steps:,} steps of {part['windows']} windows", _levels(part))
    return save_figure(figure, path)[0]


def _with_bars(ax, bins: list[dict], style: dict) -> None:
    """Points with their intervals; tenths of fewer than FEW steps are faint, without interval and line."""
    n = np.array([b["observed"]["n"] for b in bins])
    x, y, low, high = (
        np.array([np.nan if b[side][key] is None else b[side][key] for b in bins], float)
        for side, key in (("predicted", "value"), *(("observed", key) for key in ("value", "low", "high")))
    )
    many = n >= FEW
    ax.vlines(x[many], low[many], high[many], color=style["color"], linewidth=1.0)
    ax.plot(x[many], y[many], markersize=4, **style | {"linewidth": 1.2})
    ax.plot(x[~many], y[~many], **style | {"linestyle": "", "markersize": 3, "alpha": 0.35, "label": "_"})
