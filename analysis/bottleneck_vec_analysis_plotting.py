"""Draws the latents of a world model from their artefacts: posterior and prior samples in one map, and how
far q(z) is from N(0, I).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory written by the precompute step; default: the latest in
    <out_dir>/bottleneck_vec_analysis_precomp.
    """
    out_dir: Path = Path("results")
    """Directory that holds the artefacts and receives bottleneck_vec_analysis_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.steps import find_step, read_labels, read_numbers, read_part
from analysis.maps.latent_figures import draw_distance, draw_latents
from analysis.maps.latents import COMMAND, STEP, VERSION


def main(args: Args) -> None:
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    labels = read_labels(directory)
    counts = numbers["samples"]
    caption = f"{counts['informed']:,} informed and {counts['random']:,} random latents", numbers["levels"]
    out = args.out_dir / f"{STEP}_plots" / directory.name
    for kind in numbers["maps"]:
        arrays = read_part(directory, f"map_{kind}")
        draw_latents(
            kind,
            {"informed": arrays["real"], "random": arrays["random"]},
            labels,
            *caption,
            out / f"latents_{kind}",
        )
    draw_distance(
        read_part(directory, "dimensions"),
        read_part(directory, "radius"),
        numbers,
        *caption,
        out / "distance_from_prior",
    )
    logging.info("figures: %s", out)


if __name__ == "__main__":
    run_main(main, ARGS)
