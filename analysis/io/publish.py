"""What plots of finished steps share: their flags, and putting numbers and pictures where pages quote them."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.checkpoints import write_json


def publish(args: PlotArgs, numbers: dict, pictures: Sequence[Path]) -> None:
    """Puts numbers and pictures where they were asked for."""
    if args.results:
        write_json(args.results, rounded(numbers))
    for picture in pictures if args.images else ():
        args.images.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, args.images / picture.name)
    logging.info("pictures: %s", ", ".join(map(str, pictures)))


def rounded(value):
    """Numbers of JSON to four places: more is noise on a page."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
