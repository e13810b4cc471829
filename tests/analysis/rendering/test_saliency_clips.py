"""Pictures of saliency: the colours of signed maps, and what strips and videos show where."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from analysis.rendering import saliency_clips
from analysis.rendering.path_trust import PathTrust
from analysis.rendering.saliency_clips import (
    SaliencyClip,
    clip_of,
    demo_clip,
    draw_samples,
    draw_strip,
    video_frames,
)
from analysis.rendering.signed_map import legend_bar, overlay_map, palette_colors, scale_end
from common.video import read_video
from interpret.attribution.saliency_store import SaliencyStore

BLACK = np.zeros((4, 4, 3), np.uint8)
RED, BLUE = 0, 2


def painted(value: float, frame: np.ndarray = BLACK) -> np.ndarray:
    return overlay_map(frame, np.full(frame.shape[:2], value), 1.0)[0, 0].astype(int)


def test_positive_is_blue_and_negative_is_red():
    assert painted(0.7)[BLUE] > painted(0.7)[RED] + 50
    assert painted(-0.7)[RED] > painted(-0.7)[BLUE] + 50


def test_the_scale_is_symmetric_and_ends():
    np.testing.assert_allclose(palette_colors(np.array(5.0)), palette_colors(np.array(1.0)))
    np.testing.assert_allclose(palette_colors(np.array(-5.0)), palette_colors(np.array(-1.0)))
    dark = [painted(sign).sum() for sign in (1, -1)]
    assert max(dark) < painted(0.5).sum() < painted(0.0).sum()


def test_no_colour_wraps_around_on_a_white_frame():
    """Defect 20 of the original system: uint8 sums above 255 became dark."""
    white = np.full_like(BLACK, 255)
    for value in np.linspace(-2, 2, 9):
        assert (painted(value, white) <= painted(value)).all()


def test_the_frame_is_seen_in_grey_under_a_map_of_zero():
    frame = BLACK.copy()
    frame[1, 1] = (200, 180, 40)
    out = overlay_map(frame, np.zeros((4, 4)), 1.0).astype(int)
    assert out[1, 1].sum() < out[0, 0].sum() - 60
    assert np.ptp(out[1, 1]) < 5


def test_the_scale_ends_below_the_largest_outlier_and_is_never_zero():
    maps = np.ones((1, 100, 100))
    maps[0, 0, :3] = 1000
    assert scale_end(maps) == 1
    assert scale_end(-maps) == 1
    assert scale_end(np.zeros((1, 4, 4))) == 1
    sparse = np.zeros((1, 100, 100))
    sparse[0, 0, 0] = -3
    assert scale_end(sparse) == 3


def test_the_legend_is_blue_above_and_red_below():
    bar = legend_bar(101, 3).astype(int)
    assert bar[10, 0, BLUE] > bar[10, 0, RED]
    assert bar[90, 0, RED] > bar[90, 0, BLUE]
    assert np.ptp(bar[50, 0]) < 5


def clip(steps: int = 6, mapped: int = 4, step=2) -> SaliencyClip:
    frames = np.zeros((steps, 60, 60, 3), np.uint8)
    maps = np.zeros((mapped, 60, 60))
    maps[1, :30] = 1
    maps[2:3, :30] = -1
    actions = ["left", "none", "right", "up", "down", "key-d"]
    return SaliencyClip(frames, {"gradient": maps}, actions[:steps], step, 99, "Sample 3", "from somewhere")


def column(strip: np.ndarray, t: int) -> np.ndarray:
    """The map in the column of step t of a strip."""
    c = saliency_clips
    unit = c._STRIP_UNIT
    left = unit * (c._SIDE + c._LABELS + t * (120 + c._GAP))
    top = unit * (c._TITLE + c._HEAD + 120 + c._GAP)
    return strip[top : top + unit * 120, left : left + unit * 120].astype(int)


def marked(picture: np.ndarray) -> np.ndarray:
    return (picture == saliency_clips._MARK).all(-1)


def test_a_strip_has_frames_above_maps_and_every_step_with_a_map():
    strip = draw_strip(clip())
    assert column(strip, 1)[20, 50, BLUE] > column(strip, 1)[20, 50, RED] + 50
    assert column(strip, 2)[20, 50, RED] > column(strip, 2)[20, 50, BLUE] + 50
    assert np.ptp(column(strip, 1)[200, 50]) < 5
    frames = strip[2 * (44 + 24) : 2 * (44 + 24 + 120), 2 * (14 + 92) : 2 * (14 + 92 + 120)]
    assert not frames.any()
    assert draw_strip(clip(mapped=2)).shape[1] < strip.shape[1]


def test_the_step_at_which_the_function_is_read_is_framed():
    at = [np.nonzero(marked(draw_strip(clip(step=step))))[1].min() for step in (1, 2)]
    assert at[1] - at[0] == 2 * (120 + saliency_clips._GAP)
    assert not marked(draw_strip(clip(step="sum"))).any()


def test_a_long_strip_goes_on_below():
    frames = np.zeros((14, 60, 60, 3), np.uint8)
    long = replace(
        clip(), frames=frames, maps={"gradient": np.ones((14, 60, 60))}, actions=["left"] * 14, step=12
    )
    short = replace(long, maps={"gradient": np.ones((10, 60, 60))})
    assert draw_strip(long).shape[0] > 1.8 * draw_strip(short).shape[0] - 200
    assert draw_strip(long).shape[1] == draw_strip(short).shape[1]


def test_a_video_shows_every_step_frame_and_map_side_by_side():
    pictures = list(video_frames(clip()))
    assert len(pictures) == 6
    assert len({picture.shape for picture in pictures}) == 1
    middle = saliency_clips._TITLE + saliency_clips._HEAD + 60
    assert not pictures[1][middle, 100].any()
    assert pictures[1][middle, 500, BLUE] > 1.5 * pictures[1][middle, 500, RED]
    assert [marked(picture).sum() > 1000 for picture in pictures] == [False, False, True, False, False, False]


def test_steps_after_an_end_say_so():
    ended, going = (list(video_frames(replace(clip(), length=length)))[3] for length in (3, 99))
    assert (ended != going).any()
    before = [list(video_frames(replace(clip(), length=length)))[1] for length in (3, 99)]
    assert (before[0] == before[1]).all()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Two samples of a made store, the second of which is drawn last."""
    facts = {
        "functions": ["value"], "batches": [[7, 3]], "step": 1, "draws": 9, "combined": [],
        "real_frames": False, "action_names": ["left", "right"], "effect_classes": [0, 1],
        "source": {"episode": [5, 6], "step": [1, 2], "level": [11, 12]},
    }  # fmt: skip
    made = SaliencyStore(tmp_path, facts)
    arrays = {
        "obs": np.zeros((2, 3, 8, 8, 3), np.uint8),
        "action": np.array([[0, 1, 1], [1, 1, 1]]),
        "length": np.array([3, 3]),
        "map/value": np.full((2, 2, 8, 8), 127, np.int8),
        "scale/value": np.array([0.5, 2.0], np.float32),
    }
    made._batch = lambda index: arrays
    return made


