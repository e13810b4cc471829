"""Film strip of one fork: both arms in each world, step by step, and the direction's score below."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import ON_DATA, REAL, SIMULATED, add_caption, new_figure, save_figure
from analysis.rendering.paired_clips import PairedClip

MOST_FRAMES = 9
STYLES = (REAL, SIMULATED)
"""Of the rows of a clip: the real game, and the simulator."""
_GAP = 3  # pixels between frames
_INCHES = 0.95


def strip_steps(steps: int) -> np.ndarray:
    """Up to MOST_FRAMES steps, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, steps - 1, MOST_FRAMES).round().astype(int))


def draw_strip(clip: PairedClip, rule: str, levels: str, path: Path) -> Path:
    """The strip as a figure.

    Args:
        clip: the fork.
        rule: by which it was chosen, in words.
        levels: its level.
        path: where the figure goes.
    """
    shown = strip_steps(clip.steps)
    rows = len(clip.rows) * len(clip.arms)
    heights = [_INCHES] * rows + [1.5]
    figure, axes = new_figure(
        rows + 1, 1, panel=(len(shown) * _INCHES + 1.3, sum(heights) / len(heights) + 0.12),
        height_ratios=heights,
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.03)
    lines = [(row, arm) for row in range(len(clip.rows)) for arm in range(len(clip.arms))]
    for axis, (row, arm) in zip(axes[:, 0], lines):
        _strip(axis, clip.rows[row].shown(arm)[shown])
        label = f"{clip.rows[row].label}\n{clip.arms[arm]}"
        axis.set_ylabel(label, fontsize=8, color=STYLES[row]["color"], rotation=0, ha="right", va="center")
    axes[0, 0].set_title(f"{clip.title}: {clip.subtitle}", fontsize=9)
    _scores(axes[-1, 0], clip)
    text = (
        f"One fork, {rule}. Each arm plays on from the same state with the same noise. Steps "
        f"{', '.join(map(str, shown))}; dark after an end. Below: the direction's score in the state that "
        "each arm remembers."
    )
    add_caption(figure, text, "1 fork", levels)
    return save_figure(figure, path)[0]


def _strip(axis, frames: np.ndarray) -> None:
    """Frames [n, H, W, C] in a row."""
    gap = np.full((frames.shape[1], _GAP, 3), 255, np.uint8)
    axis.imshow(np.concatenate([part for frame in frames for part in (frame, gap)][:-1], 1))
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _scores(axis, clip: PairedClip) -> None:
    for row, style in zip(clip.rows, STYLES):
        for arm, name in enumerate(clip.arms):
            steps = np.flatnonzero(row.running[arm])
            look = {"linewidth": 1.9} if arm == 0 else {"linewidth": 1.0, "alpha": 0.6}
            axis.plot(steps, row.scores[arm][steps], **style | look, label=f"{row.label}, {name}")
    axis.set_xlim(0, clip.steps - 1)
    axis.set_xlabel("step after the fork")
    axis.set_ylabel(clip.score_name, fontsize=8)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.3 * (high - low))
    axis.legend(ncols=4, loc="upper center", fontsize=7, **ON_DATA)
