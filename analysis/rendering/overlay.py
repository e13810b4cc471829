"""Frames with a panel: the action as an arrow, action probabilities as bars, and the value over time.

The panel is laid out for a frame 512 pixels high and scales with it. Steps count from 0. The value curve ends
at the current step; the return includes the reward of the current action.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from analysis.rendering.arrows import arrow_direction
from analysis.rendering.episode_clips import Episode
from analysis.rendering.pen import Pen
from common.runs import UsageError
from common.video import upscale
from common.words import counted
from envs.vecenv import ActionSpace, class_probabilities

MIN_HEIGHT = 320  # pixels, below which the panel's text is illegible
_HEIGHT = 512
_WIDTH = 340
_MARGIN = 20
_GROUND = (22, 25, 30)
_FAINT = (52, 57, 66)
_QUIET = (150, 157, 168)
_TEXT = (238, 240, 243)
BAR_COLOR = (94, 150, 210)
TAKEN_COLOR = (247, 201, 72)
_BARS_TOP = 158
_BARS_BOTTOM = 362
_TRACE_TOP = 400
_TRACE_BOTTOM = 470


def check_scale(height: int, scale: int) -> None:
    """Raises UsageError if a frame of `height` pixels, enlarged by `scale`, is too small for the panel."""
    if height * scale < MIN_HEIGHT:
        enough = -(-MIN_HEIGHT // height)
        raise UsageError(
            f"--scale {scale} is too small to read the overlay; take --scale {enough} or more, or "
            "--no_overlay"
        )


class Overlay:
    """Draws the frames of one episode.

    Args:
        episode: to draw.
        actions: names and effect classes.
        title: first line of the panel.
        scale: video pixels per game pixel.
        place: word for a level, such as "Level" or "Start".

    Raises:
        UsageError: see `check_scale`.
    """

    def __init__(self, episode: Episode, actions: ActionSpace, title: str, scale: int, place: str = "Level"):
        check_scale(episode.obs.shape[1], scale)
        self.episode = episode
        self.actions = actions
        self.title = title
        self.scale = scale
        self.place = place
        self.unit = episode.obs.shape[1] * scale / _HEIGHT
        self.probabilities = class_probabilities(episode.logits, actions.effect_classes)
        self.classes = np.unique(actions.effect_classes)
        self.earned = np.cumsum(episode.reward)

    def frames(self) -> Iterator[np.ndarray]:
        """One frame [H * scale, W * scale + panel, 3] uint8 per step of the episode."""
        for t in range(self.episode.length):
            yield np.concatenate([upscale(self.episode.obs[t], self.scale), self.panel(t)], axis=1)

    def panel(self, t: int) -> np.ndarray:
        """The panel next to the frame of step t: [H * scale, panel width, 3] uint8."""
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
        pen.text((_MARGIN, 52), f"{self.place} {self.episode.spec.level}", 25, _TEXT)
        repeat = f" · repeat {self.episode.spec.repeat}" if self.episode.spec.repeat else ""
        pen.text((_MARGIN, 82), f"t = {t}, {counted(self.episode.length, 'step')} in all{repeat}", 12, _QUIET)
        name = self.actions.names[self.actions.effect_classes[self.episode.action[t]]]
        pen.arrow((_WIDTH - _MARGIN - 80, 18), 80, arrow_direction(name), TAKEN_COLOR, _FAINT)
        pen.text((_WIDTH - _MARGIN - 40, 112), name, 13, TAKEN_COLOR, anchor="mm")

    def _draw_bars(self, pen: Pen, t: int) -> None:
        pen.text((_MARGIN, _BARS_TOP - 16), "The agent's action probabilities", 11, _QUIET)
        row = (_BARS_BOTTOM - _BARS_TOP) / len(self.classes)
        taken = self.actions.effect_classes[self.episode.action[t]]
        left = _MARGIN + 104
        right = _WIDTH - _MARGIN - 38
        for k, action in enumerate(self.classes):
            name = self.actions.names[action]
            y = _BARS_TOP + (k + 0.5) * row
            share = float(self.probabilities[t, k])
            bar, words, glyph = (TAKEN_COLOR,) * 3 if action == taken else (BAR_COLOR, _TEXT, _QUIET)
            pen.arrow((_MARGIN, y - row * 0.45), row * 0.9, arrow_direction(name), glyph, _GROUND)
            pen.text((_MARGIN + 26, y), name, min(12, row * 0.75), words)
            pen.box((left, y - row * 0.3, right, y + row * 0.3), _FAINT)
            pen.box((left, y - row * 0.3, left + share * (right - left), y + row * 0.3), bar)
            pen.text(
                (_WIDTH - _MARGIN, y),
                f"{100 * share:.0f}%",
                min(11, row * 0.75),
                _TEXT if share >= 0.005 else _QUIET,
                anchor="rm",
            )

    def _draw_trace(self, pen: Pen, t: int) -> None:
        value = self.episode.value
        if np.isnan(value).any():
            pen.text((_MARGIN, _TRACE_TOP - 16), "Value: this agent has no value head", 11, _QUIET)
            return
        low = min(value.min(), 0.0)
        high = max(value.max(), 0.0) + 1e-6
        left = _MARGIN + 34
        right = _WIDTH - _MARGIN
        x = left + np.arange(t + 1) / max(self.episode.length - 1, 1) * (right - left)
        y = _TRACE_BOTTOM - (value[: t + 1] - low) / (high - low) * (_TRACE_BOTTOM - _TRACE_TOP)
        pen.text((_MARGIN, _TRACE_TOP - 16), "Value estimate, agent's units", 11, _QUIET)
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
