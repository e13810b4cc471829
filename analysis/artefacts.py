"""What precompute steps write and plotting reads: arrays by name, one whole file per part of a run."""

from collections.abc import Callable

import numpy as np
import torch

from common.checkpoints import load_checkpoint, save_checkpoint
from common.runs import Run
from common.words import counted
from interpret.moments import Moments


def part(run: Run, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One part of a run: read where it is there, else computed and written."""
    path = run.dir / f"{name}.safetensors"
    if not path.exists():
        arrays = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in compute().items()}
        save_checkpoint(path, arrays, {"part": name})
    return {key: value.numpy() for key, value in load_checkpoint(path)[0].items()}


def moment_names(moments: Moments) -> dict[str, np.ndarray]:
    """Which moments they are: arrays [M]; layouts as numbers."""
    layout = np.unique(moments.layout, return_inverse=True)[1]
    return {"episode": moments.episode, "step": moments.step, "level": moments.level, "layout": layout}


def moments_and_levels(found: dict[str, np.ndarray]) -> tuple[str, str]:
    """For captions: how many moments, and the levels they are from."""
    level, layouts = found["level"], len(np.unique(found["layout"]))
    return f"{counted(len(level), 'moment')} on {counted(layouts, 'layout')}", f"{level.min()}-{level.max()}"
