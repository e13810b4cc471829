"""Functions of the agent or the environment that gradients are taken of, by name.

Each has one value per step and sample; it is read at one step or summed over steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from common.runs import UsageError
from envs.vecenv import ActionSpace
from interpret.attribution.trace import Trace
from interpret.directions.directions import Directions

PLAIN = ("value", "value_delta", "action", "entropy", "reward", "done")
"""Names without a parameter. value_delta: value[t + 1] - value[t]. action: log-probability of the action that
is taken. entropy: of the action distribution. reward: expected reward of the action. done: log-odds that it
ends the episode.
"""
PREDICTED = ("reward", "done")
"""Of the environment: what the simulator predicts. Frames and hidden states reach them by actions alone."""
ALL_DIRECTIONS = "hx_direction"
"""Stands for all directions of all given sets."""


@dataclass(frozen=True)
class Function:
    """A named function; `compute` gives its values [T', B] at the steps 0 .. T' - 1 that have one."""

    name: str
    compute: Callable[[Trace], torch.Tensor]

    @property
    def reads_next(self) -> bool:
        """Whether the value at a step needs the next step, too."""
        return self.name == "value_delta"

    @property
    def needs_simulator(self) -> bool:
        return self.name in PREDICTED

    def at(self, trace: Trace, step: int | Literal["sum"]) -> torch.Tensor:
        """Values [B] at a step, or summed over all steps that have one.

        Raises UsageError for a step that has none, and for a function that the trace does not have.
        """
        if self.needs_simulator and not trace.simulated:
            raise UsageError(f"{self.name} is predicted by the simulator; on recorded frames there is none")
        values = self.compute(trace)
        if step == "sum":
            return values.sum(0)
        if not 0 <= step < len(values):
            raise UsageError(
                f"no {self.name} at step {step}: the rollout has it at steps 0 to {len(values) - 1}"
            )
        return values[step]


def _stacked(name: str) -> Callable[[Trace], torch.Tensor]:
    return lambda trace: torch.stack(getattr(trace, name))


def _log_probs(trace: Trace) -> torch.Tensor:
    return torch.log_softmax(torch.stack(trace.logits), -1)


def _value_delta(trace: Trace) -> torch.Tensor:
    value = torch.stack(trace.value)
    return value[1:] - value[:-1]


def _taken(trace: Trace) -> torch.Tensor:
    return _log_probs(trace).gather(-1, trace.taken[..., None]).squeeze(-1)


def _entropy(trace: Trace) -> torch.Tensor:
    log_probs = _log_probs(trace)
    return -(log_probs.exp() * log_probs).sum(-1)


def _done(trace: Trace) -> torch.Tensor:
    """Clipped only where float32 ends: most probabilities are far below 1e-6, and have a slope."""
    done = torch.stack(trace.done)
    tiny = torch.finfo(done.dtype).tiny
    return torch.log(done.clamp(min=tiny)) - torch.log1p(-done.clamp(max=1 - torch.finfo(done.dtype).eps))


_COMPUTE = {
    "value": _stacked("value"),
    "value_delta": _value_delta,
    "action": _taken,
    "entropy": _entropy,
    "reward": _stacked("reward"),
    "done": _done,
}


def _group(actions: Sequence[int]) -> Callable[[Trace], torch.Tensor]:
    """Log of the total probability of some actions."""
    return lambda trace: _log_probs(trace)[..., list(actions)].logsumexp(-1)


def _direction(directions: Directions, index: int) -> Callable[[Trace], torch.Tensor]:
    return lambda trace: directions.scores(torch.stack(trace.hidden[1:]))[..., index]


def _unit(index: int) -> Callable[[Trace], torch.Tensor]:
    return lambda trace: torch.stack(trace.hidden[1:])[..., index]


def known_functions(
    actions: ActionSpace, directions: Mapping[str, Directions], hidden_size: int
) -> dict[str, Function]:
    """Every function by name, in a fixed order.

    Args:
        actions: of the environment. Each gives action_<name>, the log-probability of its effect class, and
            each group (leftwards, jumping, ...) the log of its total probability.
        directions: by kind. Direction d of kind k is hx_direction_<d>_<k>, the score of the hidden state
            after the frame.
        hidden_size: of the agent; unit u is hidden_<u>.
    """
    compute = dict(_COMPUTE)
    for index, name in enumerate(actions.names):
        same = [i for i, c in enumerate(actions.effect_classes) if c == actions.effect_classes[index]]
        compute[f"action_{name}"] = _group(same)
    compute |= {name: _group(members) for name, members in actions.groups.items()}
    for kind, some in directions.items():
        compute |= {f"{ALL_DIRECTIONS}_{d}_{kind}": _direction(some, d) for d in range(len(some))}
    compute |= {f"hidden_{u}": _unit(u) for u in range(hidden_size)}
    return {name: Function(name, function) for name, function in compute.items()}


def choose_functions(names: Sequence[str], known: Mapping[str, Function]) -> list[Function]:
    """The named functions; hx_direction stands for all directions.

    Raises UsageError for an unknown name, and lists the known ones.
    """
    expanded = []
    for name in names:
        every = (
            [one for one in known if one.startswith(f"{ALL_DIRECTIONS}_")]
            if name == ALL_DIRECTIONS
            else [name]
        )
        expanded += every
        if not every:
            raise UsageError("hx_direction needs directions of the hidden state; give --directions")
    unknown = [name for name in expanded if name not in known]
    if unknown:
        listed = [name for name in known if not name.startswith((f"{ALL_DIRECTIONS}_", "hidden_"))]
        raise UsageError(
            f"no function {unknown[0]!r}; there are: {', '.join(listed)}, hidden_<unit>, "
            "hx_direction_<id>_<kind>, and hx_direction for all directions"
        )
    return [known[name] for name in dict.fromkeys(expanded)]
