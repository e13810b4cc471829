"""Finds saws, enemies, lava, crates and coins in CoinRun frames, real or simulated, with a small patch
classifier.

It is fit on real frames, whose state bytes say where everything is, with blur and noise added so that it does
not turn down a thing for being drawn softly, and it must be checked on other real frames: how often it errs
there bounds every score.
"""

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
MINING_ROUNDS = 3
EPOCHS = 10
BATCH_SIZE = 512
LEARNING_RATE = 3e-3
NEGATIVES_PER_FRAME = 16
"""Places without a thing that are drawn per frame at first, and at most the worst mistakes per frame that
each round adds.
"""
NEGATIVE_CLEARANCE = 1
SAME_KIND_RADIUS = 3
ANY_KIND_RADIUS = 2
"""Pixels (a tile has 4.9): a place within CLEAR of a thing is no example of nothing; within ALONE one kind is
found once, within OVER only the likeliest kind.
"""
HARD_NEGATIVE_MARGIN = -1.0
"""A place where a kind's score comes this near to that of nothing is a mistake worth learning from."""
FRAMES_PER_CALL = 64  # frames per call


class Detector(nn.Module):
    """Images [N, C, H, W] from `images` -> [N, kinds + 1, H - PATCH + 1, W - PATCH + 1]: unnormalised, the
    last is nothing.
    """

    def __init__(self):
        super().__init__()
        middle = [
            nn.Conv2d(3, HIDDEN_CHANNELS, PATCH),
            nn.ReLU(),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 1),
            nn.ReLU(),
        ]
        self.layers = nn.Sequential(*middle, nn.Conv2d(HIDDEN_CHANNELS, BACKGROUND + 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def padded_images(frames: np.ndarray) -> torch.Tensor:
    """uint8 frames [N, H, W, C] as images about zero, wide enough that every pixel has a whole patch; edges
    repeated.
    """
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
    return F.pad(x, [PATCH // 2] * 4, mode="replicate")


def fit_detector(frames: np.ndarray, scenes: Scenes, seed: int = 0) -> Detector:
    """A detector fit on real frames [F, H, W, C] uint8 and what stands in them. Each round adds the mistakes
    of the one before.
    """
    generator = seeded_generator(torch.device("cpu"), seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        detector = Detector()
    frame, row, column, kind = _examples(frames, scenes, generator)
    taken = _near_objects(frames.shape, scenes)
    for _ in range(MINING_ROUNDS):
        _train(detector, _patches(frames, frame, row, column), kind, generator)
        wrong = _hard_negatives(detector, frames, taken)
        nothing = torch.full((len(wrong[0]),), BACKGROUND)
        frame, row, column, kind = (
            torch.cat(pair) for pair in zip((frame, row, column, kind), (*wrong, nothing))
        )
    _train(detector, _patches(frames, frame, row, column), kind, generator)
    return detector.eval().requires_grad_(False)


@torch.no_grad()
def detect(detector: Detector, frames: np.ndarray, camera: Camera) -> Objects:
    """What is found in uint8 frames [F, H, W, C] drawn by cameras [F], at places to a fraction of a pixel, in
    tiles.
    """
    found = [
        _local_maxima(_margin(detector, frames[at : at + FRAMES_PER_CALL]), at)
        for at in range(0, len(frames), FRAMES_PER_CALL)
    ]
    frame, kind, row, column = (np.concatenate(parts) for parts in zip(*found))
    there = camera[frame]
    x = columns_to_x(there, column[:, None] - 0.5)[:, 0]
    y = rows_to_y(there, row[:, None] - 0.5)[:, 0]
    return Objects(frame, kind, x, y)


def object_pixels(objects: Objects, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Row and column [n] of the pixel in which each object's middle is drawn."""
    there = camera[objects.frame]
    place = y_to_rows(there, objects.y[:, None])[:, 0], x_to_columns(there, objects.x[:, None])[:, 0]
    return tuple(np.floor(pixels).astype(np.int64) for pixels in place)


def _examples(frames: np.ndarray, scenes: Scenes, generator: torch.Generator):
    """Frame, row, column and kind of every thing, and of places drawn where there is none."""
    things = scenes.objects
    row, column = object_pixels(things, scenes.camera)
    empty = torch.rand(frames.shape[:3], generator=generator).masked_fill(
        _near_objects(frames.shape, scenes), -1
    )
    nothing = _top_locations(empty.flatten(1), NEGATIVES_PER_FRAME, 0.0, frames.shape[2])
    known = (torch.from_numpy(x) for x in (things.frame, row, column))
    kind = torch.cat([torch.from_numpy(things.kind), torch.full((len(nothing[0]),), BACKGROUND)])
    return *(torch.cat(pair) for pair in zip(known, nothing)), kind


def _near_objects(shape: tuple[int, ...], scenes: Scenes) -> torch.Tensor:
    """[F, H, W] bool: the pixels within CLEAR of the middle of anything."""
    row, column = object_pixels(scenes.objects, scenes.camera)
    there = torch.zeros(shape[0], 1, *shape[1:3])
    there[scenes.objects.frame, 0, row, column] = 1
    return F.max_pool2d(there, 2 * NEGATIVE_CLEARANCE + 1, 1, NEGATIVE_CLEARANCE)[:, 0] > 0


def _patches(
    frames: np.ndarray, frame: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> torch.Tensor:
    """[n, C, PATCH, PATCH] around each place."""
    windows = np.lib.stride_tricks.sliding_window_view(
        padded_images(frames).numpy(), (PATCH, PATCH), axis=(2, 3)
    )
    return torch.from_numpy(windows[frame.numpy(), :, row.numpy(), column.numpy()])


def _train(detector: Detector, patches: torch.Tensor, kind: torch.Tensor, generator: torch.Generator) -> None:
    """PASSES over the examples; each kind weighs as if it were as common as the square root of its count
    says.
    """
    weight = 1 / torch.bincount(kind, minlength=BACKGROUND + 1).clamp(min=1).sqrt()
    optimizer = torch.optim.Adam(detector.parameters(), LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(kind), generator=generator).split(BATCH_SIZE):
            scores = detector(_augment(patches[batch], generator)).flatten(1)
            optimizer.zero_grad()
            F.cross_entropy(scores, kind[batch], weight).backward()
            optimizer.step()


def _augment(patches: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The patches with noise of 2% of the range, half of them mixed with their own blur."""
    blurred = F.avg_pool2d(F.pad(patches, [1] * 4, mode="replicate"), 3, 1)
    share = torch.rand(len(patches), 1, 1, 1, generator=generator) * 2 - 1
    mixed = torch.lerp(patches, blurred, share.clamp(min=0))
    return mixed + 0.02 * torch.randn(mixed.shape, generator=generator)


@torch.no_grad()
def _hard_negatives(detector: Detector, frames: np.ndarray, taken: torch.Tensor):
    """Frame, row, column of the places where the detector is surest of something that is not there."""
    sure = [
        _margin(detector, frames[at : at + FRAMES_PER_CALL]).amax(1)
        for at in range(0, len(frames), FRAMES_PER_CALL)
    ]
    return _top_locations(
        torch.cat(sure).masked_fill(taken, -torch.inf).flatten(1),
        NEGATIVES_PER_FRAME,
        HARD_NEGATIVE_MARGIN,
        frames.shape[2],
    )


def _top_locations(score: torch.Tensor, count: int, least: float, width: int):
    """Frame, row, column of the `count` highest scores of each frame [F, H * W] that are above `least`."""
    top = score.topk(count, 1)
    frame, place = torch.nonzero(top.values > least, as_tuple=True)
    pixel = top.indices[frame, place]
    return frame, pixel // width, pixel % width


def _margin(detector: Detector, frames: np.ndarray) -> torch.Tensor:
    """[F, kinds, H, W]: how far each kind's score stands above that of nothing. Unlike probabilities near 1,
    these never tie.
    """
    scores = detector(padded_images(frames))
    return scores[:, :BACKGROUND] - scores[:, BACKGROUND:]


def _local_maxima(margin: torch.Tensor, first_frame: int):
    """Frame, kind, row, column of what stands out: more than nothing, the most of its kind within ALONE, of
    any kind within OVER.

    Rows and columns are fractions of a pixel: the mean of the surroundings, weighted by odds.
    """
    largest = F.max_pool2d(margin, 2 * SAME_KIND_RADIUS + 1, 1, SAME_KIND_RADIUS)
    any_kind = F.max_pool2d(margin, 2 * ANY_KIND_RADIUS + 1, 1, ANY_KIND_RADIUS).amax(1, keepdim=True)
    frame, kind, row, column = torch.nonzero(
        (margin == largest) & (margin == any_kind) & (margin > 0), as_tuple=True
    )
    around = (
        F.pad(margin, [1] * 4, value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1)[frame, kind, row, column]
    )  # [n, 3, 3]
    weight = torch.softmax(around.flatten(1), 1).unflatten(1, (3, 3))
    offset = torch.arange(-0.5, 2.0)  # a pixel's middle lies half a pixel in
    down = weight.sum(2) @ offset
    right = weight.sum(1) @ offset
    return (
        (frame + first_frame).numpy(),
        kind.numpy(),
        (row + down).double().numpy(),
        (column + right).double().numpy(),
    )
