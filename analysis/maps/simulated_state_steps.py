"""The precompute steps that map simulated states: name, command and colourings of each."""

from typing import NamedTuple

from analysis.plotting.colourings import HIDDEN_COLOURINGS, Colouring

_SIMULATED = (
    Colouring("nmf", "strongest NMF component", "classes"),
    Colouring("reward", "predicted reward", "scale", "viridis"),
    Colouring("ever_done", "episode that the model ends", "flag"),
    Colouring("max_reward", "largest predicted reward", "scale", "viridis"),
    Colouring("t", "simulated step", "scale", "plasma"),
    Colouring("moving", "cluster of state and change", "classes"),
    Colouring("behaviour", "behaviour of the episode", "classes"),
)
_BY_LABEL = {colouring.label: colouring for colouring in (*HIDDEN_COLOURINGS, *_SIMULATED)}


class MapStep(NamedTuple):
    """A precompute step that maps simulated states.

    Args:
        name: of its directories.
        version: of its artefacts.
        command: that computes it.
        title: of its page.
        space: what a point represents, in words.
        colourings: of its figures.
    """

    name: str
    version: int
    command: str
    title: str
    space: str
    colourings: tuple[Colouring, ...]


def _step(name: str, title: str, space: str, labels: str) -> MapStep:
    command = f"python analysis/{name}_precompute.py --data_dir STORE"
    return MapStep(name, 2, command, title, space, tuple(_BY_LABEL[label] for label in labels.split()))


ENV_H = _step(
    "env_h_analysis",
    "Environment states",
    "principal components of the world model's standardised environment state",
    "entropy likeliest cluster nmf done ever_done value max_reward reward",
)
SML = _step(
    "sml_analysis",
    "The sensorimotor loop",
    "encoder output, environment state, agent state and policy, each with equal weight",
    "entropy likeliest cluster moving nmf ever_done value max_reward reward",
)
COMBINED = _step(
    "combined_agent_env_hx_analysis",
    "Behaviours",
    "agent and environment states and their changes over the next steps, each with equal weight",
    "entropy likeliest cluster behaviour t ever_done value max_reward reward",
)
JACOBIAN = _step(
    "jacobian_analysis",
    "Jacobians",
    "principal components of the Jacobian of all scores with respect to the states of agent and environment",
    "cluster value entropy likeliest taken ever_done max_reward reward done",
)._replace(
    version=1,
    command=(
        "python analysis/jacobian_analysis_precompute.py --world_model_file MODEL --agent_file AGENT "
        "--data_dir STORE"
    ),
)
