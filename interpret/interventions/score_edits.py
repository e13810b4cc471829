"""Arithmetic of edits: consecutive edits of one set change its scores one after the other, and the change of
the scores is written to the state at once.

Directions need not be orthogonal. If R reads and E writes the scores of the touched directions, a change d of
the scores is written by E (R E)^-1 d, so that exactly those scores are read from the result.
"""

from collections.abc import Sequence
from itertools import groupby

import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.interventions.edit import Edit
from interpret.interventions.interventions import Interventions

_WORST_CONDITION = 1e6


class ScoreEdits:
    """Consecutive edits of one set, in one mode.

    Args:
        edits: of the same direction_set and mode.
        directions: that set.
        sources: see Interventions.

    Raises:
        UsageError: the touched directions are linearly dependent.
    """

    def __init__(self, edits: Sequence[Edit], directions: Directions, sources):
        self.edits = tuple(edits)
        self.linear = directions.linear
        self.update = edits[0].mode == "update"
        touched = sorted({one for edit in edits for one in edit.touched})
        self.read = directions.read[touched]
        self.offset = directions.offset[touched]
        write = directions.write[:, touched]
        product = self.read @ write
        if not torch.linalg.cond(product) < _WORST_CONDITION:
            names = ", ".join(directions.names[one] for one in touched)
            raise UsageError(
                f"the directions {names} cannot be edited together: each is written through others"
            )
        self.write = write @ torch.linalg.inv(product)
        device = self.read.device
        maps = [edit.affine(touched) for edit in edits]
        self.maps = [tuple(torch.from_numpy(part).to(device) for part in parts) for parts in maps]
        self.places = [[touched.index(one) for one in edit.directions] for edit in edits]
        self.patches = [self._patch(edit, sources) for edit in edits]

    def _patch(self, edit: Edit, sources) -> torch.Tensor | None:
        """Scores [T, K] that a patch sets, step by step; None for other edits."""
        if edit.kind != "patch":
            return None
        states = sources[edit.source, edit.episode][edit.start :].to(self.read)
        return self._scores(states[1:], states[:-1])[0]

    def apply(self, x, memory, step, active: Sequence[torch.Tensor]) -> torch.Tensor:
        """The edited states [N, D].

        Args:
            x: [N, D], states after the observation.
            memory: [N, D], states before it.
            step: [N] integers, counted from the start.
            active: of each edit [N] bool, where it acts.
        """
        scores, raw = self._scores(x.double(), memory.double())
        wanted = scores
        for i, (edit, acts) in enumerate(zip(self.edits, active)):
            matrix, shift = self.maps[i]
            edited = wanted @ matrix.T + shift
            if self.patches[i] is not None:
                edited, acts = self._patched(wanted, self.patches[i], self.places[i], step, acts)
            if edit.strength != 1:
                edited = wanted + edit.strength * (edited - wanted)
            wanted = torch.where(acts[:, None], edited, wanted)
        change = wanted - raw
        if not self.linear:
            change = torch.where((wanted > 0) | (raw > 0), change, 0.0)
        any_active = torch.stack(list(active)).any(0)
        return torch.where(any_active[:, None], x + (change @ self.write.T).to(x.dtype), x)

    def _scores(self, x, memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [N, K] and the linear readings [N, K] behind them, which differ for a dictionary only."""
        raw = (x - memory) @ self.read.T if self.update else x @ self.read.T + self.offset
        return (raw if self.linear else raw.relu()), raw

    @staticmethod
    def _patched(scores, patch, places, step, acts):
        """Scores with those of the source at this step, and where the source has this step."""
        edited = scores.clone()
        edited[:, places] = patch[step.clamp(max=len(patch) - 1)][:, places]
        return edited, acts & (step < len(patch))


def grouped(interventions: Interventions, before_heads: bool) -> list[ScoreEdits]:
    """The edits before or after the heads, in order, as groups that are written at once."""
    edits = [edit for edit in interventions.edits if edit.before_heads == before_heads]
    groups = groupby(edits, key=lambda edit: (edit.direction_set, edit.mode))
    return [
        ScoreEdits(list(members), interventions.sets[name], interventions.sources)
        for (name, _), members in groups
    ]
