"""The columns of progress.csv, the log of a world model's training."""

from generative.losses import TERMS

MEASURES = ("loss", "psnr", *TERMS)
CLOCK_COLUMNS = ("wall_time", "frames_per_second", "wait_share")
COLUMNS = ("batch", "wall_time", *MEASURES, *(f"val_{name}" for name in MEASURES), "grad_norm", "lr", "frames_per_second", "wait_share")
