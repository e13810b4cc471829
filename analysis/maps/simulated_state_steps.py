"""The steps that map simulated states: their names, what makes them, and what their grids are coloured by."""

from typing import NamedTuple

from analysis.plotting.colourings import HIDDEN, Colouring

_SHARED = {how.label: how for how in HIDDEN}
_MORE = {
    how.label: how
    for how in (
        Colouring("nmf", "strongest NMF part", "classes"),
        Colouring("reward", "reward expected here", "scale", "viridis"),
        Colouring("ever_done", "episode that the model ends", "flag"),
        Colouring("max_reward", "largest reward expected", "scale", "viridis"),
        Colouring("t", "simulated step", "scale", "plasma"),
        Colouring("moving", "cluster of the changes", "classes"),
        Colouring("behaviour", "behaviour of the episode", "classes"),
    )
}


class Step(NamedTuple):
    """name: of its directories. version: of its numbers. command: what makes it. title, space: for people.
    colourings: of its grid.
    """

    name: str
    version: int
    command: str
    title: str
    space: str
    colourings: tuple[Colouring, ...]


def _step(name: str, title: str, space: str, colourings: str) -> Step:
    of = _SHARED | _MORE
    return Step(
        name,
        2,
        f"python analysis/{name}_precompute.py --data_dir STORE",
        title,
        space,
        tuple(of[label] for label in colourings.split()),
    )


ENV_H = _step(
    "env_h_analysis",
    "Environment states",
    "principal components of the environment's standardised state",
    "entropy likeliest cluster nmf done ever_done value max_reward reward",
)
SML = _step(
    "sml_analysis",
    "The sensorimotor loop",
    "what the agent sees, the environment's state, the agent's, and its choice, each with the same weight",
    "entropy likeliest cluster moving nmf ever_done value max_reward reward",
)
COMBINED = _step(
    "combined_agent_env_hx_analysis",
    "Behaviours",
    "agent and environment states with how they change over the next steps, each with the same weight",
    "entropy likeliest cluster behaviour t ever_done value max_reward reward",
)
