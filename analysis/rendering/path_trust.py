"""Which gradients the check of gradients supports (docs/simulation.md#gradients): pictures show the others
without colour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.descriptions import read_json
from common.runs import UsageError
from interpret.attribution.functions import PREDICTED

SHIPPED_CHECK = Path(__file__).parents[2] / "docs" / "results" / "gradient_check.json"
COMMAND = "python -m analysis.gradient_check"
_CHECKED_AS = {"mixed": "agent", "total": "mixed", "environment": "environment"}
"""Path of a saliency map -> path of the check, whose `agent` is the effect of changed actions and `mixed`
that of everything. The agent's memory alone needs no estimator.
"""
_INPUTS = ("world_model_file", "agent_file")


@dataclass(frozen=True)
class PathTrust:
    """Paths of gradients that failed the check: of "total", "environment" and "mixed".

    failed: None if no check is known.
    """

    failed: tuple[str, ...] | None = ()

    def rejects(self, function: str) -> bool:
        """Whether the gradient of a stored function, <function> or <function>@<path>, with respect to frames
        failed. That of a predicted one goes through actions as a whole.
        """
        name, _, path = function.partition("@")
        carried = path or ("mixed" if name in PREDICTED else "total")
        return carried in (self.failed or ())

    @property
    def words(self) -> str:
        """For a caption."""
        if self.failed is None:
            return "gradients unchecked"
        return "grey: fails the check of gradients" if self.failed else ""


def path_trust(inputs: Mapping[str, str], recorded: bool, check: Path | None = None) -> PathTrust:
    """What a check of gradients says of maps.

    Args:
        inputs: ids of the maps' world model and agent.
        recorded: whether the maps are of recorded frames, whose gradients pass through no simulator.
        check: a gradient_check.json; by default the one of the shipped simulator, if the maps are of it.

    Raises:
        UsageError: the given check is of another world model or agent, or no check.
    """
    if recorded:
        return PathTrust()
    path = check or SHIPPED_CHECK
    theirs = _read_check(path).get("inputs", {})
    if any(theirs.get(name) != inputs.get(name) for name in _INPUTS):
        if check is None:
            return PathTrust(None)
        ids = ", ".join(f"{name} {inputs.get(name)}" for name in _INPUTS)
        raise UsageError(f"{check} is not a check of these maps' {ids}: make one with {COMMAND}")
    return PathTrust(untrusted_paths(path))


def untrusted_paths(gradient_check: Path) -> tuple[str, ...]:
    """Paths whose gradients a file of analysis.gradient_check does not confirm: of mixed, total, environment.

    Raises UsageError for another file.
    """
    paths = _read_check(gradient_check)["paths"]
    return tuple(name for name, theirs in _CHECKED_AS.items() if paths[theirs]["greyed"])


def _read_check(path: Path) -> dict:
    found = read_json(path, f"give the gradient_check.json that {COMMAND} writes")
    if "paths" not in found:
        raise UsageError(f"{path} is no result of {COMMAND}: give its file gradient_check.json")
    return found
