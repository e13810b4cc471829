"""Made-up saliency runs whose arrays are known, and the data of a panel read back from its HTML."""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from interpret.attribution.saliency_store import encode_gradients, write_batch, write_facts
from interpret.directions.directions import Directions, save_directions

FUNCTIONS = ("value", "leftwards", "entropy")
STEP, STEPS, LATER = 3, 6, 4
"""The step at which functions are read, T, and S."""
HEIGHT, WIDTH, CHANNELS = 8, 12, 3
HIDDEN = 5
ACTIONS = ("left", "right", "up", "none", "key-d")
AGENT = "agent-0"
BATCH = 8


def write_run(path: Path, count: int = 24, seed: int = 0, empty_last: Sequence[str] = (), **facts) -> Path:
    """A run of `count` samples, each of a level of its own, in batches of BATCH.

    Hidden states at STEP lie around one of two points, by the parity of the sample; those of other steps do
    not. Each map is a sum of two regions, the left and the right half of the frame, with noise.

    Args:
        path: of the run.
        count: number of samples.
        seed: of all arrays.
        empty_last: functions whose last step has no gradient.
        facts: replace those of samples.json.
    """
    rng = np.random.default_rng(seed)
    batches = [list(range(100 + at, 100 + min(at + BATCH, count))) for at in range(0, count, BATCH)]
    for index, samples in enumerate(batches):
        write_batch(path, index, _batch(rng, np.array(samples), empty_last))
    numbers = [sample for batch in batches for sample in batch]
    about = {
        "functions": list(FUNCTIONS),
        "batches": batches,
        "step": STEP,
        "steps": STEPS,
        "source": {
            "episode": [7 * sample for sample in numbers],
            "step": [sample % 50 for sample in numbers],
            "level": [5000 + sample for sample in numbers],
        },
        "action_names": list(ACTIONS),
        "inputs": {"agent_file": AGENT},
        "method": "gradient",
    }
    write_facts(path, about | facts)
    return path


def _batch(
    rng: np.random.Generator, samples: np.ndarray, empty_last: Sequence[str]
) -> dict[str, torch.Tensor]:
    n = len(samples)
    hidden = rng.normal(size=(n, STEPS, HIDDEN))
    hidden[:, STEP] = 0.1 * rng.normal(size=(n, HIDDEN)) + np.where(samples % 2, 3.0, -3.0)[:, None]
    arrays = {
        "sample": samples,
        "obs": rng.integers(0, 256, (n, STEPS, HEIGHT, WIDTH, CHANNELS), dtype=np.uint8),
        "action": rng.integers(0, len(ACTIONS), (n, STEPS)),
        "logits": rng.normal(size=(n, STEPS, len(ACTIONS))).astype(np.float32),
        "hidden": hidden.astype(np.float32),
    }
    arrays["length"] = np.full(n, STEPS)
    arrays |= {name: rng.random((n, STEPS)).astype(np.float32) for name in ("value", "reward", "done")}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for function in FUNCTIONS:
        gradients = {
            "frames": torch.from_numpy(_frame_gradients(rng, n)),
            "hidden": torch.from_numpy(rng.normal(size=(LATER + 1, n, HIDDEN)).astype(np.float32)),
        }
        if function in empty_last:
            gradients["frames"][-1] = gradients["hidden"][-1] = 0
        tensors |= encode_gradients(function, gradients)
    return tensors


def _frame_gradients(rng: np.random.Generator, n: int) -> np.ndarray:
    left = rng.random((LATER, n, 1, 1, 1)) * (np.arange(WIDTH) < WIDTH // 2)[:, None]
    right = rng.random((LATER, n, 1, 1, 1)) * (np.arange(WIDTH) >= WIDTH // 2)[:, None]
    sign = rng.choice([-1, 1], (LATER, n, HEIGHT, WIDTH, 1))
    size = left + right + 0.02 * rng.random((LATER, n, HEIGHT, WIDTH, 1))
    return (sign * size * np.ones(CHANNELS)).astype(np.float32)


def write_directions(
    path: Path, count: int = 3, seed: int = 0, width: int = HIDDEN, method: str = "ica", **facts
) -> Path:
    """A file of random directions: read, offset and write all differ. facts: of their provenance."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{method}_{i}" for i in range(count))
    shapes = (count, width), (count,), (width, count), (width,)
    parts = (torch.from_numpy(rng.normal(size=shape)) for shape in shapes)
    save_directions(path, Directions(*parts, names, {"method": method} | facts))
    return path


def read_page(path: Path) -> tuple[dict, dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Facts, table, and the arrays of every sample, decoded from the text of a page."""
    text = path.read_text()
    facts = json.loads(script_text(text, "facts"))
    clips = [_unpack(line, facts["clip"]) for line in script_text(text, "clips").split("\n")]
    return facts, _unpack(script_text(text, "table"), facts["table"]), clips


def script_text(page: str, name: str) -> str:
    (found,) = re.findall(rf'<script id="{name}" type="[^"]+">(.*?)</script>', page, re.DOTALL)
    return found


def _unpack(text: str, layout: list[dict]) -> dict[str, np.ndarray]:
    whole = gzip.decompress(base64.b64decode(text, validate=True))
    sizes = [int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize for entry in layout]
    assert sum(sizes) == len(whole)
    ends = np.cumsum(sizes)
    return {
        entry["name"]: np.frombuffer(whole[end - size : end], entry["dtype"]).reshape(entry["shape"])
        for entry, size, end in zip(layout, sizes, ends)
    }
