"""An animated picture of runs in two worlds: one column per run, the real game above, the simulator below."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.rendering.pen import Pen
from common.checkpoints import write_atomically
from common.video import upscale

_GROUND = (22, 25, 30)
_TEXT = (238, 240, 243)
_QUIET = (120, 127, 138)
_ACCENT = (247, 201, 72)
_GAP = 6
_LABELS = 104  # width of the row labels
_FOOT = 24  # height of the progress bar
_ENDED = 0.35  # brightness of a run after its end
_HOLD_MS = 1200  # the last picture is shown longer


def two_rows(
    frames: Sequence[np.ndarray], alive: Sequence[np.ndarray], labels: Sequence[str], given: int, scale: int
) -> Iterator[np.ndarray]:
    """Pictures [height, width, 3] uint8 of all runs, one per time step.

    Args:
        frames: of each row, [T, B, H, W, 3] uint8.
        alive: of each row, [T, B] bool; a run is darkened after its end.
        labels: of each row.
        given: how many of the T frames the simulator was given; both rows show the game's there.
        scale: side of a pixel.
    """
    steps, runs, height, width = frames[0].shape[:4]
    side_y, side_x = height * scale, width * scale
    size = _LABELS + runs * (side_x + _GAP), _GAP + len(frames) * (side_y + _GAP) + _FOOT
    for t in range(steps):
        picture = Image.new("RGB", size, _GROUND)
        pen = Pen(picture, 1)
        for row, (images, going, label) in enumerate(zip(frames, alive, labels)):
            top = _GAP + row * (side_y + _GAP)
            pen.text((_LABELS / 2, top + side_y / 2), label, 15, _TEXT, anchor="mm")
            for run in range(runs):
                image = upscale(images[t, run], scale) * (1.0 if going[t, run] else _ENDED)
                left = _LABELS + run * (side_x + _GAP)
                picture.paste(Image.fromarray(image.astype(np.uint8)), (left, top))
        _progress(pen, size, t, steps, given)
        yield np.asarray(picture)


def write_animation(path: Path, pictures: Sequence[np.ndarray], fps: float, colours: int = 160) -> None:
    """Writes an animated GIF with one palette for all pictures; the last picture is held."""
    images = [Image.fromarray(picture) for picture in pictures]
    palette = Image.fromarray(np.concatenate(list(pictures[:: max(len(pictures) // 8, 1)]))).quantize(
        colours, Image.Quantize.MAXCOVERAGE
    )
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [round(1000 / fps)] * (len(images) - 1) + [_HOLD_MS]

    def write(temporary: Path) -> None:
        indexed[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=indexed[1:],
            duration=durations,
            loop=0,
            optimize=False,
        )

    write_atomically(path, write)


def _progress(pen: Pen, size: tuple[int, int], t: int, steps: int, given: int) -> None:
    """A bar that fills with time, and whether the simulator still sees the game's frames."""
    middle = size[1] - _FOOT / 2
    left, right = _LABELS, size[0] - _GAP - 250
    pen.box((left, middle - 2, right, middle + 2), _QUIET)
    pen.box((left, middle - 2, left + (right - left) * (t + 1) / steps, middle + 2), _ACCENT)
    step = t - given + 1
    words = "frames given to the simulator" if step <= 0 else f"step {step} of {steps - given} simulated"
    pen.text((size[0] - _GAP, middle), words, 13, _ACCENT if step <= 0 else _TEXT, anchor="rm")
