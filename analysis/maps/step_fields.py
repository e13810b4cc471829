"""States of chosen episodes or steps of a store, read piece by piece, and what captions say of where they are
from.
"""

from collections.abc import Iterator

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from rollouts.store import Rollouts

_PIECE = 1024
"""Steps that are in memory at a time."""


def steps_of(rollouts: Rollouts, episodes: np.ndarray) -> np.ndarray:
    """[num_steps] bool: the steps of these episodes."""
    return np.repeat(np.isin(np.arange(len(rollouts)), episodes), rollouts.episodes["length"])


def groups_of(rollouts: Rollouts) -> np.ndarray:
    """What episodes have in common [E]: their level, the recorded episode that simulated ones begin from, or
    nothing, for random latents.
    """
    if not rollouts.simulated:
        return rollouts.episodes["level_seed"]
    source = rollouts.episodes["source_episode"]
    return np.where(source >= 0, source, -1 - np.arange(len(source)))


def pieces(rollouts: Rollouts, field: str, kept: np.ndarray) -> Iterator[np.ndarray]:
    """A step field, or `hidden_after`, at the kept steps ([num_steps] bool), in order: pieces [m, ...] as
    they are stored.

    Raises UsageError where the store does not have the field.
    """
    if field != "hidden_after" and field not in rollouts.step_fields:
        way_out = (
            "record it with record_gen_samples.py and without --env_state none"
            if field == "env_state"
            else "choose another store"
        )
        raise UsageError(f"{rollouts.path} holds no {field}: {way_out}")
    at = 0
    for chunk in rollouts.chunks(field):
        rows = np.flatnonzero(kept[at : at + len(chunk)])
        for begin in range(0, len(rows), _PIECE):
            yield chunk[rows[begin : begin + _PIECE]]
        at += len(chunk)


def column(rollouts: Rollouts, field: str, kept: np.ndarray) -> np.ndarray:
    """A step field at the kept steps, whole: [n, ...]."""
    return np.concatenate(list(pieces(rollouts, field, kept)))


def scores(rollouts: Rollouts, field: str, directions: Directions, kept: np.ndarray) -> np.ndarray:
    """Scores [n, K] float32 of a field's states at the kept steps. Raises UsageError where the directions are
    of another width.
    """
    found = []
    for piece in pieces(rollouts, field, kept):
        if piece.shape[1:] != (directions.width,):
            held = f"the {field} of {rollouts.path}, which is {piece.shape[1]} wide"
            raise UsageError(
                f"directions of width {directions.width} cannot read {held}: give those fit on it"
            )
        found.append(directions.scores(torch.from_numpy(piece.astype(np.float32))).numpy())
    return np.concatenate(found)


def levels_of(rollouts: Rollouts, kept: np.ndarray) -> str:
    """For captions: the levels that the kept steps are from, or that they are simulated."""
    if rollouts.simulated:
        begun = "recorded frames" if (rollouts.episodes["source_episode"] >= 0).any() else "random latents"
        return f"none (simulated from {begun})"
    levels = rollouts.episodes["level_seed"][np.unique(rollouts.step_table()[kept, 0])]
    return f"{levels.min()}-{levels.max()}"
