"""Copies numbers and figures of finished steps to where documentation pages quote them."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.checkpoints import write_json


def publish(args: PlotArgs, numbers: dict, figures: Sequence[Path]) -> None:
    """Writes numbers to --results and copies figures to --images, if these are given."""
    if args.results:
        write_json(args.results, round_numbers(numbers))
    for figure in figures if args.images else ():
        args.images.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(figure, args.images / figure.name)
    logging.info("figures: %s", ", ".join(map(str, figures)))


def round_numbers(value):
    """JSON content with floats rounded to four places."""
    if isinstance(value, dict):
        return {name: round_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [round_numbers(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
