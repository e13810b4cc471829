"""Draws tests of registered hypotheses: a forest plot, and the simulator's effects against those in the game.

Reads the numbers of confirm.py.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.interventions import forest, prediction_figure
from analysis.interventions.confirmation import COMMAND, STEP, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers


def main(args: Args) -> None:
    numbers = read_numbers(find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir))
    out = args.out_dir / "confirmations_plots"
    figures = [forest.draw(numbers, out / "confirmations")]
    if "prediction" in numbers:
        figures.append(prediction_figure.draw(numbers, out / "prediction"))
    publish(args, numbers, figures)


if __name__ == "__main__":
    run_main(main, ARGS)
