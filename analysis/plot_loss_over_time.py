"""Draws the errors that loss_over_time_exp.py wrote, by simulated step: mean and central 90% of windows."""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    presaved_data_path: Path
    """loss_over_time.json of a run of loss_over_time_exp.py."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.plotting.style import NULL, SIMULATED, add_caption, new_figure, save_figure
from common.descriptions import read_json
from common.runs import UsageError

PANELS = {
    "obs": "Frame",
    "hx": "Agent's hidden state",
    "act_log_probs": "Agent's policy",
    "value": "Agent's value",
    "reward": "Reward",
    "done": "Done",
}
BASELINES = {"obs": {"obs_posterior": SIMULATED | {"linestyle": ":"}, "obs_copy": NULL}}
WORDS = {"obs_posterior": "posterior", "obs_copy": "copy of the last frame"}


def main(args: Args) -> None:
    print(draw(args.presaved_data_path))


def draw(path: Path) -> Path:
    """Writes loss_over_time.png next to the JSON file. Raises UsageError if that is missing or invalid."""
    data = read_errors(path)
    figure, axes = new_figure(rows=2, columns=3, panel=(3.7, 2.7))
    for axis, (name, title) in zip(axes.flat, PANELS.items()):
        _draw_error(axis, data, name)
        axis.set_title(title)
    axes[0, 0].legend()
    for axis in axes[1]:
        axis.set_xlabel("steps after the last context frame")
    text = (
        "Open loop with recorded actions. Lines: means over windows; bands: their central 90%. "
        f"{data['n'][-1] / data['windows']:.0%} of the windows reach the last step."
    )
    n = f"{data['windows']} windows of {data['episodes']} episodes"
    add_caption(figure, text, n, f"{data['first_level']}-{data['last_level']}, {data['part']}")
    return save_figure(figure, path.with_name("loss_over_time.png"))[0]


def read_errors(path: Path) -> dict:
    """Content of loss_over_time.json. Raises UsageError if it is missing or invalid."""
    remedy = "give the loss_over_time.json of a loss_over_time_exp.py run"
    try:
        data = read_json(path, remedy)
    except OSError as error:
        raise UsageError(f"{path} cannot be read; {remedy}") from error
    missing = [f"{name}_mean" for name in PANELS if f"{name}_mean" not in data]
    if missing:
        raise UsageError(f"{path} lacks {missing[0]}; {remedy}")
    return data


def _draw_error(axis, data: dict, name: str) -> None:
    """One error by simulated step, with its baselines."""
    steps = range(len(data[f"{name}_mean"]))
    band = {"color": SIMULATED["color"], "alpha": 0.18, "linewidth": 0}
    axis.fill_between(steps, data[f"{name}_low"], data[f"{name}_high"], **band)
    axis.plot(steps, data[f"{name}_mean"], label="simulated, open loop", **SIMULATED)
    for baseline, look in BASELINES.get(name, {}).items():
        axis.plot(steps, data[f"{baseline}_mean"], label=WORDS[baseline], **look)
    axis.set(ylim=(0, None))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylabel(data["units"][name].replace(", ", ",\n", 1), fontsize=7)


if __name__ == "__main__":
    run_main(main, ARGS)
