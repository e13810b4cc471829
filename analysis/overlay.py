"""A frame with what the agent made of it beside it: the action as an arrow, the probabilities as bars, the value over time.

The panel is laid out for a frame 512 pixels high and scales with it. Steps count from 0, as everywhere. The value trace
ends at the present step; the return includes the reward of the action on show.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from analysis.arrows import direction
from analysis.pen import Pen
from analysis.watch import Episode, class_probabilities
from common.runs import UsageError
from common.video import upscale
from common.words import counted
from envs.vecenv import ActionSpace

SMALLEST = 320  # pixels of height below which the panel's text cannot be read
_HEIGHT, _WIDTH, _MARGIN = 512, 340, 20
_GROUND, _FAINT, _QUIET, _TEXT = (22, 25, 30), (52, 57, 66), (150, 157, 168), (238, 240, 243)
BAR_COLOR, TAKEN_COLOR = (94, 150, 210), (247, 201, 72)
_BARS_TOP, _BARS_BOTTOM, _TRACE_TOP, _TRACE_BOTTOM = 158, 362, 400, 470


def check_scale(height: int, scale: int) -> None:
    """Raises UsageError where a frame `height` pixels high, enlarged, is too small to stand beside text."""
    if height * scale < SMALLEST:
        enough = -(-SMALLEST // height)
        raise UsageError(f"--scale {scale} is too small to read the overlay; take --scale {enough} or more, or --no_overlay")


class Overlay:
    """Draws the frames of one episode. title: what is played, for the panel's first line; scale: pixels per game pixel; place: what
    a level is called there. Raises UsageError as `check_scale` does.
    """

    def __init__(self, episode: Episode, actions: ActionSpace, title: str, scale: int, place: str = "Level"):
        check_scale(episode.obs.shape[1], scale)
        self.episode, self.actions, self.title, self.scale, self.place = episode, actions, title, scale, place
        self.unit = episode.obs.shape[1] * scale / _HEIGHT
        self.probabilities, self.classes = class_probabilities(episode.logits, actions.effect_classes)
        self.earned = np.cumsum(episode.reward)

    def frames(self) -> Iterator[np.ndarray]:
        """One picture [H * scale, W * scale + panel, 3] uint8 for each step of the episode."""
        for t in range(self.episode.length):
            yield np.concatenate([upscale(self.episode.obs[t], self.scale), self.panel(t)], axis=1)

    def panel(self, t: int) -> np.ndarray:
        """The panel beside the frame of step t: [H * scale, panel width, 3] uint8."""
        size = round(_WIDTH * self.unit), self.episode.obs.shape[1] * self.scale
        picture = Image.new("RGB", size, _GROUND)
        pen = Pen(picture, self.unit)
        self._draw_head(pen, t)
        self._draw_bars(pen, t)
        self._draw_trace(pen, t)
        self._draw_foot(pen, t)
        return np.asarray(picture)

    def _draw_head(self, pen: Pen, t: int) -> None:
        pen.text((_MARGIN, 24), self.title, 12, _QUIET)
        pen.text((_MARGIN, 52), f"{self.place} {self.episode.job.level}", 25, _TEXT)
        repeat = f" · repeat {self.episode.job.repeat}" if self.episode.job.repeat else ""
        pen.text((_MARGIN, 82), f"t = {t}, {counted(self.episode.length, 'step')} in all{repeat}", 12, _QUIET)
        name = self.actions.names[self.actions.effect_classes[self.episode.action[t]]]
        pen.arrow((_WIDTH - _MARGIN - 80, 18), 80, direction(name), TAKEN_COLOR, _FAINT)
        pen.text((_WIDTH - _MARGIN - 40, 112), name, 13, TAKEN_COLOR, anchor="mm")

    def _draw_bars(self, pen: Pen, t: int) -> None:
        pen.text((_MARGIN, _BARS_TOP - 16), "The agent's action probabilities", 11, _QUIET)
        row = (_BARS_BOTTOM - _BARS_TOP) / len(self.classes)
        taken, left, right = self.actions.effect_classes[self.episode.action[t]], _MARGIN + 104, _WIDTH - _MARGIN - 38
        for k, action in enumerate(self.classes):
            name, y, share = self.actions.names[action], _BARS_TOP + (k + 0.5) * row, float(self.probabilities[t, k])
            bar, words, glyph = (TAKEN_COLOR,) * 3 if action == taken else (BAR_COLOR, _TEXT, _QUIET)
            pen.arrow((_MARGIN, y - row * 0.45), row * 0.9, direction(name), glyph, _GROUND)
            pen.text((_MARGIN + 26, y), name, min(12, row * 0.75), words)
            pen.box((left, y - row * 0.3, right, y + row * 0.3), _FAINT)
            pen.box((left, y - row * 0.3, left + share * (right - left), y + row * 0.3), bar)
            pen.text((_WIDTH - _MARGIN, y), f"{100 * share:.0f}%", min(11, row * 0.75), _TEXT if share >= 0.005 else _QUIET, anchor="rm")

    def _draw_trace(self, pen: Pen, t: int) -> None:
        value = self.episode.value
        if np.isnan(value).any():
            pen.text((_MARGIN, _TRACE_TOP - 16), "Value: this agent has none", 11, _QUIET)
            return
        low, high = min(value.min(), 0.0), max(value.max(), 0.0) + 1e-6
        left, right = _MARGIN + 34, _WIDTH - _MARGIN
        x = left + np.arange(t + 1) / max(self.episode.length - 1, 1) * (right - left)
        y = _TRACE_BOTTOM - (value[: t + 1] - low) / (high - low) * (_TRACE_BOTTOM - _TRACE_TOP)
        pen.text((_MARGIN, _TRACE_TOP - 16), "Value estimate, the agent's units", 11, _QUIET)
        pen.text((_WIDTH - _MARGIN, _TRACE_TOP - 16), f"{value[t]:.2f}", 12, _TEXT, anchor="rm")
        zero = _TRACE_BOTTOM + low / (high - low) * (_TRACE_BOTTOM - _TRACE_TOP)
        for level, at in {high: _TRACE_TOP, low: _TRACE_BOTTOM, 0.0: zero}.items():
            pen.box((left, at - 0.5, right, at + 0.5), _FAINT)
            if level == 0 or abs(at - zero) > 10:
                pen.text((left - 6, at), f"{level:.1f}".replace("-0.0", "0.0"), 10, _QUIET, anchor="rm")
        pen.curve((left, _TRACE_TOP, right, _TRACE_BOTTOM), np.stack([x, y], 1), BAR_COLOR, _TEXT)

    def _draw_foot(self, pen: Pen, t: int) -> None:
        pen.text((_MARGIN, 493), f"Return {self.earned[t]:.4g}", 14, _TEXT)
        if t == self.episode.length - 1:
            pen.text((_WIDTH - _MARGIN, 493), self.episode.outcome, 14, TAKEN_COLOR, anchor="rm")