def test_a_clip_is_of_its_sample(store):
    made = clip_of(store, 3, "value", {"gradient": store.map(3, "value")}, PathTrust())
    assert made.title == "Sample 3 · gradient of value at step 1"
    assert made.subtitle.startswith("simulated from episode 6, step 2, level 12 · mean of 9 draws")
    assert list(made.actions) == ["right"] * 3
    assert made.limit == 2
    store.facts["combined"], store.facts["step"] = [1, 2], "sum"
    store.facts["source"] = {name: [-1, -1] for name in ("episode", "step", "level")}
    made = clip_of(store, 3, "value", {"gradient": store.map(3, "value")}, PathTrust())
    assert made.title == "Mean latent of 2 samples · gradient of value summed over all steps"
    assert made.subtitle.startswith("simulated from a mean latent")


def test_every_sample_and_function_has_a_video_and_a_strip(store, tmp_path):
    draw_samples(store, tmp_path / "videos", PathTrust())
    names = {file.name for file in (tmp_path / "videos").iterdir()}
    assert names == {f"sample_0000{one}_saliency_value.{end}" for one in (3, 7) for end in ("mp4", "png")}
    assert len(read_video(tmp_path / "videos" / "sample_00003_saliency_value.mp4")[0]) == 3
    drawn = np.asarray(Image.open(tmp_path / "videos" / "sample_00003_saliency_value.png"))
    assert (
        drawn.shape
        == draw_strip(clip_of(store, 3, "value", {"gradient": store.map(3, "value")}, PathTrust())).shape
    )
    before = (tmp_path / "videos" / "sample_00003_saliency_value.png").stat().st_mtime_ns
    draw_samples(store, tmp_path / "videos", PathTrust())
    assert (tmp_path / "videos" / "sample_00003_saliency_value.png").stat().st_mtime_ns == before


