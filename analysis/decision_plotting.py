"""Draws a recording by who played it, and how the return that a Decision Transformer achieves follows the one
asked for.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of recorded rollouts that the Decision Transformer was trained on."""
    dt_scores: Path | None = None
    """Scores that evaluate_dt.py wrote by --out_file, of three targets or more; left out, only the recording
    is drawn.
    """
    seed_scores: tuple[Path, ...] = ()
    """Such scores of the same model trained with other seeds, drawn as thin lines."""
    agent_files: tuple[Path, ...] = ()
    """Checkpoints that played, in the figures named by their training steps; others by their id."""
    results: Path | None = None
    """Also write the numbers of the recording, and the scores without single episodes, to this JSON file, for
    documentation pages to quote.
    """
    images: Path | None = None
    """Also copy the figures to this directory."""
    out_dir: Path = Path("results")
    """Directory whose folder decision_plots receives the figures."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import load_agent
from analysis.io.publish import publish
from analysis.plotting.decision_figures import draw_calibration, draw_data
from common.descriptions import read_json
from common.runs import UsageError, file_id
from decision.players import players, summarize_players
from decision.scores import without_episodes
from rollouts.store import Rollouts


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.data_dir)
    report = read_scores(args.dt_scores) if args.dt_scores else None
    others = [read_scores(path) for path in args.seed_scores]
    if others and not report:
        raise UsageError("--seed_scores are drawn next to --dt_scores: give that file, too")
    found = players(rollouts, names_of(args.agent_files))
    summary = summarize_players(rollouts, found)
    place = args.out_dir / "decision_plots"
    figures = [draw_data(rollouts, found, summary, place / "decision_data.png")]
    if report:
        returns = rollouts.episodes["return"]
        path = place / "decision_calibration.png"
        figures.append(draw_calibration(report, returns, summary, path, others))
    numbers = {"data": rollouts.id, "players": summary}
    numbers |= {"scores": without_episodes(report)} if report else {}
    publish(args, numbers | {"seeds": [without_episodes(one) for one in others]}, figures)


def names_of(files: tuple[Path, ...]) -> dict[str, str]:
    """Training steps of each checkpoint in words, by its id."""
    found = {}
    for path in files:
        steps = load_agent(path)[1].get("timesteps")
        if steps is None:
            raise UsageError(f"{path} does not say how long it was trained: leave it out of --agent_files")
        found[file_id(path)] = f"{steps:,} steps" if steps else "untrained"
    return found


def read_scores(path: Path) -> dict:
    """Scores of evaluate_dt.py. Raises UsageError for another file, or scores of fewer than three targets."""
    remedy = "give the --out_file of evaluate_dt.py"
    try:
        report = read_json(path, remedy)
    except OSError as error:
        raise UsageError(f"{path} cannot be read; {remedy}") from error
    if "rank_correlation" not in report or "rows" not in report:
        raise UsageError(f"{path} holds no scores of three target returns or more; {remedy}")
    return report


if __name__ == "__main__":
    run_main(main, ARGS)
