"""What plots of finished steps share: their flags, and putting numbers and pictures where pages quote them."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.checkpoints import write_json


@dataclass
class PlotArgs:
    precomp_dir: Path | None = None
    """Directory of a finished step; left out, the latest one in out_dir."""
    results: Path | None = None
    """Also write the numbers into this JSON file, for pages to quote."""
    images: Path | None = None
    """Also copy the pictures to this directory."""
    out_dir: Path = Path("results")
    """Where the step's numbers are, and its pictures are written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


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
