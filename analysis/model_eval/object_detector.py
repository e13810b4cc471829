"""Detects saws, enemies, lava, crates and coins in real or simulated CoinRun frames with a small patch CNN.

Trained on real frames, whose state bytes say where everything is, with blur and noise so that softly drawn
objects are still detected, and with hard-negative mining (Felzenszwalb et al. 2010). Its errors on other real
frames bound every score that uses it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from analysis.model_eval.camera import Camera, columns_to_x, rows_to_y, x_to_columns, y_to_rows
from analysis.model_eval.frame_objects import KINDS, Objects, Scenes
from generative.training.data import seeded_generator

PATCH = 9
HIDDEN_CHANNELS = 24
BACKGROUND = len(KINDS)
"""Class of a patch without an object."""
MINING_ROUNDS = 3
EPOCHS = 10
"""Per round."""
BATCH_SIZE = 512
LEARNING_RATE = 3e-3
NEGATIVES_PER_FRAME = 16
"""Random negatives of each frame at first, and hard negatives that each round adds, at most."""
HARD_NEGATIVE_MARGIN = -1.0
"""A location is a hard negative if an object's logit exceeds the background's by more than this."""
NEGATIVE_CLEARANCE = 1
"""Pixels (a tile has 4.9): no negative is this near an object."""
SAME_KIND_RADIUS = 3
"""Pixels: non-maximum suppression among detections of one kind."""
ANY_KIND_RADIUS = 2
"""Pixels: non-maximum suppression among all detections."""
FRAMES_PER_CALL = 64


class Detector(nn.Module):
    """Fully convolutional patch classifier: images [N, C, H, W] from `padded_images` to logits
    [N, kinds + 1, H - PATCH + 1, W - PATCH + 1], the background last.
    """

    def __init__(self):
        super().__init__()
        hidden = [
            nn.Conv2d(3, HIDDEN_CHANNELS, PATCH),
            nn.ReLU(),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 1),
            nn.ReLU(),
        ]
        self.layers = nn.Sequential(*hidden, nn.Conv2d(HIDDEN_CHANNELS, BACKGROUND + 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Patches(NamedTuple):
    """Centre pixels of n patches."""

    frame: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor

    def cat(self, other: "Patches") -> "Patches":
        """The patches of both."""
        return Patches(*(torch.cat(pair) for pair in zip(self, other)))


def padded_images(frames: np.ndarray) -> torch.Tensor:
    """Images in [-0.5, 0.5] from uint8 frames [N, H, W, C]; edges repeat so that every pixel has a patch."""
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    return F.pad(x, [PATCH // 2] * 4, mode="replicate")


def fit_detector(frames: np.ndarray, scenes: Scenes, seed: int = 0) -> Detector:
    """Trains a detector; each round adds hard negatives of the one before.

    Args:
        frames: real frames [F, H, W, C] uint8.
        scenes: the objects in them.
        seed: of weights, negatives and augmentation.
    """
    generator = seeded_generator(torch.device("cpu"), seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        detector = Detector()
    near_objects = _near_objects(frames.shape, scenes)
    patches, kind = _first_examples(near_objects, scenes, generator)
    for _ in range(MINING_ROUNDS):
        _train(detector, _crop(frames, patches), kind, generator)
        negatives = _hard_negatives(detector, frames, near_objects)
        patches = patches.cat(negatives)
        kind = torch.cat([kind, torch.full((len(negatives.frame),), BACKGROUND)])
    _train(detector, _crop(frames, patches), kind, generator)
    return detector.eval().requires_grad_(False)


@torch.no_grad()
def detect(detector: Detector, frames: np.ndarray, camera: Camera) -> Objects:
    """Objects in frames, with subpixel positions in tiles.

    Args:
        detector: from `fit_detector`.
        frames: [F, H, W, C] uint8.
        camera: of the frames, [F].
    """
    chunks = enumerate(_margins(detector, frames))
    maxima = [_local_maxima(margin, i * FRAMES_PER_CALL) for i, margin in chunks]
    frame, kind, row, column = (np.concatenate(parts) for parts in zip(*maxima))
    camera = camera[frame]
    x = columns_to_x(camera, column[:, None] - 0.5)[:, 0]
    y = rows_to_y(camera, row[:, None] - 0.5)[:, 0]
    return Objects(frame, kind, x, y)


def object_pixels(objects: Objects, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Row and column [n] of the pixel at each object's centre."""
    camera = camera[objects.frame]
    place = y_to_rows(camera, objects.y[:, None])[:, 0], x_to_columns(camera, objects.x[:, None])[:, 0]
    return tuple(np.floor(pixels).astype(np.int64) for pixels in place)


def _first_examples(
    near_objects: torch.Tensor, scenes: Scenes, generator: torch.Generator
) -> tuple[Patches, torch.Tensor]:
    """Every object and random negatives, with their classes. near_objects: [F, H, W] bool."""
    objects = scenes.objects
    row, column = object_pixels(objects, scenes.camera)
    positives = Patches(*(torch.from_numpy(x) for x in (objects.frame, row, column)))
    priority = torch.rand(near_objects.shape, generator=generator).masked_fill(near_objects, -1)
    negatives = _top_locations(priority, 0.0)
    background = torch.full((len(negatives.frame),), BACKGROUND)
    return positives.cat(negatives), torch.cat([torch.from_numpy(objects.kind), background])


