"""Training log: a CSV file and TensorBoard scalars, truncated to the checkpoint when a run resumes."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from common.checkpoints import write_text
from common.runs import UsageError


class CsvLog:
    """Appends rows to a CSV file and scalars to TensorBoard.

    Args:
        path: the CSV file.
        columns: column names; the first counts steps, and one is `wall_time` in seconds. Missing values leave
            a column empty.
        step: step that the run resumes from; later rows are dropped because the run repeats those steps.
        tracker: object with `log(row, step)` that receives every row as well, or None.

    Attributes:
        last: the last row, with numbers as numbers and without what is missing; it is the same whether it was
            written here or read. An empty dict if there is none.

    Raises:
        UsageError: the existing log is damaged.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int, tracker=None):
        self.path = path
        self.columns = columns
        self.tracker = tracker
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        try:
            kept = [row for row in (read_log(path) if path.exists() else []) if int(row[columns[0]]) <= step]
            self.last = {name: _value(kept[-1][name]) for name in columns if kept[-1][name]} if kept else {}
            self.wall_time = float(self.last.get("wall_time", 0.0))
            writer.writerows(kept)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is damaged: repair it, or move it away to continue with a new log"
            ) from error
        write_text(path, text.getvalue())
        self._board = SummaryWriter(path.parent, purge_step=step)

    def write(self, row: dict) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())
        self.last = {name: row[name] for name in self.columns if name in row}
        step = row[self.columns[0]]
        for name, value in row.items():
            if name != self.columns[0] and not isinstance(value, str):
                self._board.add_scalar(name, value, step)
        self._board.flush()
        if self.tracker is not None:
            self.tracker.log(row, step=step)

    def close(self) -> None:
        self._board.close()


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV log; a last line that a kill cut short is dropped. Raises UsageError for anything
    else.
    """
    try:
        lines = path.read_text().splitlines(keepends=True)
        return list(csv.DictReader(line for line in lines if line.endswith("\n")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is damaged ({error}): repair it, or move it away") from error
