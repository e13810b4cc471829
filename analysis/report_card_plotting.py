"""Draws the HTML page of a report card from its artefacts: targets, scores by step, film strips, tables."""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    run_dir: Path | None = None
    """Directory of a report card; default: the latest in results/report_card_precomp."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.model_eval.report_card_page import build_page, latest_report


def main(args: Args) -> None:
    print(build_page(args.run_dir or latest_report(Path("results/report_card_precomp"))))


if __name__ == "__main__":
    run_main(main, ARGS)
