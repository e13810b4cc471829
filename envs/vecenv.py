"""The VecEnv protocol: N environments stepped together, as in gym3, which Procgen implements natively."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class ActionSpace:
    """An environment's discrete actions.

    Attributes:
        names: one per action.
        noop: the action without effect.
        effect_classes: for each action, the representative of all actions with the same effect, whose name
            stands for them.
    """

    names: tuple[str, ...]
    noop: int
    effect_classes: tuple[int, ...]

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Actions whose names share a direction, by group: leftwards, rightwards, upwards, downwards."""
        words = {"leftwards": "left", "rightwards": "right", "upwards": "up", "downwards": "down"}
        members = {
            group: tuple(i for i, name in enumerate(self.names) if word in name.split("-"))
            for group, word in words.items()
        }
        return {group: actions for group, actions in members.items() if actions}


def class_probabilities(logits: np.ndarray, effect_classes: Sequence[int]) -> np.ndarray:
    """Probability of each effect class [..., J] from logits [..., A]; classes by ascending representative."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    member = np.asarray(effect_classes)[:, None] == np.unique(effect_classes)
    return (shifted / shifted.sum(-1, keepdims=True)) @ member


class BadState(ValueError):
    """The bytes are not a state of this environment."""


@dataclass(frozen=True)
class Snapshot:
    """A saved state of one environment: bytes that only the environment reads, with a checksum."""

    data: bytes
    checksum: str = ""

    def __post_init__(self):
        if not self.checksum:
            object.__setattr__(self, "checksum", hashlib.sha256(self.data).hexdigest())

    def verified(self) -> bytes:
        """The bytes. Raises BadState if they do not match the checksum."""
        if hashlib.sha256(self.data).hexdigest() != self.checksum:
            raise BadState("the saved state does not match its checksum: its bytes are damaged")
        return self.data


@runtime_checkable
class VecEnv(Protocol):
    """N environments. `observe()` returns the current frames; `act` then `observe` advances by one step.

    `reward` and `info()` belong to the transition that has just finished; `first[n]` means that `obs[n]`
    opens a new episode. If the last transition ended an episode, `obs` is already the next episode's first
    frame.
    """

    num: int
    obs_shape: tuple[int, int, int]
    num_actions: int
    action_names: tuple[str, ...]
    effect_classes: tuple[int, ...]
    noop: int

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """reward [N] float32, obs [N, H, W, C] uint8, first [N] bool."""

    def act(self, action: np.ndarray) -> None:
        """Takes one action [N] in every environment."""

    def info(self) -> dict[str, np.ndarray]:
        """Arrays [N]: `terminated`, `truncated`, `level_complete` of the last transition; `level_seed` of the
        current episode.

        An environment that shows the frame at which a truncated episode stopped returns it as `final_obs` [N,
        H, W, C] uint8, valid where `truncated` is True; the learner bootstraps from its value. Procgen shows
        none.
        """


class Snapshots(Protocol):
    """An environment with bit-exact snapshots, which resumable training needs."""

    def snapshot(self, slots: Sequence[int] | None = None) -> list[Snapshot]:
        """Snapshots of the given slots (default: all)."""

    def restore(self, snapshots: Sequence[Snapshot], slots: Sequence[int] | None = None) -> None:
        """Restores snapshots into the given slots (default: all). Raises BadState, changing nothing, if one
        does not fit.
        """


class BeginsInMidEpisode(Protocol):
    """An environment whose episodes begin after the agent has seen frames (the simulator)."""

    def arriving_state(self) -> np.ndarray | None:
        """The agent's recurrent state [N, D] float32 before each episode's first frame; None if it is the
        initial state.
        """
