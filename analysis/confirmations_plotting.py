"""Draws tests of registered hypotheses: a forest plot, and the simulator's effects against those in the game.

Reads the numbers of confirm.py, or published ones: --numbers docs/results/confirmations.json.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main


@dataclass
class Args(PlotArgs):
    numbers: Path | None = None
    """A file of such numbers to draw in place of a run of confirm.py."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.interventions import forest, prediction_figure
from analysis.interventions.confirmation import COMMAND, STEP, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers
from common.descriptions import read_json
from common.runs import UsageError


def numbers_of(args: Args) -> dict:
    """The numbers to draw. Raises UsageError for a file with others."""
    if args.numbers is None:
        return read_numbers(find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir))
    if args.precomp_dir:
        raise UsageError("--numbers and --precomp_dir both say what to draw: give one of them")
    found = read_json(args.numbers, f"give the numbers of {COMMAND}")
    if "hypotheses" not in found:
        raise UsageError(f"{args.numbers} holds no tested hypotheses: give the numbers of {COMMAND}")
    return found


def main(args: Args) -> None:
    numbers = numbers_of(args)
    out = args.out_dir / "confirmations_plots"
    figures = [forest.draw(numbers, out / "confirmations")]
    if "prediction" in numbers:
        figures.append(prediction_figure.draw(numbers, out / "prediction"))
    publish(args, numbers, figures)


if __name__ == "__main__":
    run_main(main, ARGS)
