"""Draws a policy field: a CoinRun level whole, with what the agent does and expects at every place, as it is,
with the coin moved, and under an edit; and the differences.

Reads the artefacts of analysis.policy_field_precompute.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.interventions.policy_field_figure import draw
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.policy_field_precompute import COMMAND, STEP, VERSION


def main(args: Args) -> None:
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    figure = draw(numbers, read_part(directory, "drawn"), args.out_dir / f"{STEP}_plots" / STEP)
    publish(args, numbers, [figure])


if __name__ == "__main__":
    run_main(main, ARGS)
