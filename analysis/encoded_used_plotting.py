"""Draws what directions encode against what they are used for: a point for each direction and kind of object,
in named quadrants. Reads the numbers of analysis.encoded_used_precompute.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.encoded_used_precompute import COMMAND, STEP, VERSION
from analysis.interventions.encoded_used_figure import draw
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers


def main(args: Args) -> None:
    numbers = read_numbers(find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir))
    publish(args, numbers, [draw(numbers, args.out_dir / f"{STEP}_plots" / STEP)])


if __name__ == "__main__":
    run_main(main, ARGS)