def _near_objects(shape: tuple[int, ...], scenes: Scenes) -> torch.Tensor:
    """[F, H, W] bool: pixels within NEGATIVE_CLEARANCE of an object's centre."""
    row, column = object_pixels(scenes.objects, scenes.camera)
    centres = torch.zeros(shape[0], 1, *shape[1:3])
    centres[scenes.objects.frame, 0, row, column] = 1
    return _window_maximum(centres, NEGATIVE_CLEARANCE)[:, 0] > 0


def _crop(frames: np.ndarray, patches: Patches) -> torch.Tensor:
    """[n, C, PATCH, PATCH] of frames [F, H, W, C]."""
    images = padded_images(frames).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    return torch.from_numpy(windows[patches.frame.numpy(), :, patches.row.numpy(), patches.column.numpy()])


def _train(detector: Detector, crops: torch.Tensor, kind: torch.Tensor, generator: torch.Generator) -> None:
    """EPOCHS of Adam; the loss weighs each class by the inverse square root of its count."""
    weight = 1 / torch.bincount(kind, minlength=BACKGROUND + 1).clamp(min=1).sqrt()
    optimizer = torch.optim.Adam(detector.parameters(), LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(kind), generator=generator).split(BATCH_SIZE):
            logits = detector(_augment(crops[batch], generator)).flatten(1)
            optimizer.zero_grad()
            F.cross_entropy(logits, kind[batch], weight).backward()
            optimizer.step()


def _augment(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Adds noise of 2% of the range, and mixes half of the crops with their own blur."""
    blurred = F.avg_pool2d(F.pad(crops, [1] * 4, mode="replicate"), 3, 1)
    share = torch.rand(len(crops), 1, 1, 1, generator=generator) * 2 - 1
    mixed = torch.lerp(crops, blurred, share.clamp(min=0))
    return mixed + 0.02 * torch.randn(mixed.shape, generator=generator)


@torch.no_grad()
def _hard_negatives(detector: Detector, frames: np.ndarray, near_objects: torch.Tensor) -> Patches:
    """Locations without an object where the detector is surest of one."""
    margin = torch.cat([chunk.amax(1) for chunk in _margins(detector, frames)])
    return _top_locations(margin.masked_fill(near_objects, -torch.inf), HARD_NEGATIVE_MARGIN)


def _top_locations(score: torch.Tensor, least: float) -> Patches:
    """The NEGATIVES_PER_FRAME highest scores of each frame [F, H, W] that are above `least`."""
    width = score.shape[2]
    top = score.flatten(1).topk(NEGATIVES_PER_FRAME, 1)
    frame, place = torch.nonzero(top.values > least, as_tuple=True)
    pixel = top.indices[frame, place]
    return Patches(frame, pixel // width, pixel % width)


def _margins(detector: Detector, frames: np.ndarray) -> Iterator[torch.Tensor]:
    """Each kind's logit minus the background's, [F', kinds, H, W], for FRAMES_PER_CALL frames at a time.

    Unlike probabilities near 1, these never tie.
    """
    for begin in range(0, len(frames), FRAMES_PER_CALL):
        logits = detector(padded_images(frames[begin : begin + FRAMES_PER_CALL]))
        yield logits[:, :BACKGROUND] - logits[:, BACKGROUND:]


def _window_maximum(x: torch.Tensor, radius: int) -> torch.Tensor:
    """Maximum over the square window around each pixel of [N, C, H, W]: over rows, then over columns."""
    size = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(x, (size, 1), 1, (radius, 0)), (1, size), 1, (0, radius))


def _local_maxima(margin: torch.Tensor, first_frame: int) -> tuple[np.ndarray, ...]:
    """Frame, kind, row and column of detections: above the background, and after non-maximum suppression.

    Rows and columns are subpixel: the mean over the 3 x 3 neighbourhood, weighted by odds.
    """
    same_kind = _window_maximum(margin, SAME_KIND_RADIUS)
    any_kind = _window_maximum(margin.amax(1, keepdim=True), ANY_KIND_RADIUS)
    is_maximum = (margin == same_kind) & (margin == any_kind) & (margin > 0)
    frame, kind, row, column = torch.nonzero(is_maximum, as_tuple=True)
    neighbourhoods = F.pad(margin, [1] * 4, value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1)
    logits = neighbourhoods[frame, kind, row, column]  # [n, 3, 3]
    weight = torch.softmax(logits.flatten(1), 1).unflatten(1, (3, 3))
    offset = torch.arange(-0.5, 2.0)  # to a pixel's centre
    subpixel_row = row + weight.sum(2) @ offset
    subpixel_column = column + weight.sum(1) @ offset
    return (
        (frame + first_frame).numpy(),
        kind.numpy(),
        subpixel_row.double().numpy(),
        subpixel_column.double().numpy(),
    )
