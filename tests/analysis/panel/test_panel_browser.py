"""The panel in headless Chromium: samples, keys, functions, filters, clusters, scatter, tour, phone."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.saliency_panel import Args, main
from tests.helpers.chromium import find_chromium, run_scripts
from tests.helpers.saliency_run import (
    FUNCTIONS,
    HEIGHT,
    LATER,
    STEP,
    STEPS,
    WIDTH,
    read_page,
    write_directions,
    write_run,
)

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="needs Chromium or Chrome on the path, to look at the page as a reader does",
)
FILTERS = [
    {"step": None, "conditions": [("scores", 0, 0.5, None)]},
    {"step": None, "conditions": [("scores", 0, -0.5, 0.8), ("scores", 1, 0.0, None)]},
    {"step": None, "conditions": [("scores", 2, None, -1.0), ("gradient/entropy", 1, 0.3, None)]},
    {"step": 1, "conditions": [("gradient/value", 0, -1.0, 1.0)]},
    {"step": 5, "conditions": [("scores", 0, 0.0, None)]},
    {"step": 5, "conditions": [("gradient/value", 0, None, 100.0)]},
]
"""Filters (quantity, direction, low, high), each tried in turn."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's file."""
    folder = tmp_path_factory.mktemp("panel")
    run = write_run(folder / "run")
    directions = write_directions(folder / "ica.safetensors", 3)
    main(Args(run, direction_files=(directions,), draws=0, clusters=2, nmf_components=2))
    return run / "panel.html"


@pytest.fixture(scope="module")
def data(page):
    return read_page(page)


@pytest.fixture(scope="module")
def shown(page, tmp_path_factory):
    """What the page shows while it is used, by the names that panel_session.js gives, and at 380 pixels."""
    keys = ("quantity", "direction", "low", "high")
    filters = [
        {"step": one["step"], "conditions": [dict(zip(keys, c)) for c in one["conditions"]]}
        for one in FILTERS
    ]
    session = Path(__file__).with_name("panel_session.js").read_text()
    session = session.replace("FILTERS", json.dumps(json.dumps(filters)))
    narrow = Path(__file__).with_name("phone_session.js").read_text()
    scripts = {"session": (1280, session), "narrow": (380, narrow)}
    results = run_scripts(page, scripts, tmp_path_factory.mktemp("browser"))
    for result in results.values():
        assert "error" not in result, result["error"]
    return results["session"] | {"narrow": results["narrow"]}


def rgb(pixels) -> np.ndarray:
    return np.array(pixels).reshape(HEIGHT, WIDTH, 4)[..., :3]


def matches(table, one) -> list[int]:
    """Samples with a step at which all conditions hold, one by one."""
    found = []
    for sample in range(len(table["cluster"])):
        for step in range(STEPS) if one["step"] is None else [one["step"]]:
            holds = []
            for quantity, direction, low, high in one["conditions"]:
                array = table[quantity]
                value = float(array[sample, step, direction]) if step < array.shape[1] else np.nan
                holds.append(
                    (low is None or value >= low) and (high is None or value <= high) and value == value
                )
            if all(holds):
                found.append(sample)
                break
    return found


def test_the_page_opens_on_the_first_sample_at_the_step_that_is_read(shown):
    assert not shown["problem"]
    assert shown["first"]["sample"].startswith("sample 100 ")
    assert shown["first"]["step"] == f"step {STEP} of {STEPS - 1} · read"
    assert shown["first"]["count"] == "24 of 24 samples match"


def test_the_browser_decodes_the_arrays_to_the_bit(shown, data):
    _, table, clips = data
    assert shown["decoded"]["obs"] == clips[0]["obs"].ravel()[:500].tolist()
    assert np.array_equal(np.array(shown["decoded"]["scores"], np.float32), table["scores"].ravel())


def test_the_frame_is_shown_as_it_was_stored(shown, data):
    assert np.array_equal(rgb(shown["frame"]), data[2][0]["obs"][STEP])


def test_positive_gradients_are_blue_and_negative_ones_red(shown, data):
    stored = data[2][0]["map/value"][STEP].astype(int)
    red, _, blue = np.moveaxis(rgb(shown["map"]).astype(int), -1, 0)
    strong = np.abs(stored) > 30
    assert strong.sum() > 20
    assert np.array_equal((blue > red)[strong], (stored > 0)[strong])


def test_the_legend_ends_where_colours_are_full(shown, data):
    scale = data[1]["scale/value"][0]
    low, high = (float(words.split()[1].replace("−", "-")) for words in shown["legend"])
    assert high == pytest.approx(0.4 * scale, rel=0.0051)
    assert low == -high


