"""Places in the agent's state space that targets name: clusters of hidden states, and recorded moments."""

from collections.abc import Sequence
from pathlib import Path

import torch

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.maps.map_summary import COMMAND, STEP, VERSION
from common.runs import UsageError
from interpret.directions.by_kind import check_fit_agent
from interpret.directions.directions import load_directions
from interpret.targets.targets import Place
from rollouts.store import Rollouts


def read_clusters(directory: Path | None, agent_id: str) -> dict[str, Place]:
    """The clusters of a finished hidden-state analysis as places, cluster_0 the largest.

    Raises:
        UsageError: the analysis is not finished, or is of another agent.
    """
    if directory is None:
        return {}
    directory = find_step(Path(), STEP, VERSION, COMMAND, directory)
    pca = load_directions(directory / "pca.safetensors")
    check_fit_agent(pca, agent_id, directory / "pca.safetensors")
    space = pca.first(read_numbers(directory)["axes"])
    centres = torch.from_numpy(read_part(directory, "clusters")["centres"])
    return {f"cluster_{i}": Place(centre, space) for i, centre in enumerate(centres)}


def moments_place(rollouts: Rollouts, moments: Sequence[str]) -> dict[str, Place]:
    """The mean hidden state of recorded moments, each given as episode:step, as a place; {} for none.

    Raises:
        UsageError: for a word of another form, or a moment that the store does not have.
    """
    if not moments:
        return {}
    hidden = [rollouts.episode(e)["hidden"][t + 1] for e, t in (_moment(rollouts, word) for word in moments)]
    return {"moments": Place(torch.stack([torch.from_numpy(state) for state in hidden]).mean(0))}


def _moment(rollouts: Rollouts, word: str) -> tuple[int, int]:
    episode, _, step = word.partition(":")
    if not (episode.isdecimal() and step.isdecimal()):
        raise UsageError(f"--moments takes words such as 12:30, episode 12 at step 30, not {word!r}")
    if int(episode) >= len(rollouts):
        raise UsageError(
            f"--moments {word}: {rollouts.path} has episodes 0 to {len(rollouts) - 1}; give one of them"
        )
    length = int(rollouts.episodes["length"][int(episode)])
    if int(step) >= length:
        raise UsageError(f"--moments {word}: episode {episode} has steps 0 to {length - 1}; give one of them")
    return int(episode), int(step)
