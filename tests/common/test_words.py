"""Counts in messages and captions agree with their nouns; numbers have intervals where there are any."""

import math

from common.words import counted, with_interval


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "episode") for n in (0, 1, 2, 6864)] == [
        "0 episodes",
        "1 episode",
        "2 episodes",
        "6,864 episodes",
    ]
    assert counted(2, "batch") == "2 batches"
    assert counted(2, "level or episode", "levels or episodes") == "2 levels or episodes"


def test_a_number_has_its_interval_where_there_is_one():
    assert with_interval(0.512, 0.27, 0.7) == "0.51 [0.27, 0.70]"
    assert with_interval(0.512, 0.27, 0.7, ".0%") == "51% [27%, 70%]"
    assert with_interval(0.512, None, None) == with_interval(0.512, math.nan, math.nan) == "0.51"
    assert with_interval(None, None, None) == with_interval(math.nan, 0.0, 1.0) == "undefined"
