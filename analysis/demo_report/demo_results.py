"""Where the demo's steps leave their results, and how its report writes a score."""

from dataclasses import dataclass
from pathlib import Path

from common.runs import UsageError
from common.words import with_interval

SALIENCY = "saliency"
TARGET_RUNS = "targets"
"""Directories of saliency maps and of optimised latents, in that of the analyses' artefacts."""


@dataclass(frozen=True)
class DemoResults:
    """Paths of the demo's results. own_*: trained by the demo; the others are the shipped ones for CoinRun.

    Args:
        env_name: the game.
        own_agent: agent trained by the demo.
        agent_file: agent of all further results.
        scores: {agent: {levels: scores JSON}}.
        recording: store of real rollouts.
        own_model: world model trained by the demo.
        world_model_file: world model of all further results.
        own_simulations: episodes of own_model, from recorded frames.
        simulations: episodes of world_model_file, from recorded frames.
        random_simulations: episodes of world_model_file, from random latents.
        artefacts: directory of the analyses' artefacts.
        panel: page to look through the saliency maps, next to the report.
        num_windows: held-out windows on which world models are scored.
        small_n: whether sizes are near the least ones.
        dt_scores: scores of a Decision Transformer, a clone and the agent; None for other games.
    """

    env_name: str
    own_agent: Path
    agent_file: Path
    scores: dict[str, dict[str, Path]]
    recording: Path
    own_model: Path
    world_model_file: Path
    own_simulations: Path
    simulations: Path
    random_simulations: Path
    artefacts: Path
    panel: Path
    num_windows: int
    small_n: bool = False
    dt_scores: Path | None = None

    @property
    def shipped(self) -> bool:
        """Whether a shipped agent and simulator exist besides the demo's own."""
        return self.agent_file != self.own_agent

    @property
    def models(self) -> dict[str, Path]:
        """World models by the names that figures give them."""
        return {"the demo's": self.own_model} | ({"shipped": self.world_model_file} if self.shipped else {})


def score_in_words(score: dict, digits: int = 2) -> str:
    """A score with its interval, "1.23 [1.00, 2.00]"; a dash if there is none."""
    if score["value"] is None:
        return "\N{EN DASH}"
    return with_interval(score["value"], score["low"], score["high"], f".{digits}f")


def mean_in_words(interval: dict | None, digits: int = 2) -> str:
    """A mean with its interval, "1.23 [1.00, 2.00]"."""
    if interval is None:
        return "undefined"
    return with_interval(interval["mean"], interval["low"], interval["high"], f".{digits}f")


def latest_finished(directory: Path) -> Path:
    """The run in a directory that was finished last. Raises UsageError if there is none."""
    finished = list(directory.glob("*/done.json"))
    if not finished:
        raise UsageError(f"nothing finished in {directory}; run the demo again, which computes it")
    return max(finished, key=lambda path: path.stat().st_mtime).parent
