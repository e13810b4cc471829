"""Sizes are lowered to what the data allow in one line, and too little data is refused in one line."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import memory_precompute, scene_bank
from analysis.io.size_limits import Limit, check_least, fit_sizes
from common.runs import UsageError


@dataclass
class Sizes:
    clusters: int = 32
    counts: tuple[int, ...] = (4, 8, 16)
    points: int = 100


def test_sizes_within_their_limits_are_kept_without_a_message(caplog):
    assert (
        fit_sizes(Sizes(), {"clusters": Limit(32, "64 levels"), "counts": Limit(16, "64 levels")}) == Sizes()
    )
    assert not caplog.messages


def test_all_lowered_sizes_are_named_in_one_line(caplog):
    found = fit_sizes(
        Sizes(),
        {
            "clusters": Limit(5, "10 levels"),
            "counts": Limit(9, "40 levels"),
            "points": Limit(200, "200 states"),
        },
    )
    assert found == Sizes(5, (4, 8), 100)
    assert caplog.messages == [
        "sizes are lowered to what the data allow: --clusters 32 to 5 (10 levels), "
        "--counts 4 8 16 to 4 8 (40 levels)"
    ]
    assert fit_sizes(Sizes(), {"counts": Limit(3, "12 levels")}).counts == (3,)


def test_every_shortage_is_named_at_once():
    with pytest.raises(
        UsageError,
        match="--clusters needs 2 or more, and 2 levels allow 1; "
        "--points needs 91 or more, and 40 states allow 40: record",
    ):
        fit_sizes(
            Sizes(),
            {
                "clusters": Limit(1, "2 levels", 2),
                "counts": Limit(4, "16 levels"),
                "points": Limit(40, "40 states", 91),
            },
        )


def test_every_size_below_its_least_is_named_at_once():
    check_least(Sizes(), clusters=32, counts=4, points=1)
    with pytest.raises(
        UsageError, match="^--clusters is 32: give 33 or more; --counts is 4 8 16: give 5 or more$"
    ):
        check_least(Sizes(), clusters=33, counts=5, points=1)
    with pytest.raises(UsageError, match="^--counts is empty: give 1 or more$"):
        check_least(Sizes(counts=()), counts=1)


def test_fork_points_of_the_memory_analysis_are_those_with_a_history():
    episodes = {"level_seed": np.repeat(np.arange(20), 2), "length": np.where(np.arange(40) < 24, 9, 3)}
    limits = memory_precompute.limits(SimpleNamespace(history_steps=4), SimpleNamespace(episodes=episodes))
    assert (limits["num_episodes"].most, limits["num_fork_points"].most, limits["num_fork_points"].least) == (
        20,
        12,
        10,
    )


def test_kinds_that_the_store_does_not_show_are_left_out_and_named(caplog):
    concepts = {f"{kind}_ahead": np.array([kind == "enemy"]) for kind in scene_bank.ENTITY_KINDS}
    store = SimpleNamespace(path="store")
    assert scene_bank.shown_kinds(store, concepts, ("saw", "enemy", "wall", "pit")) == ("enemy", "wall")
    assert caplog.messages == ["left out, for store shows none to copy: saw, pit"]
    with pytest.raises(UsageError, match="store shows no saw and no pit to copy"):
        scene_bank.shown_kinds(store, concepts, ("saw", "pit"))
