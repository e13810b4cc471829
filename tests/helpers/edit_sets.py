"""Directions of the toy agent's hidden state for tests of edits: orthogonal, oblique and a dictionary."""

import numpy as np
import torch

from interpret.directions.directions import Directions
from tests.helpers.toy_world import SIZE, toy_agent

WIDTH = 8
COUNT = 4


def oblique(seed: int = 1, count: int = COUNT) -> Directions:
    """Read rows and write columns drawn apart, so that R E is far from the identity."""
    rng = np.random.default_rng(seed)
    read, write = rng.normal(size=(count, WIDTH)), rng.normal(size=(WIDTH, count)) + np.eye(WIDTH, count)
    return _named(read, rng.normal(size=count), write, "probes")


def orthogonal(seed: int = 2, count: int = COUNT) -> Directions:
    """R E = I, with features of different scales, as PCA has them."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(WIDTH, count)))[0]
    std, mean = np.exp(rng.normal(size=WIDTH)), 0.1 * rng.normal(size=WIDTH)
    read = axes.T / std
    return _named(read, -read @ mean, std[:, None] * axes, "pca")


def dictionary(seed: int = 3) -> Directions:
    rng = np.random.default_rng(seed)
    read = rng.normal(size=(12, WIDTH))
    set_ = _named(read, 0.1 * rng.normal(size=12), read.T / 3, "dictionary")
    return Directions(set_.read, set_.offset, set_.write, set_.origin, set_.names, set_.provenance, top=5)


def _named(read, offset, write, method: str) -> Directions:
    names = [f"{method}_{i}" for i in range(len(read))]
    return Directions(read, offset, write, np.zeros(WIDTH), names, {"method": method})


def toy_frames(steps: int, count: int, seed: int = 0) -> torch.Tensor:
    """Frames [T, N, H, W, C] of noise."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (steps, count, SIZE, SIZE, 3), dtype=np.uint8))


def played(policy, frames: torch.Tensor, first: torch.Tensor | None = None, state=None):
    """Hidden states [T, N, D], logits [T, N, A] and values [T, N] of a policy that sees the frames."""
    count = frames.shape[1]
    first = torch.zeros(frames.shape[:2], dtype=torch.bool) if first is None else first
    state = policy.initial_state(count) if state is None else state
    out = []
    for obs, opens in zip(frames, first):
        state = policy.advance(obs, state, opens, torch.zeros(count))
        out.append((policy.hidden(state), *policy.heads(state)))
    return tuple(torch.stack(part) for part in zip(*out))


def agent():
    return toy_agent(WIDTH).requires_grad_(False)
