"""The player's surroundings in every recorded frame, encoded once: what the motion stage trains on.

The stage looks at a few tiles per frame and takes little time for them, so encoding whole frames again in
every batch would cost four times as much as the training itself.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from common.checkpoints import write_atomically
from common.progress import progress_bar
from generative.model.canvas import ON_EDGE, base_tile
from generative.model.player import NEIGHBOURHOOD, centre_of
from generative.model.world_model import WorldModel
from rollouts.windows import Windows

MARGIN = 1
"""Tiles around the surroundings that are kept too, for a player who is not quite at the true place."""
SIDE = NEIGHBOURHOOD + 2 * MARGIN
_CHUNK = 256
_SCALE = 127


class MotionBatch(NamedTuple):
    """Windows [L, B]: codes [L, B, SIDE, SIDE, K] of the tiles around the true centre, pose [L, B, P],
    position [L, B, 2] in pixels, action [L, B], reward, terminated and mask [L, B], weight [B].
    """

    codes: torch.Tensor
    pose: torch.Tensor
    position: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    mask: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device) -> "MotionBatch":
        """The same on another device."""
        return MotionBatch(*(part.to(device) for part in self))


class MotionData:
    """Encoded surroundings of all steps of a store, in a file of about 1.4 KB per step.

    Args:
        model: encodes the frames.
        windows: of the store, with labels if there are some; their length does not matter.
        path: of the file; an existing one is read.
        device: that encodes.
    """

    def __init__(self, model: WorldModel, windows: Windows, path: Path, device: torch.device):
        c = model.config
        self.rollouts = windows.rollouts
        self.labels = windows.labels
        self.dtype = np.dtype(
            [
                ("codes", np.int8, (SIDE, SIDE, c.code_size)),
                ("pose", np.int8, (c.pose_size,)),
                ("position", np.float64, (2,)),
            ]
        )
        table = self.rollouts.episodes
        counts = {entry["shard"]: entry["num_steps"] for entry in self.rollouts.entries}
        shards = sorted(counts)
        begin = np.cumsum([0, *(counts[shard] for shard in shards)])
        self.begin = dict(zip(shards, begin))
        self.first = np.array([self.begin[shard] for shard in table["shard"]]) + table["offset"]
        self.last = table["length"] - 1
        self.tile = c.tile_pixels
        size = int(begin[-1])
        if not (path.exists() and path.stat().st_size == size * self.dtype.itemsize):
            write_atomically(path, lambda temporary: self._encode(model, temporary, size, device))
        self.rows = np.memmap(path, self.dtype, "r")
        self._outcomes = [
            np.concatenate(
                [self.rollouts.shard(shard).rows(name, np.arange(counts[shard])) for shard in shards]
            )
            for name in ("action", "reward", "terminated")
        ]

    def batch(self, table: np.ndarray, length: int, weight: torch.Tensor) -> MotionBatch:
        """Windows of `length` steps at (episode, start) [B, 2]; the first frame lies in tile 0, 0.

        After an end the last step is repeated, and masked.
        """
        episode, start = table.T
        step = start + np.arange(length)[:, None]
        index = self.first[episode] + np.minimum(step, self.last[episode])
        rows = self.rows[index]
        mask = step <= self.last[episode]
        action, reward, terminated = (column[index] for column in self._outcomes)
        origin = np.floor(rows["position"][:1] / self.tile + ON_EDGE) * self.tile
        return MotionBatch(
            torch.from_numpy(rows["codes"]).float() / _SCALE,
            torch.from_numpy(rows["pose"]).float() / _SCALE,
            torch.from_numpy(rows["position"] - origin).float(),
            torch.from_numpy(action.astype(np.int64)),
            torch.from_numpy(reward * mask),
            torch.from_numpy(terminated & mask),
            torch.from_numpy(mask),
            weight,
        )

    @torch.no_grad()
    def _encode(self, model: WorldModel, path: Path, size: int, device: torch.device) -> None:
        with open(path, "wb") as file:  # a full disk is an error here, and a crash in a mapped file
            os.posix_fallocate(file.fileno(), 0, size * self.dtype.itemsize)
        rows = np.memmap(path, self.dtype, "r+", shape=(size,))
        with progress_bar(total=size, unit="frame", unit_scale=True, desc="encode") as bar:
            for shard, begin in self.begin.items():
                frames = self.rollouts.shard(shard)
                position = self._positions(model, shard, device)
                for at in range(0, len(position), _CHUNK):
                    chunk = np.arange(at, min(at + _CHUNK, len(position)))
                    obs = torch.from_numpy(frames.rows("obs", chunk)).to(device)
                    out = rows[begin + chunk[0] : begin + chunk[-1] + 1]
                    out["codes"], out["pose"] = self._surroundings(model, obs, position[chunk])
                    out["position"] = position[chunk]
                    bar.update(len(chunk))
        rows.flush()

    def _positions(self, model: WorldModel, shard: int, device: torch.device) -> np.ndarray:
        """Where the frames of a shard lie [steps, 2]: from labels, else as the frames show it, every episode
        from its own origin.
        """
        table = self.rollouts.episodes
        mine = np.flatnonzero(table["shard"] == shard)
        steps = int(table["length"][mine].sum())
        if self.labels is not None:
            return np.array(self.labels.rows(shard, "position", np.arange(steps)))
        position = np.zeros((steps, 2))
        for episode in mine:
            rows = table["offset"][episode] + np.arange(table["length"][episode])
            obs = torch.from_numpy(self.rollouts.shard(shard).rows("obs", rows)).to(device)
            position[rows] = model.locate(obs[:, None]).position[:, 0].double().cpu().numpy()
        return position

    def _surroundings(self, model: WorldModel, obs: torch.Tensor, position: np.ndarray):
        """Codes [n, SIDE, SIDE, K] and pose [n, P] of frames, as int8."""
        origin = np.floor(position / self.tile + ON_EDGE) * self.tile
        at = torch.from_numpy(position - origin).float().to(obs.device)
        encoded = model.encoder(obs, at)
        first = base_tile(centre_of(at, model.config), self.tile) - SIDE // 2
        codes = take_window(encoded.codes, first, SIDE)
        return ((_SCALE * x).round().to(torch.int8).cpu().numpy() for x in (codes, encoded.pose))


def take_window(tiles: torch.Tensor, first: torch.Tensor, side: int) -> torch.Tensor:
    """The side x side tiles from `first` [N, 2] on of maps [N, h, w, C]: [N, side, side, C].

    Beyond the edge of a map its last tiles are repeated.
    """
    offset = torch.arange(side, device=tiles.device)
    rows, columns = (
        (first[:, axis, None] + offset).clamp(0, size - 1) for axis, size in enumerate(tiles.shape[1:3])
    )
    sample = torch.arange(len(tiles), device=tiles.device)[:, None, None]
    return tiles[sample, rows[:, :, None], columns[:, None]]
