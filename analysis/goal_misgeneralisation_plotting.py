"""Draws the goal-misgeneralisation bench: outcomes by place of the coin, coins against chance, paths.

Reads the numbers of analysis.goal_misgeneralisation_precompute.
"""

from analysis.io.shared_args import PlotArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.counterfactuals.goal_figure import draw_outcomes, draw_paths
from analysis.counterfactuals.goal_summary import COMMAND, STEP, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers, read_part


def main(args: Args) -> None:
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    runs = {name: read_part(directory, f"runs_{i}") for i, name in enumerate(numbers["agents"])}
    levels = read_part(directory, "levels")
    plots = args.out_dir / "goal_misgeneralisation_plots"
    figures = [draw_outcomes(numbers, plots / "goal_misgeneralisation")]
    if len(levels["grid"]):
        figures.append(draw_paths(numbers, levels, runs, plots / "goal_paths"))
    publish(args, numbers, figures)


if __name__ == "__main__":
    run_main(main, ARGS)
