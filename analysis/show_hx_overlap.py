"""Draws the agent's hidden states in the game and in the simulator, with effect sizes of the difference.

Reads only what analysis/show_hx_overlap_precompute.py wrote.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory written by the precompute step; default: the latest in <out_dir>/hx_overlap_precomp."""
    out_dir: Path = Path("results")
    """Directory that holds hx_overlap_precomp and receives hx_overlap_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.plotting.point_density import data_limits
from analysis.plotting.style import ABOVE, NULL, REAL, SIMULATED, add_caption, new_figure, save_figure
from common.checkpoints import write_json
from interpret.overlap import STEP, VERSION

COMMAND = "python analysis/show_hx_overlap_precompute.py --data_dir STORE --sim_data_dir STORE"


def main(args: Args) -> None:
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    out = args.out_dir / "hx_overlap_plots" / directory.name
    path = draw(read_part(directory, "axes"), numbers, out / "agent_h_overlap")
    write_json(out / "numbers.json", numbers)
    for line in table(numbers):
        print(line)
    logging.info("figure: %s", path)


def table(numbers: dict) -> list[str]:
    """The effect sizes, one line each, with the baseline in the second column."""
    lines = ["                    simulated against real    real against real"]
    for kind in numbers["auroc"]["real"]:
        estimates = [numbers["auroc"][side][kind]["all"] for side in ("simulated", "real")]
        lines.append(
            f"AUROC, {kind:<12} "
            + "    ".join(f"{f['value']:.3f} [{f['low']:.3f}, {f['high']:.3f}]" for f in estimates)
        )
    mmd = [numbers["mmd2"][side] for side in ("simulated", "real")]
    return lines + [
        "MMD squared         "
        + "    ".join(f"{np.mean(m):.5f} [{np.min(m):.5f}, {np.max(m):.5f}]" for m in mmd)
    ]


def draw(arrays: dict[str, np.ndarray], numbers: dict, path: Path) -> Path:
    """Scatter plots of successive principal components, and the AUROC by steps after the start."""
    pairs = arrays["real"].shape[1] - 1
    figure, axes = new_figure(-(-(pairs + 1) // 3), 3, panel=(3.3, 3.0))
    for i, axis in zip(range(pairs), axes.flat):
        _draw_components(axis, arrays, i)
    for handle in axes[0, 0].legend(markerscale=6, **ABOVE).legend_handles:
        handle.set_alpha(1)  # the points' own opacity leaves a faint dot
    _draw_auroc(axes.flat[pairs], numbers["auroc"])
    for axis in axes.flat[pairs + 1 :]:
        axis.set_axis_off()
    n = numbers["n"]
    counts = (
        f"{n['simulated']:,} simulated and {n['real']:,} real steps against {n['reference']:,} real ones of "
        "other levels"
    )
    add_caption(figure, _caption(numbers), counts, "{}-{}".format(*numbers["levels"]))
    return save_figure(figure, path)[0]


def _draw_components(axis, arrays: dict[str, np.ndarray], i: int) -> None:
    """Principal component i against i + 1 of both samples, with their means."""
    bounds = data_limits(arrays["real"])
    for name, look, marker in (("real", REAL, "P"), ("simulated", SIMULATED, "X")):
        points = arrays[name][:, i : i + 2]
        dots = {"color": look["color"], "markersize": 1.5, "alpha": 0.45, "rasterized": True}
        axis.plot(*points.T, ".", label=name, **dots)
        axis.plot(*points.mean(0), marker, color=look["color"], markersize=8, markeredgecolor="white")
    x_share, y_share = arrays["share"][i : i + 2]
    axis.set(xlabel=f"PC {i + 1} ({x_share:.0%})", ylabel=f"PC {i + 2} ({y_share:.0%})")
    axis.set(xlim=bounds[:, i], ylim=bounds[:, i + 1])


def _caption(numbers: dict) -> str:
    simulated, baseline = (
        max(numbers["auroc"][side].values(), key=lambda scores: scores["all"]["value"])["all"]
        for side in ("simulated", "real")
    )
    mmd = {side: np.mean(values) for side, values in numbers["mmd2"].items()}
    return (
        "Principal components of standardised real states; crosses: means. On held-out levels a classifier "
        f"separates simulated from real states with AUROC {_interval(simulated)}, real from real with "
        f"{_interval(baseline)}; squared MMD {mmd['simulated']:.4f} against {mmd['real']:.4f}. Intervals: "
        "95%, bootstrapped by level."
    )


def _interval(found: dict) -> str:
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _draw_auroc(axis, auroc: dict) -> None:
    """AUROC against steps after the start, of gradient-boosted trees and of the linear classifier (thin)."""
    for side, look in (("simulated", SIMULATED), ("real", NULL)):
        for kind, width in (("trees", 1.8), ("linear", 0.8)):
            steps = auroc[side][kind]["steps"]
            x = [(step["from"] + step["to"] - 1) / 2 for step in steps]
            value, low, high = ([step[key] for step in steps] for key in ("value", "low", "high"))
            axis.plot(x, value, **look | {"linewidth": width}, label=f"{side} vs real, {kind}")
            if kind == "trees":
                axis.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axis.axhline(0.5, color="#444444", linewidth=0.6)
    axis.set(xlabel="steps after the start", ylabel="AUROC, held-out levels", ylim=(0.4, 1.02))
    axis.legend(fontsize=7)


if __name__ == "__main__":
    run_main(main, ARGS)
