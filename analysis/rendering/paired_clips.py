"""Two arms side by side, a row for each world, with a score over time below: pictures of a video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from analysis.rendering.arrows import Color, arrow_direction
from analysis.rendering.pen import Pen
from common.video import upscale

_GROUND = (255, 255, 255)
_TEXT = (34, 38, 44)
_QUIET = (112, 118, 128)
_LINE = (214, 217, 222)
_SIDE = 14  # margin
_GAP = 8
_TITLE = 46
_HEAD = 24  # above each frame: the arm and its action
_LABELS = 84  # of rows
_CHART = 150
_AXIS = 46  # left of the chart
_ENDED = 0.35  # brightness of a run after its end
_FADED = 0.45  # share of a colour that the control arm's line keeps


@dataclass(frozen=True)
class ClipRow:
    """Both arms in one world.

    Args:
        label: of the row.
        color: of its lines.
        frames: of each arm, uint8 [T, H, W, 3].
        running: of each arm, [T] bool.
        actions: of each arm, names of the actions [T].
        scores: of each arm, [T].
    """

    label: str
    color: Color
    frames: Sequence[np.ndarray]
    running: Sequence[np.ndarray]
    actions: Sequence[Sequence[str]]
    scores: Sequence[np.ndarray]

    def shown(self, arm: int) -> np.ndarray:
        """Frames of an arm; after its end the last one, darkened."""
        return hold_last(self.frames[arm], self.running[arm])


@dataclass(frozen=True)
class PairedClip:
    """One fork: its rows, and words."""

    rows: Sequence[ClipRow]
    arms: Sequence[str]
    title: str
    subtitle: str
    score_name: str

    @property
    def steps(self) -> int:
        return len(self.rows[0].frames[0])

    def score_range(self) -> tuple[float, float]:
        """Lowest and highest score of running steps, zero among them."""
        pairs = [pair for row in self.rows for pair in zip(row.scores, row.running)]
        values = np.concatenate([score[running] for score, running in pairs] + [np.zeros(1)])
        low, high = float(values.min()), float(values.max())
        return (low, high) if high > low else (-1.0, 1.0)


def hold_last(frames: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Frames [T, H, W, 3] with those after the end replaced by the last one before it, darkened."""
    held = frames.copy()
    ended = np.flatnonzero(~running)
    if len(ended):
        held[ended[0] :] = (frames[max(ended[0] - 1, 0)] * _ENDED).astype(np.uint8)
    return held


def video_frames(clip: PairedClip, scale: int = 4) -> Iterator[np.ndarray]:
    """One picture [height, width, 3] uint8 per step. scale: side of a pixel."""
    height, width = (side * scale for side in clip.rows[0].frames[0].shape[1:3])
    band = _HEAD + height + _GAP
    size = (
        2 * _SIDE + _LABELS + len(clip.arms) * (width + _GAP),
        _TITLE + len(clip.rows) * band + _CHART + 2 * _SIDE,
    )
    for t in range(clip.steps):
        pen = Pen(Image.new("RGB", size, _GROUND), 1)
        pen.text((_SIDE, 16), clip.title, 15, _TEXT)
        pen.text((_SIDE, 35), clip.subtitle, 11, _QUIET)
        pen.text((size[0] - _SIDE - _GAP, 16), f"step {t}", 13, _QUIET, anchor="rm")
        for i, row in enumerate(clip.rows):
            top = _TITLE + i * band
            pen.text((_SIDE, top + _HEAD + height / 2), row.label, 13, row.color)
            for arm, name in enumerate(clip.arms):
                left = _SIDE + _LABELS + arm * (width + _GAP)
                _draw_head(pen, row, arm, name, t, (left, top, width))
                picture = Image.fromarray(upscale(row.shown(arm)[t], scale))
                pen.picture.paste(picture, (left, top + _HEAD))
        top = _TITLE + len(clip.rows) * band + _SIDE
        _draw_chart(pen, clip, t, (_SIDE + _AXIS, top, size[0] - _SIDE - _GAP, top + _CHART - _SIDE))
        yield np.asarray(pen.picture)


def _draw_head(pen: Pen, row: ClipRow, arm: int, name: str, t: int, place: tuple[int, int, int]) -> None:
    left, top, width = place
    if not row.running[arm][t]:
        return pen.text((left + 2, top + _HEAD / 2), f"{name} · ended", 12, _QUIET)
    action = row.actions[arm][t]
    pen.text((left + 2, top + _HEAD / 2), name, 12, _TEXT)
    corner = (left + width - _HEAD + 2, top + 2)
    pen.arrow(corner, _HEAD - 4, arrow_direction(action), row.color, _GROUND)


def _draw_chart(pen: Pen, clip: PairedClip, t: int, box: tuple[int, int, int, int]) -> None:
    """Scores up to step t, faint after it; control arms in a lighter shade."""
    left, top, right, bottom = box
    low, high = clip.score_range()

    def place(step, score) -> tuple[float, float]:
        x = left + (right - left) * step / max(clip.steps - 1, 1)
        return x, bottom - (bottom - top) * (score - low) / (high - low)

    for value in dict.fromkeys((low, 0.0, high)):
        y = place(0, value)[1]
        pen.draw.line([(left, y), (right, y)], fill=_LINE)
        pen.text((left - 6, y), f"{value:.2g}", 11, _QUIET, anchor="rm")
    pen.text((left, top - 9), clip.score_name, 11, _QUIET)
    for place_of_row, row in enumerate(clip.rows):
        width = 4 - 2 * place_of_row  # a later row lies on top
        for arm in reversed(range(len(clip.arms))):
            color = row.color if arm == 0 else tuple(int(255 - _FADED * (255 - c)) for c in row.color)
            steps = np.flatnonzero(row.running[arm])
            points = [place(step, row.scores[arm][step]) for step in steps]
            before = [point for step, point in zip(steps, points) if step <= t]
            pen.draw.line(points, fill=_LINE, width=1)
            pen.draw.line(before, fill=color, width=max(width - arm, 1), joint="curve")
    x = place(t, low)[0]
    pen.draw.line([(x, top), (x, bottom)], fill=_QUIET)
