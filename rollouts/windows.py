"""Windows: batches of equally long stretches of episodes, for models and analyses alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from rollouts.segment import Segment

if TYPE_CHECKING:
    from rollouts.fields import Field
    from rollouts.labels import Labels
    from rollouts.store import Rollouts

_SEGMENT_STEPS = (
    "obs",
    "action",
    "reward",
    "terminated",
    "truncated",
    "value",
    "logits",
    "log_prob",
    "hidden",
)


def window_table(lengths: np.ndarray, length: int, anchor: str, pad: str, min_steps: int) -> np.ndarray:
    """Lists all windows of `length` steps.

    Args:
        lengths: episode lengths [E].
        length: steps of a window.
        anchor: "start" (a window begins at every step) or "end" (a window ends at every step).
        pad: "right" lets windows anchored at their start extend past the end of the episode; "left" lets
            windows anchored at their end begin before its start (start is then negative); "none" keeps full
            windows only.
        min_steps: fewest real steps of a padded window.

    Returns:
        int64 [n, 2] of (episode, start).

    Raises:
        ValueError: anchor and pad do not combine, or min_steps is out of range.
    """
    if (anchor, pad) not in (("start", "right"), ("start", "none"), ("end", "left"), ("end", "none")):
        known = "anchor 'start' with pad 'right', 'end' with 'left', or either with 'none'"
        raise ValueError(f"anchor {anchor!r} with pad {pad!r} makes no windows: take {known}")
    if not 1 <= min_steps <= length:
        raise ValueError(f"min_steps must be from 1 to the window's {length} steps, not {min_steps}")
    lengths = np.asarray(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    t = np.arange(len(episode)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    start = t if anchor == "start" else t - length + 1
    steps = np.minimum(lengths[episode], start + length) - np.maximum(start, 0)
    return np.stack([episode, start], axis=1)[steps >= (length if pad == "none" else min_steps)]


class Windows:
    """Windows of `length` steps at (episode, start) in `table` [n, 2]; any start is allowed.

    A window may extend past either end of its episode. There mask is False, obs black, action the no-op,
    everything else zero; the hidden row after an episode's last step holds its final state. `labels` add
    their fields to the Segment's `extra`; those of another store raise ValueError.
    """

    def __init__(self, rollouts: "Rollouts", length: int, table: np.ndarray, labels: "Labels | None" = None):
        if labels is not None and labels.store_id != rollouts.id:
            raise ValueError(f"{labels} describe another store than {rollouts.path}: open those of this one")
        self.rollouts = rollouts
        self.length = length
        self.table = np.asarray(table, np.int64)
        self.labels = labels
        self._fields = rollouts.step_fields | (labels.fields if labels else {})
        self._extra_steps = [name for name in self._fields if name not in _SEGMENT_STEPS]
        extra = rollouts.manifest.get("extra_episode_fields", {})
        self._extra_episodes = [name for name, field in extra.items() if field["dtype"] != "str"]

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, rng: np.random.Generator, batch_size: int) -> Segment:
        """A batch of windows sampled uniformly with replacement. Raises ValueError if there are none."""
        if not len(self):
            raise ValueError(
                f"no windows of {self.length} steps in {self.rollouts.path}: ask for shorter ones"
                " or for padding"
            )
        return self.batch(rng.integers(0, len(self), batch_size))

    def batch(self, indices) -> Segment:
        """Windows `indices` [B] as a time-major Segment."""
        episode, start = self.table[indices].T
        step = start[:, None] + np.arange(self.length + 1)  # [B, T + 1], step of the episode in each row
        table = self.rollouts.episodes
        total = table["length"][episode, None]
        inside = (step >= 0) & (step < total)
        fields = self._read(episode, step, inside, self._fields)
        b, row = np.nonzero(step == total)
        fields["hidden"][row, b] = table["final_hidden"][episode[b]]
        mask = inside[:, :-1].T
        fields["action"][~mask] = self.rollouts.manifest["noop"]
        tensors = {name: torch.from_numpy(field) for name, field in fields.items()}
        extra = {name: tensors.pop(name) for name in self._extra_steps}
        extra |= {name: torch.from_numpy(table[name][episode]) for name in self._extra_episodes}
        tensors["action"] = tensors["action"].long()
        opens = (step[:, :-1] == 0) & (not self.rollouts.simulated)
        where = {"episode": torch.from_numpy(episode.copy()), "start": torch.from_numpy(start.copy())}
        return Segment(
            first=torch.from_numpy(opens.T.copy()),
            mask=torch.from_numpy(mask.copy()),
            extra=extra,
            **where,
            **tensors,
        )

    def frames(self, indices) -> np.ndarray:
        """The frames alone of windows `indices` [B]: [T, B, H, W, C] uint8, black outside episodes."""
        episode, start = self.table[indices].T
        step = start[:, None] + np.arange(self.length + 1)
        inside = (step >= 0) & (step < self.rollouts.episodes["length"][episode, None])
        return self._read(episode, step, inside, {"obs": self._fields["obs"]})["obs"]

    def _read(
        self, episode: np.ndarray, step: np.ndarray, inside: np.ndarray, fields: Mapping[str, "Field"]
    ) -> dict[str, np.ndarray]:
        """The fields, [T, B, ...] ([T + 1, B, D] for hidden), zero outside episodes; one read per field and
        shard.
        """
        table = self.rollouts.episodes
        rows = table["offset"][episode, None] + step
        shard = table["shard"][episode]
        height = {name: self.length + (name == "hidden") for name in fields}
        # checks the declared shapes before memory is allocated
        sources = {index: self.rollouts.shard(index) for index in np.unique(shard)}
        out = {
            name: np.zeros((height[name], len(episode), *field.shape), field.dtype)
            for name, field in fields.items()
        }
        for index, source in sources.items():
            here = inside & (shard == index)[:, None]
            places = {self.length: np.nonzero(here[:, :-1]), self.length + 1: np.nonzero(here)}
            for name, target in out.items():
                b, t = places[height[name]]
                if name in self.rollouts.step_fields:
                    target[t, b] = source.rows(name, rows[b, t])
                else:
                    target[t, b] = self.labels.rows(index, name, rows[b, t])
        return out
