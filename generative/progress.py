"""progress.csv and TensorBoard of a world model's training; cut back to the checkpoint when a run resumes."""

import csv
import io
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from agents.training_log import read_log
from common.checkpoints import write_text
from generative.losses import TERMS

MEASURES = ("loss", "psnr", *TERMS)
CLOCK_COLUMNS = ("wall_time", "frames_per_second", "wait_share")
COLUMNS = ("batch", "wall_time", *MEASURES, *(f"val_{name}" for name in MEASURES), "grad_norm", "lr", "frames_per_second", "wait_share")


class ProgressLog:
    """One row per log interval. A term that was not computed leaves its column empty."""

    def __init__(self, directory: Path, batch: int):
        self.path = directory / "progress.csv"
        rows = read_log(self.path) if self.path.exists() else []
        kept = [row for row in rows if int(row["batch"]) <= batch]  # later rows will be made again
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self.path, text.getvalue())
        self.wall_time = float(kept[-1]["wall_time"]) if kept else 0.0
        self._board = SummaryWriter(directory, purge_step=batch)

    def write(self, row: dict) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())
        for name, value in row.items():
            if name != "batch":
                self._board.add_scalar(name, value, row["batch"])

    def close(self) -> None:
        self._board.close()
