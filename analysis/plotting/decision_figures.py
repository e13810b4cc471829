"""Figures of a recording by who played it, and of return conditioning: achieved against asked return."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from decision.players import QUANTILES
from decision.returns import returns_to_go
from rollouts.store import Rollouts

CLONE = {"color": GROUPS[1], "linestyle": "-"}
AGENT = {"color": GROUPS[4], "linestyle": ":"}
BINS = 40
MOST_POINTS = 2000
"""Episodes of each player that the scatter of return against length shows."""


def draw_calibration(
    report: dict,
    returns: np.ndarray,
    summary: Mapping[str, dict],
    path: Path,
    others: Sequence[dict] = (),
) -> Path:
    """Achieved against asked return, and the returns of the recording by player.

    Args:
        report: of evaluate_dt.py.
        returns: [E] of the recording.
        summary: `summarize_players` of the recording.
        path: of the picture.
        others: reports of other training seeds.
    """
    figure, axes = new_figure(1, 2, panel=(4.6, 3.6), width_ratios=(1.15, 1))
    _calibration(axes[0, 0], report, returns)
    for i, other in enumerate(others):
        asked = [row for row in other["rows"].values() if row["target"] is not None]
        points = zip(*((row["target"], row["return"][0]) for row in asked))
        label = None if i else "other training seeds"
        axes[0, 0].plot(*points, color=REAL["color"], linewidth=0.8, alpha=0.6, label=label)
    axes[0, 0].legend(loc="upper left")
    _returns_by_player(axes[0, 1], summary)
    rows = [row for row in report["rows"].values() if row["target"] is not None]
    levels = rows[0]["per_episode"]["level"]
    text = (
        f"Left: mean return of the same episodes for each return asked for; bars and bands: 95% by level;"
        f" grey: returns of the recording. {_correlation(report)} Right: median, quartiles, 5% and 95% of the"
        f" returns in the recording, by the policy that played."
    )
    n = f"{rows[0]['episodes']} episodes for each of {len(rows)} targets, {len(returns):,} recorded"
    add_caption(figure, text, n, f"{min(levels)}-{max(levels)}")
    return save_figure(figure, path)[0]


def _correlation(report: dict) -> str:
    value, low, high = report["rank_correlation"]
    if value is None:
        return ""
    interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"Rank correlation {value:.2f}{interval}."


def _calibration(axis, report: dict, returns: np.ndarray) -> None:
    asked = [row for row in report["rows"].values() if row["target"] is not None]
    target = [row["target"] for row in asked]
    ends = [min(target), max(target)]
    mean, low, high = np.array([row["return"] for row in asked], float).T  # NaN where there is no interval
    counts, edges = np.histogram(returns, bins_of(returns))
    histogram = axis.twinx()
    histogram.stairs(counts, edges, fill=True, color=NULL["color"], alpha=0.3)
    histogram.set(ylim=(0, 4 * counts.max()), yticks=[])
    histogram.spines["right"].set_visible(False)
    histogram.grid(False)
    axis.set_zorder(histogram.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.plot(ends, ends, label="as asked", **NULL | {"linewidth": 1.0, "linestyle": "--"})
    for name, style in (("clone", CLONE), ("agent", AGENT)):
        if name in report["rows"]:
            _level_line(axis, report["rows"][name]["return"], ends, name, style)
    bars = np.abs(np.stack([low, high]) - mean)
    axis.errorbar(target, mean, bars, marker="o", markersize=4, label="Decision Transformer", **REAL)
    axis.set(xlabel="return asked for", ylabel="return achieved", title="Calibration")
    shown = [*target, *np.quantile(returns, (0.0, 0.995))]
    axis.set_xlim(min(shown) - 0.7, max(shown) + 0.7)


def bins_of(values: np.ndarray) -> np.ndarray:
    """Edges of a histogram; those of whole numbers hold equally many of them."""
    low, high = values.min(), values.max()
    if (values != np.round(values)).any():
        return np.linspace(low, high, BINS + 1)
    width = np.ceil((high - low + 1) / BINS)
    return np.arange(low, high + width + 1, width) - 0.5


def _level_line(axis, interval: list[float], ends: list[float], label: str, style: dict) -> None:
    """A mean that does not depend on the target, with its band."""
    mean, low, high = np.array(interval, float)
    axis.fill_between(ends, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axis.plot(ends, [mean, mean], label=label, **style)


def _returns_by_player(axis, summary: Mapping[str, dict]) -> None:
    middle = QUANTILES.index(0.5)
    for place, numbers in enumerate(summary.values()):
        quantiles = numbers["return_quantiles"]
        axis.plot(quantiles[:: len(quantiles) - 1], [place] * 2, color=REAL["color"], linewidth=1)
        axis.plot(quantiles[middle - 1 : middle + 2 : 2], [place] * 2, color=REAL["color"], linewidth=5)
        axis.plot(quantiles[middle], place, "o", color="white", markersize=3)
    axis.set_yticks(range(len(summary)), list(summary))
    axis.set(xlabel="return of an episode", title="Recording", ylim=(-0.6, len(summary) - 0.4))
    axis.grid(axis="y", visible=False)


def draw_data(rollouts: Rollouts, found: Mapping[str, np.ndarray], summary: Mapping, path: Path) -> Path:
    """Return against length, action frequencies and returns-to-go of a recording, by player.

    Args:
        rollouts: the store.
        found: `players` of it.
        summary: `summarize_players` of them.
        path: of the picture.
    """
    figure, axes = new_figure(1, 3, panel=(4.0, 3.2))
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(found)))
    _lengths(axes[0, 0], rollouts, found, shades)
    _actions(axes[0, 1], summary, rollouts.manifest["action_names"], shades)
    _returns_to_go(axes[0, 2], rollouts)
    seeds = rollouts.episodes["level_seed"]
    n = f"{len(rollouts):,} episodes, {rollouts.num_steps:,} steps"
    add_caption(figure, "A recording by the policy that played.", n, f"{seeds.min()}-{seeds.max()}")
    return save_figure(figure, path)[0]


def _lengths(axis, rollouts: Rollouts, found: Mapping[str, np.ndarray], shades) -> None:
    episodes = rollouts.episodes
    for (name, mine), shade in zip(found.items(), shades):
        shown = mine[:MOST_POINTS]
        points = episodes["length"][shown], episodes["return"][shown]
        axis.scatter(*points, s=4, alpha=0.4, color=shade, linewidths=0, label=name)
    axis.set(xlabel="steps of the episode", ylabel="return", title="Return and length")
    axis.legend(markerscale=3, fontsize=7)


def _actions(axis, summary: Mapping[str, dict], names: list[str], shades) -> None:
    for numbers, shade in zip(summary.values(), shades):
        axis.plot(range(len(names)), numbers["actions"], "o-", markersize=3, linewidth=1, color=shade)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set(ylabel="share of steps", title="Actions", ylim=(0, None))


def _returns_to_go(axis, rollouts: Rollouts) -> None:
    rtg = returns_to_go(rollouts.steps("reward"), rollouts.episodes["length"])
    axis.hist(rtg, bins_of(rtg), color=REAL["color"], alpha=0.8)
    axis.set(xlabel="return-to-go", ylabel="steps", title="Returns-to-go of all steps")
