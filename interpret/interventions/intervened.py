"""A policy whose hidden state is edited between `advance` and `heads`, or after the heads have read it."""

import torch

from common.policy import Policy, PolicyWrapper
from common.runs import UsageError
from interpret.interventions.edit import Condition, Edit
from interpret.interventions.interventions import Interventions
from interpret.interventions.score_edits import ScoreEdits, grouped


class Intervened(PolicyWrapper):
    """A Policy under interventions, in the simulator, in recordings and in forks alike.

    Its state [N, 2 D + 1] holds what the heads read, what the next step remembers (both the same unless an
    edit acts after the heads), and the number of steps since the start. A state [N, D] of the policy itself
    is taken as a start. `hidden` is what the next step remembers. Differentiable.

    Args:
        policy: with a state [N, D] that is its hidden state.
        interventions: on its device.

    Raises:
        UsageError: directions of another width, or a condition on the value of a policy without one.
    """

    def __init__(self, policy: Policy, interventions: Interventions):
        super().__init__(policy)
        self.interventions = interventions
        start = policy.initial_state(1)
        self.width = start.shape[-1]
        for directions in interventions.sets.values():
            if directions.width != self.width:
                raise UsageError(
                    f"the policy's state has width {self.width}, and the directions {directions.width}: fit "
                    "directions on this agent's hidden states"
                )
        conditions = [edit.condition for edit in interventions.edits if edit.condition is not None]
        if any(one.function == "value" for one in conditions) and policy.heads(start)[1] is None:
            raise UsageError("a condition reads the value, and this policy has no value head")
        self.before_heads = grouped(interventions, before_heads=True)
        self.after_heads = grouped(interventions, before_heads=False)

    def initial_state(self, n, target_return=None):
        return self._joined(self.policy.initial_state(n, target_return))

    def advance(self, obs, state, first, reward):
        memory, step = self._entering(state, first)
        x = self.policy.advance(obs, memory, first, reward)
        shown = self._edited(self.before_heads, x, x, memory, step)
        kept = self._edited(self.after_heads, shown, x, memory, step)
        return torch.cat([shown, kept, (step + 1)[:, None].to(shown.dtype)], -1)

    def heads(self, state):
        return self.policy.heads(self._parts(state)[0])

    def hidden(self, state):
        return self.policy.hidden(self._parts(state)[1])

    def _joined(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x, x.new_zeros(len(x), 1)], -1)

    def _parts(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the heads read, what is remembered, and the step count [N]."""
        wide = state if state.shape[-1] == 2 * self.width + 1 else self._joined(state)
        shown, memory, step = wide.split([self.width, self.width, 1], -1)
        return shown.contiguous(), memory.contiguous(), step[:, 0].long()

    def _entering(self, state, first) -> tuple[torch.Tensor, torch.Tensor]:
        """Memory and step count before an observation, reset where it opens an episode."""
        _, memory, step = self._parts(state)
        opening = self.policy.initial_state(len(memory))
        return torch.where(first[:, None], opening, memory), step.masked_fill(first, 0)

    def _edited(self, groups: list[ScoreEdits], x, seen, memory, step) -> torch.Tensor:
        """States [N, D] after some groups of edits. Conditions read `seen`, the state before any edit."""
        for group in groups:
            x = group.apply(x, memory, step, [self._active(edit, seen, step) for edit in group.edits])
        if groups and not torch.isfinite(x).all():
            raise UsageError(
                f"the hidden state is not finite after the edits {[edit.kind for edit in group.edits]}: "
                "give smaller values"
            )
        return x

    def _active(self, edit: Edit, seen: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Where an edit acts [N] bool."""
        active = torch.ones_like(step, dtype=torch.bool)
        if edit.window is not None:
            active = (step >= edit.window[0]) & (step < edit.window[1])
        return active if edit.condition is None else active & self._holds(edit.condition, seen)

    def _holds(self, condition: Condition, seen: torch.Tensor) -> torch.Tensor:
        value = self._function(condition, seen)
        holds = torch.ones_like(value, dtype=torch.bool)
        if condition.above is not None:
            holds = holds & (value > condition.above)
        return holds if condition.below is None else holds & (value < condition.below)

    def _function(self, condition: Condition, seen: torch.Tensor) -> torch.Tensor:
        if condition.function == "score":
            return self.interventions.sets[condition.direction_set].scores(seen)[:, condition.index]
        logits, value = self.policy.heads(seen)
        return value if condition.function == "value" else torch.softmax(logits, -1)[:, condition.index]
