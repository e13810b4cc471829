"""A world model that was trained under another split is pointed out, and no other is."""

from pathlib import Path

import pytest

from generative.compatibility import check_split
from rollouts.split import SPLIT_VERSION

COINRUN = {"env": {"env_name": "coinrun"}}


@pytest.mark.parametrize("meta", [COINRUN, COINRUN | {"split": SPLIT_VERSION - 1}])
def test_a_model_of_another_split_is_said_to_know_held_out_levels(meta, caplog):
    check_split(meta, Path("old.safetensors"))
    (record,) = caplog.records
    assert "old.safetensors was trained under split 1, and this is split 2" in record.getMessage()
    assert "train it again" in record.getMessage()


@pytest.mark.parametrize("meta", [COINRUN | {"split": SPLIT_VERSION}, {}, {"env": {"env_name": "toy"}}])
def test_a_model_of_this_split_or_of_a_game_without_grids_is_not(meta, caplog):
    check_split(meta, Path("new.safetensors"))
    assert not caplog.records
