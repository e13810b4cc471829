"""The log of a world model's training, progress.csv: its columns."""

from common.throughput import CLOCK_COLUMNS
from generative.training.losses import TERMS

MEASURES = ("loss", "psnr", *TERMS)
COLUMNS = (
    "batch",
    "stage",
    "wall_time",
    *MEASURES,
    *(f"val_{name}" for name in MEASURES),
    "grad_norm",
    "lr",
    *CLOCK_COLUMNS[1:],
)
