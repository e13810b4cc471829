"""Draws a Decision Transformer next to its agent from the numbers of analysis.side_by_side_precompute.

Actions by situation; concepts by layer and token; the agent's directions and the similarity of states.
"""

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(PlotArgs, __doc__)

from analysis.comparison.figures import draw_agreement, draw_concepts, draw_representations
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers
from analysis.side_by_side_precompute import COMMAND, NAME, VERSION


def main(args: PlotArgs) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    plots = args.out_dir / f"{NAME}_plots" / directory.name
    figures = {"actions": draw_agreement, "concepts": draw_concepts, "states": draw_representations}
    drawn = [draw(about, plots / f"{NAME}_{name}") for name, draw in figures.items()]
    publish(args, about | {part: quoted(about[part]) for part in ("concepts", "directions")}, drawn)


def quoted(entries: dict[str, dict]) -> dict[str, dict]:
    """What pages quote of {reader: {target: scores}}: without the baselines, which are readers themselves."""
    kept = ("measure", "layouts", "value", "selectivity", "decodable", "beyond")
    return {
        reader: {name: {key: entry[key] for key in kept} for name, entry in found.items()}
        for reader, found in entries.items()
    }


if __name__ == "__main__":
    run_main(main, ARGS)
