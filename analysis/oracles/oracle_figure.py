"""The figure of the oracle table."""

from pathlib import Path

import numpy as np

from analysis.model_eval.report_card_targets import STEP
from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure

PANELS = (
    ("first_frame", "First frame", "PSNR (dB)"),
    ("one_step", "One step", "PSNR (dB)"),
    ("in_view", f"In view all along, {STEP} steps", "PSNR (dB)"),
    ("returned", f"Came back, {STEP} steps", "PSNR (dB)"),
    (f"place_{STEP}_large", f"Place of view, {STEP} steps", "share off by more than 1 px"),
)
"""Measure, title and unit."""


def draw_oracle_table(report: dict, path: Path) -> Path:
    """A panel for each of PANELS, a line for each combination of oracles, with its interval.

    report: the content of oracle_table.json.
    """
    rows = report["rows"]
    figure, axes = new_figure(columns=len(PANELS), panel=(2.5, 2.8), sharey=True)
    height = np.arange(len(rows))[::-1]
    for ax, (measure, title, unit) in zip(axes[0], PANELS):
        value, low, high = (
            np.array([np.nan if row[measure][key] is None else row[measure][key] for row in rows], float)
            for key in ("value", "low", "high")
        )
        ax.axvline(value[0], **NULL | {"linewidth": 1.0, "linestyle": ":"})
        for i, row in enumerate(rows):
            style = REAL if row["oracles"] else SIMULATED
            ax.hlines(height[i], low[i], high[i], color=style["color"], linewidth=1.5)
            ax.plot(value[i], height[i], marker="o", markersize=5, color=style["color"])
        ax.set(title=title, xlabel=unit)
        ax.title.set_fontsize(8.5)
        ax.margins(x=0.12)
    axes[0, 0].set(yticks=height, yticklabels=[row["name"] for row in rows], ylim=(-0.6, len(rows) - 0.4))
    text = (
        "Open loop, recorded actions; the truth in place of parts of the simulator. Bars: 95% intervals by "
        "layout, unpaired; dotted: no oracle."
    )
    levels = f"{report['first_level']}-{report['last_level']}, {report['part']}"
    add_caption(figure, text, f"{report['windows']} windows, {report['layouts']} layouts", levels)
    return save_figure(figure, path)[0]
