"""Draws how far gradients and dynamics agree: gradients, correlations and signs of every behaviour and lag,
and the agreement over its null, on one page.

Reads only what analysis/dynamics_grads_consistency_precompute.py wrote.
"""

from dataclasses import dataclass
from typing import Literal

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main


@dataclass
class Args(PlotArgs):
    shown_lags: tuple[int, ...] = (1, 2, 4, 8)
    """Lags that have a row of matrices."""
    order: Literal["clustered", "fitted"] = "clustered"
    """Order of scores: hierarchically clustered, or as their directions were fit."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from pathlib import Path

import numpy as np

from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.lagged.consistency import COMMAND, NAME, VERSION
from analysis.lagged.consistency_figures import PATH_NAMES, draw_agreement, draw_stories
from analysis.lagged.figures import effect_order
from analysis.lagged.matrices import FigureText
from analysis.lagged.store_correlations import ALL, part_name
from analysis.lagged.xcaus_figures import Scores
from analysis.plotting.page import Page
from common.runs import UsageError

TITLE = "Gradients and dynamics"
HEADER = ["episodes", "path", "signs that agree [95%]", "of", "relabelled [95%]", "p", "magnitudes", "p"]


def main(args: Args) -> Path:
    """Draws every figure into <out_dir>/<name>_plots/<key>, with a page. Returns the page's path."""
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    lags = [lag for lag in args.shown_lags if 1 <= lag <= numbers["lags"]]
    if not lags:
        raise UsageError(f"lags from 1 to {numbers['lags']} were computed: choose --shown_lags among them")
    out = args.out_dir / f"{NAME}_plots" / directory.name
    parts = {name: read_part(directory, part_name(name)) for name in numbers["sets"]}
    order = np.arange(len(numbers["names"]))
    if args.order == "clustered":
        order = effect_order(parts[ALL]["jacobian/total"][lags[0] - 1])
    scores = Scores(numbers["names"], order)
    page = Page(TITLE)
    page.text(about(numbers))
    page.table(HEADER, table_rows(numbers["sets"]))
    sets = {name: row["paths"] for name, row in numbers["sets"].items()}
    whole = caption(numbers, ALL)
    figures = [draw_agreement(sets, kind, whole, out / f"agreement_{kind}") for kind in ("sign", "magnitude")]
    page.heading("Agreement by lag")
    for figure, words in zip(figures, ("Signs.", "Magnitudes, within each lag.")):
        page.picture(figure, words)
    for name, arrays in parts.items():
        text = caption(numbers, name)
        figures.append(
            draw_stories(arrays, sets[name], scores, lags, text, out / f"stories_{part_name(name)}")
        )
        page.heading("All episodes" if name == ALL else f"Behaviour: {name}")
        page.picture(figures[-1], "Gradients, correlations and their signs.")
    page.write(out / f"{NAME}.html")
    publish(args, numbers, figures)
    return out / f"{NAME}.html"


def about(numbers: dict) -> str:
    """What the page compares."""
    return (
        f"Mean gradients of {len(numbers['names'])} scores ({numbers['method']}) at step {numbers['step']} "
        "of simulated episodes with respect to the scores some steps earlier, against the correlations of "
        "the same scores at the same lags. Chance is the agreement of relabelled directions, not one half."
    )


def table_rows(sets: dict) -> list[list[str]]:
    """A row for each subset and path, over all lags."""
    rows = []
    for name, one in sets.items():
        for path, lags in one["paths"].items():
            sign, magnitude = lags[-1]["sign"], lags[-1]["magnitude"]
            null = sign["null"]
            rows.append(
                [
                    f"{name} ({one['samples']})",
                    PATH_NAMES[path],
                    interval(sign, "{:.0%}"),
                    str(sign["n"]),
                    interval({"value": null["mean"], "low": null["low"], "high": null["high"]}, "{:.0%}"),
                    p_value(sign),
                    interval(magnitude, "{:.2f}"),
                    p_value(magnitude),
                ]
            )
    return rows


def interval(numbers: dict, form: str) -> str:
    """A number with its interval."""
    if numbers["value"] is None:
        return "undefined"
    ends = ("?" if numbers[end] is None else form.format(numbers[end]) for end in ("low", "high"))
    return f"{form.format(numbers['value'])} [{', '.join(ends)}]"


def p_value(numbers: dict) -> str:
    """A p-value, with a star where it is significant among those of the table."""
    return "" if numbers["p"] is None else f"{numbers['p']:.4f}" + "*" * numbers["significant"]


def caption(numbers: dict, name: str) -> FigureText:
    """Caption of a subset's figure."""
    row = numbers["sets"][name]
    first = f"Simulated episodes, {'all' if name == ALL else name}; scores at step {numbers['step']}."
    n = f"{row['samples']:,} simulated episodes from {row['groups']:,} start episodes"
    return FigureText(first, n, numbers["levels"])


if __name__ == "__main__":
    run_main(main, ARGS)
