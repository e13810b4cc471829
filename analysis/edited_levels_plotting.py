"""Draws edited levels: which directions, actions and outcomes change, by the edit and by its control.

Reads the numbers of analysis.edited_levels_precompute.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.counterfactuals.edit_figure import draw
from analysis.counterfactuals.edit_summary import COMMAND, STEP, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers


def main(args: Args) -> None:
    numbers = read_numbers(find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir))
    publish(args, numbers, [draw(numbers, args.out_dir / "edited_levels_plots" / "edited_levels")])


if __name__ == "__main__":
    run_main(main, ARGS)
