"""The benchmark of directions: every method at every size, with growth, memory and bounds that can fail."""

import json

import numpy as np
import pytest

from benchmarks import directions


def test_the_table_has_every_method_at_every_size(tmp_path):
    args = directions.Args((8000, 4000), 8, 2, ("pca", "ica"), 1, tmp_path / "out.json")
    directions.main(args)
    found = json.loads((tmp_path / "out.json").read_text())
    assert [(row["method"], row["states"]) for row in found["rows"]] == [
        ("pca", 4000),
        ("ica", 4000),
        ("pca", 8000),
        ("ica", 8000),
    ]
    assert all(
        row["cpu_s"] > 0 and row["peak_bytes"] > 1e7 and 0 < row["explained"] < 1 and row["within"]
        for row in found["rows"]
    )
    assert found["rows"][1]["fit_on"] < 4000
    assert found["threads"] == 1


def test_every_method_has_its_fit():
    assert tuple(directions.FITS) == directions.METHODS == directions.Args().methods


def test_growth_is_the_exponent_and_bounds_are_bounds():
    sizes = ((1, 10, 2.0, 1e9), (10, 100, 200.0, 1e9), (10, 10, 20.0, 7e9), (700, 20, 40.0, 1e9))
    rows = [
        {"method": "a" if i < 2 else "b", "clock_s": c, "states": n, "cpu_s": s, "peak_bytes": p}
        for i, (c, n, s, p) in enumerate(sizes)
    ]
    found = directions.with_growth(rows)
    assert [row["growth"] for row in found] == [None, pytest.approx(2), None, pytest.approx(1)]
    assert [row["within"] for row in found] == [True, True, False, False]


def test_the_states_are_wide_bounded_and_in_levels():
    x, groups = directions.made_states(70_000, 16)
    assert x.shape == (70_000, 16)
    assert np.abs(x).max() <= 1
    assert x.std(0).min() > 0.1
    assert np.bincount(groups).max() == directions.STEPS_PER_LEVEL
    assert np.array_equal(x, directions.made_states(70_000, 16)[0])
    assert not np.array_equal(x, directions.made_states(70_000, 16, 1)[0])
