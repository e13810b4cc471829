"""Videos round-trip frame count, rate and colour; invalid input is refused and leaves no file."""

import av
import numpy as np
import pytest

from common.video import read_video, upscale, write_video

COLORS = np.array(
    [[220, 40, 30], [30, 200, 60], [40, 60, 230], [250, 250, 250], [0, 0, 0], [230, 210, 40]], np.uint8
)


def blocks(count: int = 9, size: int = 16, seed: int = 0) -> np.ndarray:
    """Frames [count, size, size, 3] of randomly coloured pixels, as hard-edged as a game's."""
    return COLORS[np.random.default_rng(seed).integers(0, len(COLORS), (count, size, size))]


def error(decoded: np.ndarray, frames: np.ndarray) -> float:
    """Mean absolute difference of 8-bit levels."""
    return float(np.abs(decoded.astype(int) - frames.astype(int)).mean())


@pytest.mark.parametrize("fps", [7, 15, 29.97])
def test_round_trip_keeps_frames_count_and_pace(tmp_path, fps):
    frames = blocks()
    written = write_video(tmp_path / "clip.mp4", frames, fps, scale=8)
    decoded, found = read_video(tmp_path / "clip.mp4")
    assert written == len(decoded) == len(frames)
    assert found == pytest.approx(fps, rel=1e-3)
    assert error(decoded, upscale(frames, 8)) < 2
    # red and blue the wrong way round would be seen
    assert error(decoded, upscale(frames[..., ::-1], 8)) > 20
    assert error(decoded, upscale(np.roll(frames, 1, axis=0), 8)) > 20  # so would frames off by one


def test_one_pixel_becomes_one_square():
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = upscale(frame, 3)
    assert large.shape == (6, 6, 3)
    for row in range(6):
        for column in range(6):
            assert (large[row, column] == frame[row // 3, column // 3]).all()


def test_scale_enlarges_the_video(tmp_path):
    for scale in (1, 4):
        write_video(tmp_path / "clip.mp4", blocks(), scale=scale)
        assert read_video(tmp_path / "clip.mp4")[0].shape == (9, 16 * scale, 16 * scale, 3)


def test_browsers_can_play_it(tmp_path):
    write_video(tmp_path / "clip.mp4", blocks(), scale=4)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    data = (tmp_path / "clip.mp4").read_bytes()
    # the index comes first, so play can start while it loads
    assert data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_lose_nothing(tmp_path):
    frames = upscale(blocks(), 8)[:, :-1, :-3]
    write_video(tmp_path / "clip.mp4", frames)
    decoded, _ = read_video(tmp_path / "clip.mp4")
    assert decoded.shape[1:3] == (128, 126)
    assert error(decoded[:, :127, :125], frames) < 2


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (blocks()[:0], "no frames"),
        (blocks() / 255.0, "not float64"),
        (blocks()[..., 0], r"\[height, width, 3\]"),
        ([*blocks(), blocks(size=8)[0]], "one size"),
    ],
)
def test_bad_frames_are_refused_and_the_old_file_stays(tmp_path, frames, message):
    (tmp_path / "clip.mp4").write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "clip.mp4", frames)
    assert (tmp_path / "clip.mp4").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("values", [{"fps": 0}, {"scale": 0}, {"scale": 1.5}])
def test_bad_pace_and_scale_are_refused(tmp_path, values):
    with pytest.raises(ValueError, match=str(*values.values())):
        write_video(tmp_path / "clip.mp4", blocks(), **values)


def test_reading_what_is_no_video(tmp_path):
    write_video(tmp_path / "clip.mp4", blocks())
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:600])
    with pytest.raises(ValueError, match="not a whole video"):
        read_video(tmp_path / "cut.mp4")
    with pytest.raises(ValueError, match="no video file"):
        read_video(tmp_path / "none.mp4")
