"""A CSV log with TensorBoard beside it; cut back to the checkpoint when a run resumes, so that no row stands
twice.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from common.checkpoints import write_text
from common.runs import UsageError


class CsvLog:
    """Appends rows to a CSV file and scalars to TensorBoard (and to a tracker with `log(row, step)`, where
    there is one).

    columns: the first counts steps, and one is `wall_time` in seconds. step: where the run goes on from;
    later rows are dropped, for they will be made again. last: the last row that was kept, or nothing. A value
    that a row lacks leaves its column empty. Raises UsageError for a log that is damaged.
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
            self.last = kept[-1] if kept else {}
            self.wall_time = float(self.last.get("wall_time", 0.0))
            writer.writerows(kept)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is damaged: mend it, or move it away, and this run goes on with a new log"
            ) from error
        write_text(path, text.getvalue())
        self._board = SummaryWriter(path.parent, purge_step=step)

    def write(self, row: dict) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())
        step = row[self.columns[0]]
        for name, value in row.items():
            if name != self.columns[0]:
                self._board.add_scalar(name, value, step)
        self._board.flush()
        if self.tracker is not None:
            self.tracker.log(row, step=step)

    def close(self) -> None:
        self._board.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV log; a last line that a kill cut short is dropped."""
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return list(csv.DictReader(whole))
