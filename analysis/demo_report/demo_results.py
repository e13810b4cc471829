"""Where the demo's steps leave their results, and how its report writes a number."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artefacts:
    """Where each step of the line left its results. own_*: made by the demo; the others are the shipped
    ones where the game has them."""

    env_name: str
    own_agent: Path
    agent_file: Path
    scores: dict[str, dict[str, Path]]
    recording: Path
    own_model: Path
    world_model_file: Path
    own_informed: Path
    informed: Path
    random: Path
    results: Path
    num_windows: int

    @property
    def shipped(self) -> bool:
        """Whether there are a shipped agent and simulator beside the demo's own."""
        return self.agent_file != self.own_agent

    @property
    def models(self) -> dict[str, Path]:
        """World models by the names that figures give them."""
        return {"the demo's": self.own_model} | ({"shipped": self.world_model_file} if self.shipped else {})


def score_in_words(score: dict, digits: int = 2) -> str:
    if score["value"] is None:
        return "–"
    bounds = "" if score["low"] is None else f" [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"
    return f"{score['value']:.{digits}f}{bounds}"
