"""A window that shows frames in real time."""

import os
import sys
import time
from collections.abc import Iterable, Iterator

import matplotlib
import numpy as np

from common.runs import UsageError


class LiveWindow:
    """Context manager. Raises UsageError without a display or without a GUI toolkit."""

    def __init__(self, fps: float):
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise UsageError(
                "--window needs a display, and this machine has none; leave --window out: the videos are "
                "written in any case"
            )
        self.pause = 1 / fps

    def __enter__(self) -> "LiveWindow":
        from matplotlib import pyplot  # picks a toolkit on import, so only where a window is wanted

        if matplotlib.get_backend().lower() == "agg":
            raise UsageError(
                "--window needs a GUI toolkit: install python3-tk, or `pip install PyQt6`, or leave "
                "--window out"
            )
        self._pyplot = pyplot
        self._image = None
        self._figure = pyplot.figure(facecolor="black")
        self._axis = self._figure.add_axes((0, 0, 1, 1))
        self._axis.set_axis_off()
        return self

    def show(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields frames [H, W, 3] unchanged, each after it has been shown for 1 / fps seconds."""
        for frame in frames:
            due = time.monotonic() + self.pause
            if self._image is None:
                self._image = self._axis.imshow(frame)
            self._image.set_data(frame)
            self._pyplot.pause(max(due - time.monotonic(), 0.001))
            yield frame

    def __exit__(self, *exception) -> None:
        self._pyplot.close(self._figure)
