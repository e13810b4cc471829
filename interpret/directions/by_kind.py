"""Files of directions of an agent's hidden state, by the kind of their fit: pca, ica, nmf, ..."""

import logging
from collections.abc import Sequence
from pathlib import Path

from common.descriptions import read_json
from common.runs import UsageError
from interpret.directions.directions import Directions, load_directions


def load_by_kind(paths: Sequence[Path], width: int, agent_id: str) -> dict[str, Directions]:
    """Directions by kind, in the order of the files.

    Args:
        paths: files of `save_directions`.
        width: of the agent's hidden state.
        agent_id: of its file.

    Raises:
        BadCheckpoint: a file holds no directions.
        UsageError: directions of another width or agent, or two files of a kind.
    """
    found: dict[str, Directions] = {}
    for path in map(Path, paths):
        directions = load_directions(path)
        kind = kind_of(directions)
        if kind in found:
            raise UsageError(f"{path} is the second file of kind {kind}: give one file of each kind")
        check_width(directions, width, path)
        check_fit_agent(directions, agent_id, path)
        found[kind] = directions
    return found


def load_one(paths: Sequence[Path], width: int, agent_id: str) -> Directions | None:
    """The directions of the one file in `paths`, None without one. Raises as `load_by_kind`, and UsageError
    for several files.
    """
    if len(paths) > 1:
        raise UsageError(f"--direction_files takes one file here, not {len(paths)}")
    return next(iter(load_by_kind(paths, width, agent_id).values()), None)


def kind_of(directions: Directions) -> str:
    """The method of the fit as one word: pca, ica, nmf, dictionary, ridge_probes, ..."""
    return directions.provenance.get("method", "unnamed").replace(" ", "_")


def check_width(directions: Directions, width: int, path: Path) -> None:
    """Raises UsageError for directions that are not of the hidden state."""
    if directions.width != width:
        raise UsageError(
            f"{path} holds directions of width {directions.width}, and hidden states have {width}; give "
            "directions that were fit on this agent's hidden states"
        )


def check_fit_agent(directions: Directions, agent_id: str, path: Path) -> None:
    """Raises UsageError for directions fit on another agent; warns where no agent is on record."""
    agents = fit_agents(directions, path)
    if not agents:
        logging.warning("%s does not say which agent its directions were fit on", path)
    elif agent_id not in agents:
        raise UsageError(
            f"{path} was fit on agent {', '.join(agents)}, not on {agent_id}: give that agent, or fit "
            "directions on this one"
        )


def fit_agents(directions: Directions, path: Path) -> list[str]:
    """Ids of the agents whose states were fit: from the provenance, or from numbers.json next to the file;
    none where neither names one.
    """
    if "agent" in directions.provenance:
        return [directions.provenance["agent"]]
    numbers = Path(path).parent / "numbers.json"
    stores = read_json(numbers, "compute the step again").get("stores") if numbers.exists() else None
    return list((stores or {}).get("agents", ()))
