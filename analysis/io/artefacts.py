"""Arrays of a run, each part one safetensors file, and columns and captions for fork points."""

from collections.abc import Callable

import numpy as np
import torch

from common.checkpoints import load_checkpoint, save_checkpoint
from common.runs import Run
from common.words import counted
from interpret.forks.fork_points import ForkPoints


def cached_part(run: Run, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of one part of a run: read if the file exists, else computed and written."""
    path = run.dir / f"{name}.safetensors"
    if not path.exists():
        arrays = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in compute().items()}
        save_checkpoint(path, arrays, {"part": name})
    return {key: value.numpy() for key, value in load_checkpoint(path)[0].items()}


def fork_point_columns(points: ForkPoints) -> dict[str, np.ndarray]:
    """Episode, step, level and layout number of each fork point: [M] each."""
    layout = np.unique(points.layout, return_inverse=True)[1]
    return {"episode": points.episode, "step": points.step, "level": points.level, "layout": layout}


def counts_and_levels(columns: dict[str, np.ndarray]) -> tuple[str, str]:
    """For captions: the number of fork points and layouts, and the range of levels."""
    level = columns["level"]
    points = counted(len(level), "fork point")
    layouts = counted(len(np.unique(columns["layout"])), "layout")
    return f"{points} on {layouts}", f"{level.min()}-{level.max()}"
