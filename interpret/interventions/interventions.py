"""An ordered list of edits with the directions that they name: hashable, and JSON for manifests."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from common.runs import UsageError
from interpret.directions.by_kind import kind_of
from interpret.directions.directions import Directions
from interpret.interventions.edit import Edit


@dataclass(frozen=True, eq=False)
class Interventions:
    """Edits, applied one after the other, and what they refer to.

    An empty list changes nothing. Equal lists have equal ids, wherever their files lie.
    """

    edits: tuple[Edit, ...]
    sets: Mapping[str, Directions]
    """Directions by id."""
    sources: Mapping[tuple[str, int], torch.Tensor]
    """States [T + 1, D] before every step and after the last, by store id and episode of the patches."""

    def __repr__(self) -> str:
        return f"Interventions({', '.join(edit.kind for edit in self.edits) or 'none'}; {self.id})"

    def __len__(self) -> int:
        return len(self.edits)

    def description(self) -> dict:
        """JSON: the edits, with the id of each one's directions, and the fit of every set."""
        return {
            "edits": [edit.description() for edit in self.edits],
            "sets": {name: kind_of(directions) for name, directions in self.sets.items()},
            "id": self.id,
        }

    @property
    def id(self) -> str:
        """Short hash of the edits, whose sets and sources are named by their own hashes."""
        text = json.dumps([edit.description() for edit in self.edits], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def policy_id(self, agent_id: str) -> str:
        """Policy id of what an agent plays under them; that of the agent where there are none."""
        return f"{agent_id}+{self.id}" if self.edits else agent_id

    def to(self, device: torch.device | str) -> "Interventions":
        return replace(
            self,
            sets={name: one.to(device) for name, one in self.sets.items()},
            sources={name: states.to(device) for name, states in self.sources.items()},
        )


NO_INTERVENTIONS = Interventions((), {}, {})


def bind(
    edits: Sequence[Edit],
    by_kind: Mapping[str, Directions],
    sources: Mapping[tuple[str, int], torch.Tensor] | None = None,
    num_actions: int | None = None,
) -> Interventions:
    """Edits bound to directions.

    Args:
        edits: name their directions by kind, id, or, where there is one set only, not at all.
        by_kind: {kind: directions}, as `directions.by_kind.load_by_kind` reads them.
        sources: {(store, episode): states [T + 1, D]} for patches.
        num_actions: of the policy, to check conditions on actions.

    Raises:
        UsageError: an unknown set or source, a direction or action out of range, a condition or update on
            scores that have none.
    """
    sets: dict[str, Directions] = {}
    bound = []
    for edit in edits:
        directions = _chosen(edit.direction_set, by_kind)
        _check_numbers(edit.touched, directions)
        if edit.mode == "update" and not directions.linear:
            raise UsageError(
                "an update has no scores in a dictionary, whose scores are not linear: take mode state"
            )
        sets[directions.id] = directions
        edit = replace(edit, direction_set=directions.id)
        if edit.condition is not None:
            edit = replace(edit, condition=_bound_condition(edit, by_kind, sets, num_actions))
        if edit.kind == "patch":
            _check_source(edit, sources or {})
        bound.append(edit)
    return Interventions(tuple(bound), sets, dict(sources or {}))


def _bound_condition(edit: Edit, by_kind, sets: dict[str, Directions], num_actions: int | None):
    condition = edit.condition
    if condition.function == "score":
        directions = _chosen(condition.direction_set or edit.direction_set, by_kind)
        _check_numbers((condition.index,), directions)
        sets[directions.id] = directions
        return replace(condition, direction_set=directions.id)
    if condition.function == "probability" and num_actions is not None and condition.index >= num_actions:
        raise UsageError(f"no action {condition.index} for a condition: there are {num_actions}")
    return condition


def _chosen(name: str, by_kind: Mapping[str, Directions]) -> Directions:
    """The set of that kind or id; the only one where no name is given."""
    found = {one.id: one for kind, one in by_kind.items() if not name or name in (kind, one.id)}
    if len(found) == 1:
        return next(iter(found.values()))
    if not by_kind:
        raise UsageError(
            "an edit needs directions: give --direction_files, as python -m "
            "analysis.hidden_analysis_precompute writes them"
        )
    wanted = f"no directions {name!r}" if name else "the edit does not say which directions"
    raise UsageError(f"{wanted}: choose one of {', '.join(by_kind)}")


def _check_numbers(numbers: Sequence[int], directions: Directions) -> None:
    beyond = [one for one in numbers if not 0 <= one < len(directions)]
    if beyond:
        raise UsageError(
            f"no direction {beyond[0]} among the {len(directions)} of {kind_of(directions)}: give numbers "
            f"from 0 to {len(directions) - 1}"
        )


def _check_source(edit: Edit, sources: Mapping[tuple[str, int], torch.Tensor]) -> None:
    states = sources.get((edit.source, edit.episode))
    if states is None:
        raise UsageError(f"no states of episode {edit.episode} of {edit.source} for a patch")
    if not 0 <= edit.start < len(states) - 1:
        raise UsageError(f"the source of a patch has {len(states) - 1} steps, and {edit.start} is not one")
