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
    try:
        data = read_json(path, "give the loss_over_time.json of a loss_over_time_exp.py run")
        missing = [f"{name}_mean" for name in PANELS if f"{name}_mean" not in data]
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(
            f"{path} is not a JSON file that can be read; give the loss_over_time.json of a "
            "loss_over_time_exp.py run"
        ) from error
    if missing:
        raise UsageError(
            f"{path} lacks {missing[0]}; give the loss_over_time.json of a loss_over_time_exp.py run"
        )
    figure, axes = new_figure(rows=2, columns=3, panel=(3.7, 2.7))
    for ax, (name, title) in zip(axes.flat, PANELS.items()):
        steps = range(len(data[f"{name}_mean"]))
        ax.fill_between(
            steps,
            data[f"{name}_low"],
            data[f"{name}_high"],
            color=SIMULATED["color"],
            alpha=0.18,
            linewidth=0,
        )
        ax.plot(steps, data[f"{name}_mean"], label="simulated, open loop", **SIMULATED)
        for other, look in BASELINES.get(name, {}).items():
            ax.plot(steps, data[f"{other}_mean"], label=WORDS[other], **look)
        ax.set(title=title, ylim=(0, None))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel(data["units"][name].replace(", ", ",\n", 1), fontsize=7)
    axes[0, 0].legend()
    for ax in axes[1]:
        ax.set_xlabel("steps after the last context frame")
    alive = data["n"][-1] / data["windows"]
    text = (
        "Open loop with recorded actions. Lines: means over windows; bands: their central 90%. "
        f"{alive:.0%} of the windows reach the last step."
    )
    add_caption(
        figure,
        text,
        f"{data['windows']} windows of {data['episodes']} episodes",
        f"{data['first_level']}-{data['last_level']}, {data['part']}",
    )
    return save_figure(figure, path.with_name("loss_over_time.png"))[0]


if __name__ == "__main__":
    run_main(main, ARGS)
