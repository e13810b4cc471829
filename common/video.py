"""Reads and writes H.264 videos that every browser plays."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from common.checkpoints import write_atomically

ENCODER = {"crf": "16", "preset": "fast"}
"""x264 at constant quality; 16 is visually almost lossless."""


def upscale(frame: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges frames [..., H, W, C]: every pixel becomes a square of scale x scale."""
    if scale < 1 or scale != int(scale):
        raise ValueError(f"frames can be enlarged by whole numbers from 1 on, not by {scale}")
    return frame.repeat(scale, axis=-3).repeat(scale, axis=-2)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float = 15, scale: int = 1) -> int:
    """Writes frames to an mp4 file. x264 is not bit-reproducible here: compare decoded frames, not files.

    Args:
        path: the file, unchanged if writing fails.
        frames: uint8 [T, H, W, 3], or an iterable of [H, W, 3]; odd sizes repeat the last row or column,
            because H.264 needs even ones.
        fps: frames per second.
        scale: side of the square that each pixel becomes.

    Returns:
        The number of frames.

    Raises:
        ValueError: no frames, frames that are not uint8 RGB of one size, or fps <= 0.
    """
    if fps <= 0:
        raise ValueError(f"a video needs a positive number of frames per second, not {fps}")
    counted = [0]

    def write(temporary: Path) -> None:
        counted[0] = _encode(temporary, (_even(upscale(frame, scale)) for frame in _checked(frames)), fps)

    write_atomically(path, write)
    return counted[0]


def read_video(path: Path) -> tuple[np.ndarray, float]:
    """Reads frames uint8 [T, H, W, 3] and frames per second. Raises ValueError if the file is no video."""
    if not Path(path).is_file():
        raise ValueError(f"no video file at {path}")
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            fps = float(container.streams.video[0].average_rate)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a whole video file; make it again") from error
    return np.stack(frames), fps


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            found = f"{frame.dtype} {list(frame.shape)}"
            raise ValueError(
                f"a video frame must be uint8 [height, width, 3], not {found}; scale floats to 0-255 first"
            )
        if shape not in (None, frame.shape):
            raise ValueError(
                f"all frames of a video need one size: found {list(frame.shape)} after {list(shape)}"
            )
        shape = frame.shape
        yield frame
    if shape is None:
        raise ValueError("no frames: a video needs at least one")


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return (
        np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if height % 2 or width % 2
        else frame
    )


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """H.264, 4:2:0, BT.709 named in the stream so that every player shows the same colours, index first for
    streaming.
    """
    count = 0
    stream = None
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        for count, frame in enumerate(frames, start=1):  # noqa: B007  # read after the loop
            if stream is None:
                stream = _open_stream(container, frame, fps)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(
                stream.encode(
                    picture.reformat(format="yuv420p", dst_colorspace="ITU709", interpolation="AREA")
                )
            )
        container.mux(stream.encode())
    return count


def _open_stream(container, frame: np.ndarray, fps: float):
    stream = container.add_stream(
        "libx264", rate=Fraction(fps).limit_denominator(1000), options=dict(ENCODER)
    )
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream
