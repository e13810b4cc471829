"""What a single frame shows: a convolutional network trained on concepts directly, the baseline that a claim
about memory has to beat.

It has the agent's kind of encoder, starts from nothing, and learns all concepts together; where one is not
known it is left out of the loss.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from agents.encoders import Encoder

BATCH = 128
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
READ_AT_ONCE = 1024
FEATURES = 256


class FrameReader(nn.Module):
    """Frames [n, H, W, C] uint8 -> [n, K]: logits of truth values, and numbers in their own units."""

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


def read_from_frames(
    frames: np.ndarray,
    truth: np.ndarray,
    classes: np.ndarray,
    test: np.ndarray,
    epochs: int,
    seed: int,
    advance: Callable[[int], object] = lambda frames: None,
    precision: str = "auto",
) -> np.ndarray:
    """What a network trained on the other rows reads from the rows numbered `test`, [len(test), K].

    frames [n, H, W, C] uint8; truth [n, K], NaN where not known; classes [K]: which are truth values.
    advance: told of training frames as they are done. precision: of the convolutions (common/precision.py).
    """
    generator = np.random.default_rng([seed, 12])
    train = np.setdiff1d(np.arange(len(frames)), test)
    torch.manual_seed(seed)
    mean, std = (
        torch.from_numpy(moment(truth[train], 0).astype(np.float32)) for moment in (np.nanmean, np.nanstd)
    )
    is_class = torch.from_numpy(classes)
    mean, std = mean.masked_fill(is_class, 0.0), std.masked_fill(is_class, 1.0)
    reader = FrameReader(frames.shape[1:], mean, std, precision)
    optimizer = torch.optim.AdamW(
        reader.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * -(-len(train) // BATCH)
    )
    for _ in range(epochs):
        order = generator.permutation(train)
        for rows in np.array_split(order, range(BATCH, len(order), BATCH)):
            loss = _loss(reader(torch.from_numpy(frames[rows])), torch.from_numpy(truth[rows]), is_class, std)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(len(rows))
    reader.eval()
    with torch.inference_mode():
        read = [
            reader(torch.from_numpy(frames[rows]))
            for rows in np.array_split(test, range(READ_AT_ONCE, len(test), READ_AT_ONCE))
        ]
    return torch.cat(read).numpy()


def _loss(read: torch.Tensor, truth: torch.Tensor, is_class: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The mean over concepts of what is known of them: cross-entropy of truth values, squared error of
    numbers in standard deviations.
    """
    known = truth.isfinite()
    target = torch.where(known, truth, 0.0)
    entropy = F.binary_cross_entropy_with_logits(read, target.clamp(0, 1), reduction="none")
    error = torch.where(is_class, entropy, ((read - target) / std).square())
    return (error * known).sum(0).div(known.sum(0).clamp(min=1)).mean()
