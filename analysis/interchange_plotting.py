"""Draws interchange patching: what each activation restores of the decision, by step, with its control.

Reads the numbers of analysis.interchange_precompute.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.counterfactuals.interchange_figure import draw
from analysis.counterfactuals.interchange_summary import COMMAND, STEP, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers


def main(args: Args) -> None:
    numbers = read_numbers(find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir))
    publish(args, numbers, [draw(numbers, args.out_dir / "interchange_plots" / "interchange")])


if __name__ == "__main__":
    run_main(main, ARGS)
