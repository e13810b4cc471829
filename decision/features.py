"""Frozen features of the PPO agent's encoder for all frames of a store, encoded once and kept in files."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.checkpoints import write_atomically
from common.progress import progress_bar
from rollouts.store import Rollouts

_CHUNK = 1024
"""Frames encoded at a time."""


def store_features(
    rollouts: Rollouts, encoder: nn.Module, directory: Path, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Features of every frame, [steps, F] float16, in the order of `Rollouts.steps`.

    Args:
        rollouts: the store.
        encoder: frames [n, H, W, C] uint8 to features [n, F].
        directory: one file per shard, named by the shard's checksum; to be the encoder's own. Files that are
            there are read; the others are made, so that a stopped command goes on where it was.
        device: where the encoder is.
    """
    paths = [directory / f"{entry['data']['sha256'][:16]}.npy" for entry in rollouts.entries]
    todo = [(entry, path) for entry, path in zip(rollouts.entries, paths) if not path.exists()]
    frames = sum(entry["num_steps"] for entry, _ in todo)
    with progress_bar(total=frames, unit="frame", desc="encode", disable=not todo) as bar:
        for entry, path in todo:
            features = _encode(rollouts.shard(entry["shard"]).column("obs"), encoder, device)
            write_atomically(path, lambda temporary, features=features: _save(temporary, features))
            bar.update(entry["num_steps"])
    parts = [np.load(path, mmap_mode="r") for path in paths]
    features = np.empty((rollouts.num_steps, parts[0].shape[1]), np.float16)
    return np.concatenate(parts, out=features)


def _save(path: Path, features: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, features)


@torch.inference_mode()
def _encode(frames: np.ndarray, encoder: nn.Module, device: torch.device | str) -> np.ndarray:
    parts = [
        encoder(torch.from_numpy(frames[i : i + _CHUNK]).to(device)).half().cpu().numpy()
        for i in range(0, len(frames), _CHUNK)
    ]
    return np.concatenate(parts)


def feature_statistics(features: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [F] over the rows [n] of features [steps, F]."""
    total = np.zeros(features.shape[1])
    squares = np.zeros(features.shape[1])
    for part in np.array_split(rows, 1 + len(rows) // 65536):
        x = features[part].astype(np.float64)
        total += x.sum(0)
        squares += (x**2).sum(0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()
