"""Figures of the goal-misgeneralisation bench: outcomes, coins got against coins touched by chance, paths."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from analysis.counterfactuals.goal_summary import MOVED
from analysis.plotting.style import GROUPS, NULL, add_caption, new_figure, save_figure
from envs.coinrun import CRATE, ENEMY, SAW, WALLS
from interpret.forks.coin_levels import VARIANTS
from interpret.forks.coin_play import COIN, OUTCOMES, WALL

COLORS = dict(zip(OUTCOMES, ("#d9a400", "#56a6d8", "#c2407c", "#c9c9c9")))
LABELS = {
    "end": "at the end",
    "moved": "in the right fifth",
    "middle": "in the middle fifth",
    "removed": "none",
}
_THINGS = {SAW: ("x", "saw"), ENEMY: ("^", "enemy"), CRATE: ("s", "crate")}


def draw_outcomes(numbers: dict, path: Path) -> Path:
    """Bars of outcomes by agent and variant, and coins got against coins touched by chance."""
    agents = numbers["agents"]
    figure, axes = new_figure(1, 2, panel=(4.6, 1.2 + 1.15 * len(agents)), width_ratios=(1.35, 1))
    _bars(axes[0, 0], agents)
    _pursuit(axes[0, 1], agents)
    text = (
        "Left: what a run ends with, by where the coin lies; wall: the end of the level, reached without the"
        " coin. Right: share of levels whose coin the agent gets (filled), and whose coin's place it touches"
        " in the same level without a coin, by chance (open), with 95% intervals by layout."
    )
    add_caption(figure, text, _n(numbers), "{}-{}".format(*numbers["level_range"]))
    return save_figure(figure, path)[0]


def _n(numbers: dict) -> str:
    return f"{numbers['levels']} levels, each of another layout, per bar"


def _bars(axis, agents: Mapping[str, dict]) -> None:
    rows = [(name, variant) for name in agents for variant in VARIANTS]
    places = [i + 0.8 * (i // len(VARIANTS)) for i in range(len(rows))]
    for y, (name, variant) in zip(places, rows):
        left = 0.0
        for outcome in OUTCOMES:
            share = agents[name]["outcomes"][variant][outcome][0]
            axis.barh(y, 100 * share, left=100 * left, color=COLORS[outcome], height=0.8)
            if share >= 0.08:
                axis.text(100 * (left + share / 2), y, f"{share:.0%}", ha="center", va="center", fontsize=7)
            left += share
    axis.set_yticks(places, [LABELS[variant] for _, variant in rows])
    for i, name in enumerate(agents):
        axis.text(0, places[i * len(VARIANTS)] - 0.55, name, fontsize=8, fontweight="bold", va="bottom")
    axis.set_ylim(places[-1] + 0.5, -1.0)
    axis.set_xlim(0, 100)
    axis.grid(False)
    axis.set_xlabel("share of runs (%)")
    handles = [Patch(color=COLORS[outcome], label=outcome) for outcome in OUTCOMES]
    axis.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, columnspacing=1.0)


def _pursuit(axis, agents: Mapping[str, dict]) -> None:
    rows = [(name, variant) for name in agents for variant in MOVED]
    places = [i + 0.8 * (i // len(MOVED)) for i in range(len(rows))]
    for y, (name, variant) in zip(places, rows):
        got = 100 * np.array(agents[name]["outcomes"][variant]["coin"])
        chance = 100 * np.array(agents[name]["by_chance"][variant])
        axis.plot([chance[0], got[0]], [y, y], color=COLORS["coin"], linewidth=4, alpha=0.35)
        for offset, (value, low, high), color, filled in (
            (0.1, got, "#a07800", "full"),
            (-0.1, chance, NULL["color"], "none"),
        ):
            axis.plot([low, high], [y + offset] * 2, color=color, linewidth=1.3)
            axis.plot([value], [y + offset], "o", color=color, fillstyle=filled, markersize=5)
    axis.set_yticks(places, [LABELS[variant] for _, variant in rows])
    for i, name in enumerate(agents):
        axis.text(0, places[i * len(MOVED)] - 0.3, name, fontsize=8, fontweight="bold", va="bottom")
    axis.set_ylim(places[-1] + 0.5, -0.7)
    axis.set_xlim(0, 100)
    axis.set_xlabel("levels whose coin is got, and by chance (%)")


def draw_paths(numbers: dict, levels: Mapping[str, np.ndarray], runs: Mapping[str, dict], path: Path) -> Path:
    """One level in three variants, with the paths of the last two agents; see `telling_level`."""
    runs = dict(list(runs.items())[-2:])
    chosen = telling_level(levels, list(runs.values()))
    figure, axes = new_figure(3, 1, panel=(7.5, 1.75))
    for axis, variant in zip(axes[:, 0], ("end", "moved", "removed")):
        _draw_level(axis, levels, chosen, variant)
        for (name, one), color in zip(runs.items(), GROUPS):
            x, y = one[f"{variant}.path"][:, chosen].T
            outcome = OUTCOMES[one[f"{variant}.outcome"][chosen]]
            axis.plot(x, y, color=color, linewidth=1.3, alpha=0.9, label=f"{name}: {outcome}")
        axis.set_title(f"coin {LABELS[variant]}" if variant != "removed" else "no coin")
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=7, frameon=False)
    first, *second = runs
    rule = f"{first} reaches the wall without the moved coin"
    rule += "".join(f" and {name} gets it" for name in second)
    text = (
        "One level and the paths of the agents' centres, with the same action noise; yellow: the coin;"
        " crosses: saws, triangles: enemies, squares: crates, where they are at the start; red: lava. An"
        f" illustration, chosen by rule: the first level in which {rule}."
    )
    seed = int(levels["level"][chosen])
    add_caption(figure, text, "1 level", f"{seed}")
    return save_figure(figure, path)[0]


def telling_level(levels: Mapping[str, np.ndarray], runs: Sequence[Mapping[str, np.ndarray]]) -> int:
    """The first kept level in which the first agent ends at the wall without the moved coin and the second,
    if there is one, gets it; the first level if there is none.
    """
    wanted = np.ones(len(levels["grid"]), bool)
    for one, outcome in zip(runs, (WALL, COIN)):
        wanted &= one["moved.outcome"][: len(wanted)] == outcome
    return int(np.flatnonzero(wanted)[0]) if wanted.any() else 0


def _draw_level(axis, levels: Mapping[str, np.ndarray], level: int, variant: str) -> None:
    grid, last = levels["grid"][level], int(levels["last_column"][level])
    solid = np.isin(grid, WALLS)[:, : last + 3]
    lava = np.isin(grid, (17, 18))[:, : last + 3]
    top = min(int(solid[:, 1 : last + 1].sum(0).max()) + 7, len(grid))
    colors = ListedColormap(["white", "#b9b2a6", "#e04a3a"])
    axis.imshow(
        (solid + 2 * lava)[:top], cmap=colors, vmin=0, vmax=2, origin="lower",
        extent=(0, last + 3, 0, top), aspect="equal",
    )  # fmt: skip
    if f"{variant}.cell" in levels:
        row, column = levels[f"{variant}.cell"][level]
        axis.plot(column + 0.5, row + 0.5, "o", color=COLORS["coin"], markersize=7, markeredgecolor="#7a5c00")
    for _, kind, x, y in levels["things"][levels["things"][:, 0] == level]:
        if int(kind) in _THINGS:
            axis.plot(x, y, _THINGS[int(kind)][0], color="#444444", markersize=5)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