def test_opacity_mixes_the_map_into_a_grey_frame(shown, data):
    plain, full = rgb(shown["plainOverlay"]).astype(int), rgb(shown["fullOverlay"]).astype(int)
    assert (plain.max(-1) - plain.min(-1)).max() == 0
    stored = data[2][0]["map/value"][STEP].astype(int)
    assert np.array_equal((full[..., 2] > full[..., 0])[stored > 55], np.ones((stored > 55).sum(), bool))


def test_a_chosen_sample_is_shown(shown, data):
    assert shown["sample"]["words"].startswith("sample 105 ")
    assert np.array_equal(rgb(shown["sample"]["frame"]), data[2][5]["obs"][STEP])
    action = data[0]["actions"][data[1]["action"][5, STEP]]["name"]
    assert action in shown["sample"]["facts"]


def test_a_chosen_function_changes_map_legend_and_bars(shown, data):
    stored = data[2][5]["map/entropy"][STEP].astype(int)
    red, _, blue = np.moveaxis(rgb(shown["otherFunction"]["map"]).astype(int), -1, 0)
    strong = np.abs(stored) > 30
    assert np.array_equal((blue > red)[strong], (stored > 0)[strong])
    assert "entropy" in shown["otherFunction"]["words"]


def test_a_function_that_fails_the_check_of_gradients_has_no_colour(shown, data):
    stored = np.abs(data[2][5]["map/leftwards"][STEP].astype(int))
    for name in ("map", "overlay"):
        picture = rgb(shown["untrusted"][name]).astype(int)
        assert np.ptp(picture, axis=-1).max() < 20
        assert np.ptp(rgb(shown["otherFunction"]["map"]).astype(int), axis=-1).max() > 60
    shades = rgb(shown["untrusted"]["map"]).astype(int).mean(-1)
    assert np.ptp(shades[stored > 50]) < np.ptp(shades) > 40
    assert "Not trusted" in shown["untrusted"]["words"]
    assert "Not trusted" not in shown["otherFunction"]["words"]
    assert shown["untrusted"]["caption"] == "Saliency: not trusted"
    low, high = shown["untrusted"]["legend"]  # of a size, which has no sign
    assert (low, high[:2]) == ("0", "≥ ")
    assert shown["captionOfTrusted"] == "Saliency"


def test_bars_of_a_gradient_that_fails_its_check_are_grey(shown, data):
    gradient = np.abs(data[1]["gradient/leftwards"][5, STEP])
    shades = np.array([channels(colour) for colour in shown["untrusted"]["bars"]])
    assert np.ptp(shades, axis=1).max() < 20
    assert (np.argsort(-shades.mean(1)) == np.argsort(gradient)).all()  # on a light page, darker is larger
    assert "Not trusted" in shown["untrusted"]["barWords"]
    assert max(np.ptp(channels(colour)) for colour in shown["barColours"]) > 40


def channels(colour: str) -> list[int]:
    """Of "rgb(1, 2, 3)"."""
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_a_map_of_zeros_says_so_and_has_no_scale(shown):
    zero, step, own = shown["zero"], shown["zeroStep"], shown["zeroStepOwn"]
    assert zero["words"].startswith("All zero: no pixel of any frame changes the log-probability")
    assert zero["hidden"] == own["hidden"] == [True, True]
    assert zero["caption"] == step["caption"] == "Saliency: all zero"
    assert "all gradients are zero" in zero["barWords"]
    assert step["hidden"] == [False, False]  # other steps of the clip have a scale
    assert step["words"].startswith("Change of the")
    assert own["words"].startswith("All zero: no pixel of this frame")


def test_keys_step_to_both_ends_and_no_further(shown):
    assert shown["keys"] == [0, 1, 2, 1, STEPS - 1, STEPS - 1]
    assert shown["keyInSelect"] == STEPS - 1


def test_a_step_too_late_to_matter_has_no_gradient(shown):
    assert shown["late"] == {"bars": 3, "words": f"Step {STEPS - 1} is too late to matter"}


def test_space_plays_four_steps_a_second_and_pauses(shown):
    assert shown["played"]["steps"] == [True, 1, 2, 3]
    assert shown["played"]["paused"] == 3
    assert not shown["played"]["playing"]


def test_a_click_on_the_strip_goes_to_its_step(shown):
    assert shown["strip"]["step"] == 2
    assert ["now" in marks for marks in shown["strip"]["marked"]] == [t == 2 for t in range(STEPS)]
    assert ["read" in marks for marks in shown["strip"]["marked"]] == [t == STEP for t in range(STEPS)]


def test_bars_show_scores_and_gradients_of_the_step(shown, data):
    numbers = [[float(word.replace("−", "-")) for word in row] for row in shown["barsAtTwo"]]
    assert [score for score, _ in numbers] == pytest.approx(data[1]["scores"][5, 2].tolist(), rel=6e-3)
    gradient = data[1]["gradient/entropy"][5, 2]
    assert [slope for _, slope in numbers] == pytest.approx(gradient.tolist(), rel=6e-3)
    for colour, slope in zip(shown["barColours"], gradient):
        red, _, blue = channels(colour)
        assert (blue > red) == (slope > 0)


