"""Draws the levels that a Decision Transformer, a clone and their agent solve, from reports of evaluate_dt.py
with --agent_file, one for each set of levels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    scores_files: tuple[Path, ...]
    """Reports of evaluate_dt.py (--out_file), one for each set of levels; the first has all policies."""
    names: tuple[str, ...] = ()
    """Names of the sets of levels; default: those of the files."""
    results: Path | None = None
    """Also write the numbers, without single episodes, to this JSON file, for pages to quote."""
    images: Path | None = None
    """Also copy the figure to this directory."""
    out_dir: Path = Path("results")
    """Directory whose folder decision_plots receives the figure."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.comparison.level_scores import draw_levels, level_scores
from analysis.io.publish import publish
from common.descriptions import read_json
from common.runs import UsageError

REMEDY = "give the --out_file of evaluate_dt.py with --agent_file"


def read_report(path: Path) -> dict:
    """A report with an agent's row. Raises UsageError for another file."""
    try:
        report = read_json(path, REMEDY)
    except OSError as error:
        raise UsageError(f"{path} cannot be read; {REMEDY}") from error
    if "agent" not in report.get("rows", {}):
        raise UsageError(f"{path} holds no scores of an agent to compare with; {REMEDY}")
    return report


def main(args: Args) -> None:
    if not args.scores_files:
        raise UsageError(f"no scores were given; {REMEDY}")
    names = args.names or tuple(path.stem for path in args.scores_files)
    if len(names) != len(args.scores_files) or len(set(names)) != len(names):
        raise UsageError(f"--names gives {len(names)} names for {len(args.scores_files)} files: one for each")
    scores = {name: level_scores(read_report(path)) for name, path in zip(names, args.scores_files)}
    known = scores[names[0]]["rows"]
    more = {
        name: [policy for policy in found["rows"] if policy not in known] for name, found in scores.items()
    }
    if any(more.values()):
        raise UsageError(
            f"policies that the first report lacks: {more}; give the one with all policies first"
        )
    figure = draw_levels(scores, args.out_dir / "decision_plots" / "decision_levels")
    publish(args, scores, [figure])


if __name__ == "__main__":
    run_main(main, ARGS)
