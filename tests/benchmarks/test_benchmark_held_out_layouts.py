"""The benchmark counts, under each split, the held-out levels that have the grid of a training level."""

import json

import numpy as np
import pytest

from benchmarks.held_out_layouts import Args, count_shared, main
from common.errors import UsageError


def test_shared_grids_are_counted_by_part():
    part = np.array(["train", "train", "test", "test", "validation", "test"])
    grid = np.array(["a", "b", "a", "c", "c", "b"])
    both = np.array(["a1", "b1", "a2", "c1", "c1", "b1"])
    assert count_shared(part, grid, both) == {
        "test": {"levels": 3, "same_grid": 2, "same_first_state": 1},
        "validation": {"levels": 1, "same_grid": 0, "same_first_state": 0},
    }


def test_only_the_split_by_layout_shares_no_grid(tmp_path):
    main(Args(("coinrun",), num_levels=400, out_file=tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())["games"]["coinrun"]
    shared = {
        name: sum(part["same_grid"] for part in parts.values()) for name, parts in found["split_by"].items()
    }
    assert shared["layout"] == 0
    assert min(shared["seed"], shared["grid_and_entities"]) > 0
    assert sum(part["levels"] for part in found["parts"].values()) == found["levels"] == 400


def test_no_levels_are_refused(tmp_path):
    with pytest.raises(UsageError, match="num_levels must be at least 1"):
        main(Args(num_levels=0, out_file=tmp_path / "found.json"))
