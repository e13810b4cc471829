"""Step fields of a store, read in chunks: masks of steps, groups of episodes, direction scores."""

from collections.abc import Iterator

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from rollouts.store import Rollouts

_CHUNK = 1024
"""Steps held in memory at a time."""


def steps_mask(rollouts: Rollouts, episodes: np.ndarray) -> np.ndarray:
    """[num_steps] bool: the steps of these episodes."""
    return np.repeat(np.isin(np.arange(len(rollouts)), episodes), rollouts.episodes["length"])


def episode_groups(rollouts: Rollouts) -> np.ndarray:
    """Group of each episode [E] for resampling: its level, or the recorded episode that it starts from.

    Episodes that start from random latents are a group each.
    """
    if not rollouts.simulated:
        return rollouts.episodes["level_seed"]
    source = rollouts.episodes["source_episode"]
    return np.where(source >= 0, source, -1 - np.arange(len(source)))


def field_chunks(rollouts: Rollouts, field: str, mask: np.ndarray) -> Iterator[np.ndarray]:
    """Chunks [m, ...] of a step field, or of `hidden_after`, at the steps of the mask [num_steps], in order.

    Raises:
        UsageError: the store does not have the field.
    """
    if field != "hidden_after" and field not in rollouts.step_fields:
        remedy = "choose another store"
        if field == "env_state":
            remedy = "record it with record_gen_samples.py and without --env_state none"
        raise UsageError(f"{rollouts.path} holds no {field}: {remedy}")
    at = 0
    for stored in rollouts.chunks(field):
        rows = np.flatnonzero(mask[at : at + len(stored)])
        for begin in range(0, len(rows), _CHUNK):
            yield stored[rows[begin : begin + _CHUNK]]
        at += len(stored)


def direction_scores(rollouts: Rollouts, field: str, directions: Directions, mask: np.ndarray) -> np.ndarray:
    """Scores [n, K] float32 of a field at the steps of the mask.

    Raises:
        UsageError: the directions have another width than the field.
    """
    scores = []
    for chunk in field_chunks(rollouts, field, mask):
        if chunk.shape[1:] != (directions.width,):
            raise UsageError(
                f"the directions have width {directions.width}, and the {field} of {rollouts.path} has width "
                f"{chunk.shape[1]}: give directions that were fit on it"
            )
        scores.append(directions.scores(torch.from_numpy(chunk.astype(np.float32))).numpy())
    return np.concatenate(scores)


def levels_in_words(rollouts: Rollouts, mask: np.ndarray) -> str:
    """For captions: the range of levels at the steps of the mask, or what simulated episodes start from."""
    if rollouts.simulated:
        source = "recorded frames" if (rollouts.episodes["source_episode"] >= 0).any() else "random latents"
        return f"none (simulated from {source})"
    levels = rollouts.episodes["level_seed"][np.unique(rollouts.step_table()[mask, 0])]
    return f"{levels.min()}-{levels.max()}"