@pytest.mark.parametrize("index", range(len(FILTERS)))
def test_the_count_is_that_of_samples_with_a_step_at_which_all_conditions_hold(shown, data, index):
    expected = matches(data[1], FILTERS[index])
    found = shown["counts"][index]
    assert found["matching"] == expected
    assert found["words"] == f"{len(expected)} of 24 samples match"
    assert found["thumbs"] == len(expected)


def test_the_filters_would_tell_one_step_from_any_step(data):
    """Two conditions met at different steps match more samples, or the test above could not fail."""
    table, one = data[1], FILTERS[1]
    apart = [set(matches(table, one | {"conditions": [condition]})) for condition in one["conditions"]]
    assert set(matches(table, one)) < apart[0] & apart[1]
    counts = [len(matches(table, one)) for one in FILTERS]
    assert 0 in counts
    assert len(set(counts)) > 3


def test_a_slider_sets_the_limit_and_its_number(shown, data):
    scores = data[1]["scores"][..., 2]
    low = shown["slider"]["low"]
    assert float(shown["slider"]["shown"]) == low
    first = data[1]["scores"][..., 0]
    assert low == pytest.approx((first.min() + first.max()) / 2, rel=1e-3, abs=1e-3)
    assert shown["slider"]["count"] == f"{(first >= low).any(1).sum()} of 24 samples match"
    assert scores.shape == first.shape


def test_a_cluster_shows_its_samples_only(shown, data):
    members = np.flatnonzero(data[1]["cluster"] == 1).tolist()
    assert shown["cluster"]["matching"] == members
    assert shown["cluster"]["count"] == f"{len(members)} of 24 samples match"
    assert shown["cluster"]["sample"] in members
    assert shown["cluster"]["options"] == len(members)


def test_the_next_sample_is_the_next_of_the_cluster(shown, data):
    members = np.flatnonzero(data[1]["cluster"] == 1).tolist()
    place = members.index(shown["cluster"]["sample"])
    assert shown["next"] == members[(place + 1) % len(members)]


def test_a_click_on_a_point_shows_its_sample_and_step(shown):
    assert shown["scatter"]["found"] == shown["scatter"]["target"]


def test_points_beyond_the_axes_lie_on_the_edge(shown):
    width, height = shown["scatter"]["box"]
    assert shown["scatter"]["out"]
    for x, y in shown["scatter"]["out"]:
        on_edge = min(abs(x - 46), abs(x - (width - 12)), abs(y - 12), abs(y - (height - 34)))
        assert on_edge < 0.01


def test_an_example_of_a_region_is_shown_above(shown, data):
    example = data[0]["factors"]["regions"][0]["examples"][1]
    name = FUNCTIONS[example["function"]]
    assert shown["example"]["shown"] == [example["sample"], name, example["step"]]
    assert shown["example"]["function"] == str(example["function"])


def test_tooltips_name_a_pixel_and_a_control(shown):
    hidden, words = shown["pixelTip"]
    assert not hidden
    assert words.startswith("column 0, row 0: ")
    hidden, words, described = shown["help"]
    assert not hidden
    assert words == described
    assert shown["helpLeft"]


def test_the_tour_goes_through_all_parts_and_ends(shown):
    parts = [part for part, *_ in shown["tour"]]
    assert parts == ["choose", "views", "player", "strips", "legend", "looks", "space", "filters", "factors"]
    assert len({title for _, title, _ in shown["tour"]}) == len(parts)
    assert {focus for *_, focus in shown["tour"]} == {"tour-next"}
    assert shown["tourEnds"] == {"hidden": True, "marked": 0, "focus": "tour-start"}
    assert shown["tourKeepsStep"]


def test_the_tour_can_be_left_and_remembers_nothing(shown):
    assert shown["tourLeft"]
    assert shown["tourAgain"] == "1 of 9"


def test_text_is_readable_in_dark_and_light(shown):
    themes = []
    for name, *colours in shown["themes"]:
        ground, ink = (luminance(colour) for colour in colours)
        assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 7  # WCAG AAA
        themes.append((name, ground > ink))
    assert sorted(themes) == [("dark", False), ("light", True)]


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)"."""
    channels = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_every_control_has_a_name_and_is_reached_by_keyboard(shown):
    assert shown["unreachable"] == 0
    assert shown["unnamed"] == []


def test_a_phone_shows_the_page_without_scrolling_sideways(shown):
    narrow = shown["narrow"]
    assert narrow["inner"] == 380
    assert narrow["content"] <= 380
    assert narrow["tour"][0] >= 0
    assert narrow["tour"][1] <= 380
    assert narrow["small"] == 0


def test_steps_are_those_of_the_run(data):
    assert [function["steps"] for function in data[0]["functions"]] == [LATER] * 3
