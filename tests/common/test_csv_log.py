"""The last row of a training log is the same to a run that wrote it and to one that reads it."""

import json

import pytest

from common.csv_log import CsvLog

COLUMNS = ("step", "loss", "wall_time", "stage", "val_loss")
ROW = {"step": 3, "stage": "joint", "wall_time": 10.0, "loss": 1e-05}


def test_the_last_row_is_the_same_read_as_written(tmp_path):
    written = CsvLog(tmp_path / "log.csv", COLUMNS, 0)
    assert written.last == {}
    written.write({"step": 2, "loss": float("nan"), "wall_time": 1.0})
    written.write(ROW)
    written.close()
    read = CsvLog(tmp_path / "log.csv", COLUMNS, 3)
    assert read.last == written.last == ROW
    assert json.dumps(read.last) == json.dumps(written.last)  # types and order, too
    assert read.wall_time == 10.0
    earlier = CsvLog(tmp_path / "log.csv", COLUMNS, 2)
    assert list(earlier.last) == ["step", "loss", "wall_time"]
    assert earlier.last["loss"] != earlier.last["loss"]
    assert earlier.last["wall_time"] == pytest.approx(1.0)
