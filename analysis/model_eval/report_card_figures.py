"""The report card's figures: scores by step with floors and ceiling; real and simulated frames of three
windows; reliability.
"""

from pathlib import Path

import numpy as np

from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure

LABELS = {
    "open_loop": "simulated, open loop",
    "posterior": "posterior (ceiling)",
    "shifted_copy": "camera-shifted copy",
    "copy": "copy of the last frame",
    "other_episode": "another episode",
    "real": "real frames (the detector's own)",
}
LOOKS = {
    "open_loop": SIMULATED,
    "posterior": SIMULATED | {"linestyle": ":"},
    "real": REAL,
    "shifted_copy": NULL | {"linestyle": "--"},
    "copy": NULL | {"linestyle": ":"},
    "other_episode": NULL | {"linestyle": "-."},
}
PICTURES = ("open_loop", "posterior", "shifted_copy", "copy")
VIEWED = ("open_loop", "posterior", "shifted_copy", "other_episode")
SEARCHED = ("real", "open_loop", "posterior", "shifted_copy")
SHOWN_STEPS = (0, 1, 2, 4, 8, 12)
_PIXEL_ROWS = ("real", "simulated", "difference")


def draw_card(part: dict, path: Path) -> Path:
    """Six panels by step after the last frame that the model was given."""
    figure, axes = new_figure(rows=2, columns=3, panel=(3.7, 2.7))
    frames = part["frames"]
    view = part["view"]
    hazards = part["things"]["hazards"]
    for ax, kind, title in ((axes[0, 0], "seen", "Seen pixels"), (axes[0, 1], "whole", "Whole frames")):
        _panel(ax, {name: frames[kind][name] for name in PICTURES}, title, "PSNR (dB)")
    _panel(
        axes[0, 2],
        {name: hazards[name]["recall"] for name in SEARCHED},
        "Hazards within 6 tiles",
        "recall",
        (0, 1.05),
    )
    about_agent = (
        ("total_variation_deciding", "The agent's choice, decision steps", "total variation", (0, None)),
        ("hidden_r2", "The agent's hidden state", "$R^2$", (-1, 1.05)),
        ("value_error", "The agent's value", "mean error (its units)", (0, None)),
    )
    for ax, (score, *words) in zip(axes[1], about_agent):
        _panel(ax, {name: view[name][score] for name in VIEWED}, *words)
        ax.set_xlabel("steps after the last given frame")
    _legend(figure, axes)
    last = part["alive"][-1]
    text = f"Recorded actions, one sampled rollout; bands are 95% intervals by level. {last['value']:.0%} of the windows last to the end."
    add_caption(figure, text, f"{part['windows']} windows, {part['levels']} layouts", _levels(part))
    return save_figure(figure, path)[0]


def _panel(ax, lines: dict[str, list[dict]], title: str, unit: str, limits: tuple = (None, None)) -> None:
    """One line for each prediction's scores by step; the simulator's with its interval."""
    for name, scores in lines.items():
        value, low, high = (
            np.array([np.nan if s[k] is None else s[k] for s in scores]) for k in ("value", "low", "high")
        )
        ax.plot(value, label=LABELS[name], **LOOKS[name])
        if name == "open_loop":
            ax.fill_between(
                np.arange(len(value)), low, high, color=SIMULATED["color"], alpha=0.18, linewidth=0
            )
    ax.set(title=title, ylabel=unit, ylim=limits)


def _legend(figure, axes) -> None:
    """One legend for all panels, each name once."""
    found = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=3)


def _levels(part: dict) -> str:
    return f"{part['first_level']}-{part['last_level']}, {part['part']}"


def draw_film(film: dict[str, np.ndarray], cases: list[str], part: dict, path: Path) -> Path:
    """Real frames, simulated ones and their difference at chosen steps, for each case."""
    steps = [s for s in SHOWN_STEPS if s < len(film["real"])]
    figure, axes = new_figure(rows=len(_PIXEL_ROWS) * len(cases), columns=len(steps), panel=(1.15, 1.1))
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, hspace=0, wspace=0)
    for case, name in enumerate(cases):
        pictures = _rows(film["real"][:, case], film["simulated"][:, case])
        for row, label in enumerate(_PIXEL_ROWS):
            for column, step in enumerate(steps):
                ax = axes[case * len(_PIXEL_ROWS) + row, column]
                ax.imshow(pictures[label][step])
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                ax.spines[:].set_visible(False)
                if row == 0:
                    where = (
                        f"{name}: level {film['level'][case]}, from step {film['start'][case]}"
                        if column == 0
                        else ""
                    )
                    ax.set_title(
                        f"{where}\nk = {step}" if where else f"k = {step}", fontsize=7, fontweight="normal"
                    )
                if column == 0:
                    ax.set_ylabel(label, fontsize=7)
    text = (
        "Recorded actions, open loop. Cases by rule: among windows that last, those at the 10th, 50th and 90th percentile of seen-pixel error "
        "at ten steps. Difference: of the worst channel, brighter is worse."
    )
    add_caption(figure, text, f"{len(cases)} of {part['windows']} windows", _levels(part))
    return save_figure(figure, path)[0]


def _rows(real: np.ndarray, simulated: np.ndarray) -> dict[str, np.ndarray]:
    difference = (
        np.abs(real.astype(np.int16) - simulated).max(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
    )
    return dict(zip(_PIXEL_ROWS, (real, simulated, difference)))


def draw_reliability(part: dict, path: Path) -> Path:
    """How often an episode ended within some steps, against how often that was foretold."""
    found = part["outcomes"]["end_within"]
    figure, axes = new_figure(panel=(3.6, 3.0))
    ax = axes[0, 0]
    bins = found["bins"]
    ax.plot([0, 1], [0, 1], **NULL)
    ax.plot(
        [b["foretold"] for b in bins], [b["observed"] for b in bins], marker="o", markersize=4, **SIMULATED
    )
    for b in bins:
        ax.annotate(
            f"{b['n']}",
            (b["foretold"], b["observed"]),
            textcoords="offset points",
            xytext=(3, 5),
            fontsize=7,
            color="#555555",
        )
    ax.set(
        xlabel=f"foretold P(end within {found['steps']} steps)",
        ylabel="observed share",
        xlim=(-0.03, 1.05),
        ylim=(-0.04, 1.08),
    )
    text = "Open loop; the numbers say how many windows a point stands for."
    add_caption(figure, text, f"{part['windows']} windows", _levels(part))
    return save_figure(figure, path)[0]
