"""Counts in messages and captions agree with their nouns."""

from common.words import counted


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "episode") for n in (0, 1, 2, 6864)] == ["0 episodes", "1 episode", "2 episodes", "6,864 episodes"]
    assert counted(2, "batch") == "2 batches" and counted(2, "level or episode", "levels or episodes") == "2 levels or episodes"
