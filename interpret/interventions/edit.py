"""Descriptions of edits of a hidden state along directions: plain values, JSON in and out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from common.descriptions import check_kinds, described, read_json
from common.runs import UsageError

KINDS = ("replace", "swap", "collapse", "scale", "clamp", "add", "patch")
PAIRED = ("replace", "swap")
VALUED = ("scale", "clamp", "add")
MODES = ("update", "state")
FUNCTIONS = ("score", "value", "probability")


@dataclass(frozen=True)
class Condition:
    """Where an edit acts: where a function of the state lies above or below a threshold (both: between).

    The state is that after the frame, before any edit of this step.
    """

    function: str
    """score (of a direction), value, or probability (of an action)."""
    index: int | None = None
    """The direction or action; None for value."""
    direction_set: str = ""
    """Of a score, as in Edit."""
    above: float | None = None
    below: float | None = None

    def __post_init__(self):
        check_kinds(self)
        if self.function not in FUNCTIONS:
            raise ValueError(f"no function {self.function!r} for a condition: {', '.join(FUNCTIONS)}")
        if (self.index is None) != (self.function == "value"):
            raise ValueError(f"a condition on a {self.function} needs an index, and only on value none")
        if self.above is None and self.below is None:
            raise ValueError("a condition needs a threshold: above, below, or both")


@dataclass(frozen=True)
class Edit:
    """One edit of the scores of some directions; its entries act at once.

    Scores s become s M^T + b. `replace` adds the score of each direction to that of its partner in `to` and
    sets it to zero, or only sets it to zero where the partner is None; `swap` exchanges the two; `collapse`
    sets to zero; `scale` multiplies by `values`, `clamp` sets to them, `add` adds them; `patch` takes the
    scores that another episode has at the same step.
    """

    kind: str
    directions: tuple[int, ...]
    to: tuple[int | None, ...] = ()
    values: tuple[float, ...] = ()
    direction_set: str = ""
    """Kind of the fit (ica) or id of the directions; may be empty where there is one set only."""
    mode: str = "update"
    """update: the scores of the change of the state at this step, without offset; state: of the state."""
    before_heads: bool = True
    """Whether this step's logits and value are read from the edited state. Otherwise they are those of the
    unedited one, and only the memory carries the edit.
    """
    window: tuple[int, int] | None = None
    """First step and the one after the last, counted from the start of the episode, fork or simulation."""
    condition: Condition | None = None
    strength: float = 1.0
    """Multiplies the change of the scores: 0.5 goes half of the way, 2 as far again."""
    source: str = ""
    """Of a patch: the store."""
    episode: int = 0
    start: int = 0
    """Of a patch: the step of the episode that is patched into step 0."""

    def __post_init__(self):
        check_kinds(self)
        self._check_words()
        self._check_lists()
        if self.window is not None and not 0 <= self.window[0] < self.window[1]:
            raise ValueError(f"the window {self.window} holds no step: give first < last, from 0 on")
        if (self.kind == "patch") != bool(self.source):
            raise ValueError("a patch, and nothing else, needs the store that its source episode is in")
        if self.kind != "patch" and (self.episode or self.start):
            raise ValueError(f"episode and start have no effect on {self.kind}: leave them out")

    def _check_words(self) -> None:
        for name, value, known in (("edit", self.kind, KINDS), ("mode", self.mode, MODES)):
            if value not in known:
                raise ValueError(f"no {name} {value!r}: choose one of {', '.join(known)}")

    def _check_lists(self) -> None:
        if not self.directions:
            raise ValueError(f"{self.kind} names no direction")
        if len(set(self.directions)) < len(self.directions):
            raise ValueError(f"{self.kind} names a direction twice: {list(self.directions)}")
        for name, wanted in (("to", self.kind in PAIRED), ("values", self.kind in VALUED)):
            given = len(getattr(self, name))
            if given != wanted * len(self.directions):
                raise ValueError(
                    f"{self.kind} has {len(self.directions)} directions and {given} entries of {name!r}: "
                    + ("give as many of each" if wanted else f"it takes no {name!r}")
                )
        both = (*self.directions, *self.to)
        if self.kind == "swap" and (None in self.to or len(set(both)) < len(both)):
            raise ValueError("swap needs pairs of different directions; None, for nothing, goes with replace")

    @property
    def touched(self) -> tuple[int, ...]:
        """Directions whose scores it may change, in ascending order."""
        return tuple(sorted({one for one in (*self.directions, *self.to) if one is not None}))

    def affine(self, order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """M [K, K] and b [K] over the directions of `order`, which hold all that it touches, at full
        strength. The identity for a patch.
        """
        place = {direction: i for i, direction in enumerate(order)}
        at = [place[direction] for direction in self.directions]
        matrix, shift = np.eye(len(order)), np.zeros(len(order))
        if self.kind in ("replace", "swap", "collapse", "clamp"):
            matrix[at, at] = 0
        for a, partner in zip(at, self.to):
            if partner is not None:
                matrix[place[partner], a] = 1
                if self.kind == "swap":
                    matrix[place[partner], place[partner]] = 0
                    matrix[a, place[partner]] = 1
        if self.kind == "scale":
            matrix[at, at] = self.values
        if self.kind in ("clamp", "add"):
            shift[at] = self.values
        return matrix, shift

    def description(self) -> dict[str, Any]:
        """JSON of the entries that differ from their defaults, and `kind` and `directions`."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        if self.condition is not None:
            given["condition"] = {k: v for k, v in asdict(self.condition).items() if v not in (None, "")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _check_entries(description: dict, kind: type, words: str) -> None:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(description) - known)
    if unknown:
        raise UsageError(f"{words} has no entry {unknown[0]!r}; it has: {', '.join(sorted(known))}")


def edit_of(description: dict) -> Edit:
    """The edit of a JSON object. Raises UsageError for anything else."""
    if not isinstance(description, dict):
        raise UsageError(f"an edit is {described(description)}: give an object with kind and directions")
    _check_entries(description, Edit, "an edit")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in description.items()}
    try:
        if isinstance(values.get("condition"), dict):
            _check_entries(values["condition"], Condition, "a condition")
            values["condition"] = Condition(**values["condition"])
        return Edit(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the edit {described(description)} is not one: {error}") from error


def read_edits(path: Path) -> tuple[Edit, ...]:
    """The edits of a JSON file, {"edits": [...]}, as manifests hold them. Raises UsageError for anything
    else.
    """
    read = read_json(path, 'give a file that holds {"edits": [...]}')
    if not isinstance(read.get("edits"), list) or not read["edits"]:
        raise UsageError(f'{path} holds no list of edits: give a file that holds {{"edits": [...]}}')
    return tuple(map(edit_of, read["edits"]))
