"""Film strips of a target: where an optimisation began, its result, and the nearest real moment."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import add_caption, new_figure, save_figure
from analysis.targets.clips import Clips
from analysis.targets.figures import STYLES, level_words
from analysis.targets.numbers import NEAR

CASES = ("best", "median", "worst")
MOST_FRAMES = 8
_GAP = 4  # pixels between frames, and the width of the frame around the step that is read
_INCHES = 0.95  # height of a strip


def strip_starts(score: np.ndarray) -> dict[str, int]:
    """Number of the latent with the best, the worst and, of three or more, the median score [N]."""
    order = np.argsort(-score, kind="stable")
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    cases = CASES[: len(order)] if len(order) != 2 else ("best", "worst")
    return {name: int(order[places[name]]) for name in cases}


def draw_strips(clips: Clips, levels: np.ndarray, path: Path) -> Path:
    """Strips of the best, the median and the worst optimised latent.

    Args:
        clips: of a target.
        levels: of the starts [N].
        path: where the figure goes.
    """
    score = clips.report["optimised.score"]
    chosen = strip_starts(score)
    steps = strip_steps(clips)
    side = clips.shown["start.obs"].shape[2]
    width = _INCHES * (len(steps) * (side + _GAP) + _GAP) / (side + 2 * _GAP)
    figure, axes = new_figure(3 * len(chosen), 1, panel=(width + 0.85, _INCHES + 0.24))
    for case, (rank, i) in enumerate(chosen.items()):
        rows = axes[3 * case : 3 * case + 3, 0]
        for axis, arm in zip(rows, ("start", "optimised")):
            _strip(axis, clips.frames(arm, i), steps, clips, clips.label(arm, i), STYLES[arm]["color"])
        _strip(rows[2], clips.real[i], steps, clips, clips.real_label(i), STYLES["best_recorded"]["color"])
        title = f"{rank} of {len(score)}" if len(score) > 1 else "the only start"
        rows[0].set_title(title, fontsize=9)
    add_caption(figure, _caption(clips, steps), f"{len(score)} starts", f"{level_words(levels)} (starts)")
    return save_figure(figure, path)[0]


def _caption(clips: Clips, steps: list[int]) -> str:
    summed = clips.reading.step == "sum"
    framed, there = ("", "the last step") if summed else (" (framed)", "that step")
    return (
        f"{clips.target.name} {clips.where()}{framed}. The start and the optimised latent (one rollout each, "
        f"same noise), and the real recorded moment whose hidden state at {there} is nearest (not near: "
        f"farther than {NEAR:.0f}% of recorded moments are from each other). Numbers: the function, mean "
        "over rollouts with fresh noise; on the real frames. Steps "
        f"{', '.join(map(str, steps))}; dark or black after an end."
    )


def strip_steps(clips: Clips) -> list[int]:
    """Up to MOST_FRAMES steps, evenly spread, the one that is read among them."""
    steps = set(np.linspace(0, clips.steps - 1, min(clips.steps, MOST_FRAMES)).round().astype(int).tolist())
    read = clips.reading.step
    if read != "sum" and read not in steps:
        steps -= {min(steps - {0}, key=lambda step: abs(step - read))}
        steps |= {read}
    return sorted(steps)


def _strip(axis, frames: np.ndarray, steps: list[int], clips: Clips, label: str, color: str) -> None:
    """Frames [T', H, W, C] at the steps, the one that is read framed; black where there are none."""
    height, width = frames.shape[1:3]
    strip = np.full((height + 2 * _GAP, len(steps) * (width + _GAP) + _GAP, 3), 255, np.uint8)
    for place, step in enumerate(steps):
        left = _GAP + place * (width + _GAP)
        if step == clips.reading.step:
            strip[:, left - _GAP : left + width + _GAP] = _rgb(color)
        strip[_GAP:-_GAP, left : left + width] = frames[step] if step < len(frames) else 0
    axis.imshow(strip)
    axis.set_axis_off()
    axis.set_anchor("E")
    axis.text(-6, strip.shape[0] / 2, _two_lines(label), ha="right", va="center", fontsize=8, color=color)


def _two_lines(label: str) -> str:
    return label.replace(", ", "\n") if ", " in label else label.replace(" ", "\n", 1)


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]