def test_a_map_that_is_not_trusted_has_magnitudes_and_no_colour():
    untrusted = replace(clip(), untrusted=frozenset(["gradient"]))
    coloured, grey = draw_strip(clip()), draw_strip(untrusted)
    for t in (1, 2):
        assert np.ptp(column(coloured, t)[20, 50]) > 50
        assert np.ptp(column(grey, t)[20, 50]) < 5
        assert column(grey, t)[20, 50].sum() < column(grey, t)[200, 50].sum() - 100
    assert marked(grey).sum() > marked(coloured).sum()  # its label says so
    in_videos = [list(video_frames(one))[1] for one in (clip(), untrusted)]
    middle = saliency_clips._TITLE + saliency_clips._HEAD + 60
    assert [np.ptp(one[middle, 500].astype(int)) > 50 for one in in_videos] == [True, False]


@pytest.mark.parametrize(("size", "vanishes"), [(0.0, True), (1e-16, True), (1e-7, False)])
def test_a_map_that_is_zero_everywhere_says_so_and_has_no_scale(size, vanishes):
    """Of a map whose sum float32 cannot tell from 0 next to 1, no pattern is drawn."""
    faint = replace(clip(), maps={"gradient": size * clip().maps["gradient"]}, untrusted={"gradient"})
    assert faint.remarks("gradient") == (["all zero"] if vanishes else ["not trusted"])
    strip = draw_strip(replace(faint, untrusted=frozenset()))
    assert (np.ptp(column(strip, 1)[20, 50]) < 5) == vanishes
    legend = strip[:, -2 * saliency_clips._LEGEND :].astype(int)
    assert (np.ptp(legend, axis=-1).max() < 30) == vanishes


def test_a_clip_takes_the_colour_of_the_paths_that_fail_the_check(store):
    maps = {"with": store.map(3, "value"), "difference": store.map(3, "value")}
    of = {"difference": "value@mixed"}
    made = clip_of(store, 3, "value", maps, PathTrust(("mixed",)), of=of)
    assert made.untrusted == {"difference"}
    assert made.subtitle.endswith("fails the check of gradients")
    assert clip_of(store, 3, "value", maps, PathTrust(("total",)), of=of).untrusted == {"with"}
    unchecked = clip_of(store, 3, "value", maps, PathTrust(None), of=of)
    assert unchecked.untrusted == frozenset()
    assert unchecked.subtitle.endswith("unchecked")
    assert clip_of(store, 3, "value", maps, PathTrust(("environment",)), of=of).subtitle.endswith(
        "of brightness"
    )


def test_the_demonstration_greys_each_row_by_its_own_path(store):
    arrays = store._batch(0)
    for path in ("agent", "environment", "mixed"):
        store.facts["functions"].append(f"value@{path}")
        arrays |= {f"{kind}/value@{path}": arrays[f"{kind}/value"] for kind in ("map", "scale")}
    rejected = {
        path: demo_clip(store, 3, "value", PathTrust((path,))).untrusted for path in ("total", "mixed")
    }
    assert rejected == {"total": {"with"}, "mixed": {"difference"}}


def test_another_check_draws_the_pictures_again(store, tmp_path):
    folder = tmp_path / "videos"
    strip = folder / "sample_00003_saliency_value.png"
    draw_samples(store, folder, PathTrust())
    before = strip.read_bytes()
    draw_samples(store, folder, PathTrust(("total",)))
    assert strip.read_bytes() != before
