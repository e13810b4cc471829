"""The VecEnv protocol: N environments stepped together, in the gym3 manner that Procgen speaks natively."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class ActionSpace:
    """The meaning of an environment's discrete actions.

    names: one per action. noop: the action that does nothing. effect_classes: for each action the one that
    represents all actions with the same effect, so that equal entries have one effect and one name, that of
    the representative.
    """

    names: tuple[str, ...]
    noop: int
    effect_classes: tuple[int, ...]


def class_probabilities(logits: np.ndarray, effect_classes: Sequence[int]) -> np.ndarray:
    """Probability of each effect class [..., J] from logits [..., A]; classes by ascending representative."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    member = np.asarray(effect_classes)[:, None] == np.unique(effect_classes)
    return (shifted / shifted.sum(-1, keepdims=True)) @ member


class BadState(ValueError):
    """The bytes are not a state that this environment wrote."""


@dataclass(frozen=True)
class Snapshot:
    """One environment's saved state: bytes that only the environment reads, and only where they match their
    checksum.
    """

    data: bytes
    checksum: str = ""

    def __post_init__(self):
        if not self.checksum:
            object.__setattr__(self, "checksum", hashlib.sha256(self.data).hexdigest())

    def verified(self) -> bytes:
        """The bytes. Raises BadState when they are not those that the checksum was made of."""
        if hashlib.sha256(self.data).hexdigest() != self.checksum:
            raise BadState("the saved state does not match its checksum: its bytes are damaged")
        return self.data


@runtime_checkable
class VecEnv(Protocol):
    """After construction `observe()` shows the first frames; `act` then `observe` moves on by one step.

    `reward` and `info()` belong to the transition that has just finished; `first[n]` says that `obs[n]` opens
    a new episode. Where the last transition ended an episode, `obs` is already the next episode's first
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
        """Arrays [N]: `terminated`, `truncated`, `level_complete` of the transition just finished;
        `level_seed` of the episode on show.

        An environment that shows the frame at which a truncated episode stopped gives it as `final_obs` [N,
        H, W, C] uint8, which means something where `truncated` is True; the learner bootstraps from its
        value. Procgen shows none.
        """


class Snapshots(Protocol):
    """An environment whose state can be kept in a file and taken up again bit for bit: training needs it to
    be resumable.
    """

    def snapshot(self, slots: Sequence[int] | None = None) -> list[Snapshot]:
        """The saved states of the given slots (default: all)."""

    def restore(self, snapshots: Sequence[Snapshot], slots: Sequence[int] | None = None) -> None:
        """Puts saved states into the given slots (default: all). Raises BadState, and changes nothing, for
        one that does not fit.
        """


class BeginsInMidEpisode(Protocol):
    """An environment whose episodes begin where an agent has already seen something (the simulator's do)."""

    def arriving_state(self) -> np.ndarray | None:
        """The agent's recurrent state [N, D] float32 before the first frame of each slot's episode; None
        where that is its initial state.
        """
