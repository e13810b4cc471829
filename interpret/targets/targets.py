"""Targets of latent optimisation: a function raised, lowered or brought to a value, or a place in the agent's
state space that is reached. A score says how well a rollout meets its target; higher is better.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from common.runs import UsageError
from interpret.attribution.functions import Function, choose_functions
from interpret.attribution.trace import Trace
from interpret.directions.directions import Directions

RAISE, LOWER, REACH = "increase_", "decrease_", "reach_"
SYNTAX = (
    "increase_<function>, decrease_<function>, <function>=<number>, reach_cluster_<number> (with "
    "--clusters_dir) and reach_moments (with --moments)"
)


@dataclass(frozen=True)
class Target:
    """A function and what is wanted of it.

    goal: "increase", "decrease", or the value to come to.
    """

    name: str
    function: Function
    goal: Literal["increase", "decrease"] | float

    def score(self, values: torch.Tensor) -> torch.Tensor:
        """How well values of the function meet the target: the value, its negative, or minus its distance
        from the goal.
        """
        if self.goal == "increase":
            return values
        return -values if self.goal == "decrease" else -(values - self.goal).abs()

    @property
    def file_name(self) -> str:
        """The name without characters that file systems reject."""
        return self.name.replace("=", "_at_")


@dataclass(frozen=True)
class Place:
    """A point in the agent's state space.

    centre [K]: in the scores of `space`, or in hidden units where that is None.
    """

    centre: torch.Tensor
    space: Directions | None = None

    def distance(self, hidden: torch.Tensor) -> torch.Tensor:
        """Euclidean distance [...] of hidden states [..., D] from the place."""
        points = hidden if self.space is None else self.space.scores(hidden)
        return (points - self.centre.to(points)).square().sum(-1).clamp(min=1e-12).sqrt()


def choose_targets(
    names: Sequence[str], functions: Mapping[str, Function], places: Mapping[str, Place]
) -> list[Target]:
    """The named targets; hx_direction stands for all directions.

    Args:
        names: see SYNTAX.
        functions: by name (`known_functions`).
        places: by name: cluster_<number>, moments.

    Raises:
        UsageError: a name that does not follow SYNTAX, or a function or place that there is not.
    """
    found = [target for name in names for target in _targets(name, functions, places)]
    if not found:
        raise UsageError(f"--targets names nothing: give one or more of {SYNTAX}")
    return list({target.name: target for target in found}.values())


def _targets(name: str, functions: Mapping[str, Function], places: Mapping[str, Place]) -> list[Target]:
    if name.startswith(REACH):
        return [_reach(name, places)]
    for prefix, goal in ((RAISE, "increase"), (LOWER, "decrease")):
        if name.startswith(prefix):
            chosen = choose_functions([name.removeprefix(prefix)], functions)
            return [Target(prefix + one.name, one, goal) for one in chosen]
    equation = re.fullmatch(r"(.+)=(-?\d+(?:\.\d+)?)", name)
    if equation is None:
        raise UsageError(f"{name!r} is no target; there are {SYNTAX}")
    chosen = choose_functions([equation[1]], functions)
    return [Target(f"{one.name}={equation[2]}", one, float(equation[2])) for one in chosen]


def _reach(name: str, places: Mapping[str, Place]) -> Target:
    place = name.removeprefix(REACH)
    if place not in places:
        known = (
            ", ".join(REACH + one for one in places)
            or "none: give --clusters_dir or --moments (in a notebook, places)"
        )
        raise UsageError(f"{name!r} is no place that can be reached here; there are: {known}")

    def distances(trace: Trace) -> torch.Tensor:
        return places[place].distance(torch.stack(trace.hidden[1:]))

    return Target(name, Function(f"distance_to_{place}", distances), "decrease")
