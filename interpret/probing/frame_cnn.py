"""A convolutional network that predicts concepts from a single frame: the baseline for claims about memory.

It has the agent's kind of encoder, is trained from scratch, and learns all concepts together.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from agents.encoders import Encoder

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
INFERENCE_BATCH_SIZE = 1024
FEATURES = 256


class FrameCNN(nn.Module):
    """Frames [B, H, W, C] uint8 -> [B, K]: logits of binary concepts, and numeric ones in their own units."""

    def __init__(
        self, obs_shape: tuple[int, int, int], mean: torch.Tensor, std: torch.Tensor, precision: str = "auto"
    ):
        super().__init__()
        self.encoder = Encoder("impala-half", obs_shape, FEATURES, precision, normalize=True)
        self.head = nn.Linear(FEATURES, len(mean))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, obs):
        return self.head(self.encoder(obs)) * self.std + self.mean


def predict_from_frames(
    frames: np.ndarray,
    truth: np.ndarray,
    classes: np.ndarray,
    test: np.ndarray,
    epochs: int,
    seed: int,
    advance: Callable[[int], object] = lambda frames: None,
    precision: str = "auto",
) -> np.ndarray:
    """Trains the network on all rows but `test` and predicts those.

    Args:
        frames: [n, H, W, C] uint8.
        truth: [n, K], NaN where a concept is not known.
        classes: [K] bool, which concepts are binary.
        test: rows to predict.
        epochs: passes over the training rows.
        seed: of weights and batches.
        advance: called with the number of training frames after each batch.
        precision: of the convolutions (common/precision.py).

    Returns:
        [len(test), K].
    """
    generator = np.random.default_rng([seed, 12])
    train = np.setdiff1d(np.arange(len(frames)), test)
    torch.manual_seed(seed)
    mean, std = (
        torch.from_numpy(statistic(truth[train], 0).astype(np.float32))
        for statistic in (np.nanmean, np.nanstd)
    )
    binary = torch.from_numpy(classes)
    mean, std = mean.masked_fill(binary, 0.0), std.masked_fill(binary, 1.0)
    network = FrameCNN(frames.shape[1:], mean, std, precision)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    num_batches = epochs * -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_batches)
    for _ in range(epochs):
        order = generator.permutation(train)
        for rows in np.array_split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
            predicted = network(torch.from_numpy(frames[rows]))
            loss = _loss(predicted, torch.from_numpy(truth[rows]), binary, std)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(len(rows))
    return _predict(network, frames, test)


def _predict(network: FrameCNN, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        batches = np.array_split(rows, range(INFERENCE_BATCH_SIZE, len(rows), INFERENCE_BATCH_SIZE))
        return torch.cat([network(torch.from_numpy(frames[batch])) for batch in batches]).numpy()


def _loss(
    predicted: torch.Tensor, truth: torch.Tensor, binary: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Mean over concepts, each over the rows in which it is known: cross-entropy of binary concepts, squared
    error of numeric ones in standard deviations.
    """
    known = truth.isfinite()
    target = torch.where(known, truth, 0.0)
    entropy = F.binary_cross_entropy_with_logits(predicted, target.clamp(0, 1), reduction="none")
    error = torch.where(binary, entropy, ((predicted - target) / std).square())
    return (error * known).sum(0).div(known.sum(0).clamp(min=1)).mean()
