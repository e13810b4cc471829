"""The figures of the real check. Each takes an artefact's arrays and a path, and gives back the picture's path."""

from pathlib import Path

import numpy as np

from analysis.artefacts import moments_and_levels
from analysis.labels import name_points
from analysis.style import ABOVE, NULL, ON_DATA, REAL, SIMULATED, add_caption, new_figure, save_figure
from interpret.effects import Match, confusion
from interpret.resampling import Line, level_weights
from interpret.two_worlds import STRIP, TOGETHER, Runs, agreement, hidden_distance, incidence, spread, values

BAND = 0.18  # opacity of interval bands
PERCENTILES = {"good": 10, "median": 50, "worst decile": 90}
SHOWN_DELETIONS = 6
_LOOKS = {"real": REAL, "simulated": SIMULATED}
_BARS = {"real": "real game", "simulated": "simulator", "watched": "simulator, shown\nthe game's frames"}


def draw_hazards(found: dict[str, np.ndarray], changes: dict[str, np.ndarray], fitted: Line, path: Path) -> Path:
    """Left: simulated against real change of the risk, a point per moment. Right: mean risks."""
    figure, axes = new_figure(columns=2, panel=(4.0, 3.6))
    scatter, bars = axes[0]
    x, y = (changes[world] for world in ("real", "simulated"))
    error = [value.std(1, ddof=1) / np.sqrt(value.shape[1]) if value.shape[1] > 1 else None for value in (x, y)]
    look = {"fmt": "o", "markersize": 4, "alpha": 0.6, "color": REAL["color"], "ecolor": "#8fa9c7", "elinewidth": 0.8}
    scatter.errorbar(x.mean(1), y.mean(1), xerr=error[0], yerr=error[1], **look)
    grid = np.linspace(-1.05, 1.05, 50)
    scatter.plot(grid, grid, label="the same in both", **NULL | {"linewidth": 1.0})
    drawn = fitted.intercept[:, None] + fitted.slope[:, None] * grid
    drawn = drawn[np.isfinite(drawn[:, 0])]
    if len(drawn) > 1:
        scatter.fill_between(grid, *np.quantile(drawn[1:], [0.025, 0.975], axis=0), color=SIMULATED["color"], alpha=BAND, linewidth=0)
        low, high = np.nanquantile(fitted.slope[1:], [0.025, 0.975])
        scatter.plot(grid, drawn[0], label=f"slope {fitted.slope[0]:.2f} [{low:.2f}, {high:.2f}]", **SIMULATED)
    scatter.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="change in the real game", ylabel="change in the simulator", aspect="equal")
    scatter.set_title("change of the risk of death")
    scatter.legend(loc="lower right", **ON_DATA)  # deletion seldom raises the real risk: hardly a point lies there
    _risk_bars(bars, found, changes)
    steps = len(found["real/intact/done"])
    text = f"Risk of death within {steps} steps, hazard deleted less hazard there; {x.shape[1]} noise draws, shared by arms and worlds. "
    text += "Bars: standard errors (left), 95% by layout (right)."
    add_caption(figure, text, *moments_and_levels(found))
    return save_figure(figure, path)[0]


def _risk_bars(axis, found: dict[str, np.ndarray], changes: dict[str, np.ndarray]) -> None:
    weights = level_weights(found["layout"])
    for i, world in enumerate(_BARS):
        for j, arm in enumerate(("intact", "deleted")):
            draws = weights @ changes[f"{world}/{arm}"].mean(1) / weights.sum(1)
            low, high = np.quantile(draws[1:], [0.025, 0.975])
            look = {"color": _LOOKS.get(world, SIMULATED)["color"], "alpha": 1.0 if arm == "intact" else 0.45}
            axis.bar(i + 0.4 * j - 0.2, draws[0], width=0.36, **look)
            axis.vlines(i + 0.4 * j - 0.2, low, high, color="#333333", linewidth=1.2)
            label, place = {"intact": "hazard\nthere", "deleted": "hazard\ndeleted"}[arm], (i + 0.4 * j - 0.2, high)
            axis.annotate(label, place, (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=7)
    axis.set(xticks=range(len(_BARS)), xticklabels=_BARS.values(), ylabel="risk of death")
    axis.set_ylim(0, 1.25 * axis.get_ylim()[1])
    axis.grid(axis="x", visible=False)
    axis.set_title("mean risks")


def draw_deletions(found: dict[str, np.ndarray], changes: dict[str, np.ndarray], path: Path) -> Path:
    """The last frame both worlds begin with, with and without the hazard, and what the simulator makes of it."""
    order = np.argsort(changes["real"].mean(1), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SHOWN_DELETIONS, len(order))).astype(int)]
    rows = [("real", "intact"), ("real", "deleted"), ("simulated", "intact"), ("simulated", "deleted")]
    figure, axes = new_figure(len(rows), len(chosen), panel=(1.25, 1.32))
    for i, (world, arm) in enumerate(rows):
        for j, moment in enumerate(chosen):
            _show(axes[i, j], found[f"{world}/{arm}/frame"][moment])
            if j == 0:
                axes[i, j].set_ylabel(f"{world},\n{'hazard there' if arm == 'intact' else 'deleted'}", color=_LOOKS[world]["color"])
            if i == 0:
                axes[i, j].set_title(f"level {found['level'][moment]}", fontsize=7, fontweight="normal", loc="center")
    text = "From the moment at which deletion lowers the real risk of death most (left) to the one at which it does least."
    add_caption(figure, text, f"{len(chosen)} of {len(found['level'])} moments", moments_and_levels(found)[1])
    return save_figure(figure, path)[0]


def draw_effects(holds: dict[int, dict[str, np.ndarray]], names: list[str], path: Path) -> Path:
    """For each number of steps held: which class's real frame is nearest, and how the picture scrolls."""
    figure, axes = new_figure(len(holds), 2, panel=(4.2, 3.7))
    motions = []
    for row, (hold, found) in zip(axes, holds.items()):
        shares = confusion(Match(found["error"], found["same"], found["nearest"]), found["ended"])
        image = row[0].imshow(shares, vmin=0, vmax=max(0.5, shares.max()), cmap="Blues")
        figure.colorbar(image, ax=row[0], label="share", shrink=0.8)
        row[0].set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        row[0].set_yticks(range(len(names)), names)
        row[0].set(xlabel="nearest real frame", ylabel="action in the simulator")
        row[0].grid(visible=False)
        row[0].set_title(f"held {hold} step{'s' * (hold > 1)}")
        motions.append((row[1], _motions(row[1], found)))
    text = "Right: mean motion of the player by class, read from the scrolling of the picture in both worlds; lines join the two."
    add_caption(figure, text, *moments_and_levels(next(iter(holds.values()))))
    for axis, means in motions:
        name_points(axis, means["real"], names, means["simulated"])
    return save_figure(figure, path)[0]


def _motions(axis, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws, and returns, the mean motion [E, 2] of each class in both worlds."""
    alive_ = ~found["ended"][..., None]
    means = {world: (found[f"{world}_motion"] * alive_).sum(0) / np.maximum(alive_.sum(0), 1) for world in _LOOKS}
    axis.plot(*np.stack([means["real"], means["simulated"]]).transpose(2, 0, 1), color=NULL["color"], linewidth=0.7, zorder=1)
    for world, marker in (("real", "o"), ("simulated", "D")):
        axis.scatter(*means[world].T, s=28, color=_LOOKS[world]["color"], marker=marker, label=world, zorder=2)
    axis.set(xlabel="to the right (pixels)", ylabel="up (pixels)")
    axis.margins(0.25, 0.2)
    axis.legend(**ABOVE)
    axis.set_title("motion")
    return means


def draw_closed_loop(found: dict[str, np.ndarray], worlds: dict[str, Runs], strangers: Runs, effect_classes, names: list[str], words: dict, path: Path) -> Path:
    """words: what each event is called. Above: survival, events, agreement. Below: hidden distance over the first steps; action and value distributions beyond."""
    figure, axes = new_figure(2, 3, panel=(3.6, 2.9))
    weights = level_weights(found["layout"])
    for world, runs in worlds.items():
        happened, steps = incidence(runs, weights), np.arange(1, len(runs.done) + 1)
        _band(axes[0, 0], steps, 1 - happened["end"], world, _LOOKS[world])
        for event, width in (("death", 1.8), ("coin", 0.9)):
            _ending_bar(axes[0, 1], steps, happened[event], f"{world}: {words[event]}", _LOOKS[world] | {"linewidth": width})
    axes[0, 0].set(xlabel="steps", ylabel="share of runs that go on", ylim=(0, 1.02))
    axes[0, 1].set(xlabel="steps", ylabel="share of runs", ylim=(0, None))
    first = np.arange(min(TOGETHER, len(worlds["real"].done)))
    _band(axes[0, 2], first, agreement(*worlds.values(), effect_classes, weights), "same noise, same moment", SIMULATED)
    _band(axes[0, 2], first, agreement(worlds["real"], strangers, effect_classes, weights), "same noise, another moment", NULL)
    axes[0, 2].set(xlabel="steps", ylabel="same effect class", ylim=(0, 1.02))
    distance, other = hidden_distance(*worlds.values(), weights)
    _band(axes[1, 0], first, distance, "same moment", SIMULATED)
    _band(axes[1, 0], first, other, "another moment", NULL)
    axes[1, 0].set(xlabel="steps", ylabel="whitened distance", ylim=(0, None))
    if len(worlds["real"].done) > TOGETHER:
        _frequencies(axes[1, 1], worlds, effect_classes, names, weights)
        _values(axes[1, 2], worlds, weights)
    beyond = (f"{what} from step {TOGETHER} on" for what in ("actions", "values"))
    for axis, title in zip(axes.ravel(), ("survival", "how runs end", "same action?", "hidden states, real and simulated", *beyond)):
        axis.set_title(title)
        if axis.has_data():
            axis.legend(fontsize=7)
        else:  # no run is that long
            axis.set_axis_off()
    draws = found["real/done"].shape[2]
    text = f"{draws} noise draws per moment, the same in both worlds. Grey: what another moment gives. Bands and bars: 95% by layout; at curves' ends, of the last step."
    add_caption(figure, text, *moments_and_levels(found))
    return save_figure(figure, path)[0]


def _ending_bar(axis, x: np.ndarray, draws: np.ndarray, label: str, look: dict) -> None:
    """A line with the interval of its last point beside it: four bands over each other could not be told apart."""
    axis.plot(x, draws[0], label=label, **look)
    place = x[-1] + 0.025 * len(x) * len(axis.lines)
    axis.vlines(place, *np.quantile(draws[1:, -1], [0.025, 0.975]), color=look["color"], linewidth=look["linewidth"])
    axis.plot(place, draws[0, -1], "o", markersize=3.5, color=look["color"])


def _values(axis, worlds: dict[str, Runs], weights: np.ndarray) -> None:
    edges = np.linspace(*np.quantile(worlds["real"].value[worlds["real"].running], [0.01, 0.99]), 13)
    edges[[0, -1]] = -np.inf, np.inf
    middle = np.arange(len(edges) - 1)
    for world, runs in worlds.items():
        _band(axis, middle, values(runs, weights, edges), world, _LOOKS[world])
    shown = middle[1:-1:3]
    axis.set_xticks(shown, [f"{(edges[i] + edges[i + 1]) / 2:.1f}" for i in shown])
    axis.set(xlabel="value (the agent's units)", ylabel="share of steps", ylim=(0, None))


def _frequencies(axis, worlds: dict[str, Runs], effect_classes, names: list[str], weights: np.ndarray) -> None:
    place = np.arange(len(names))
    for offset, (world, runs) in zip((-0.2, 0.2), worlds.items()):
        share = spread(runs, effect_classes, weights)
        axis.bar(place + offset, share[0], width=0.38, color=_LOOKS[world]["color"], label=world)
        axis.vlines(place + offset, *np.nanquantile(share[1:], [0.025, 0.975], axis=0), color="#333333", linewidth=1)
    axis.set_xticks(place, names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_ylabel("share of steps")
    axis.grid(axis="x", visible=False)


def _band(axis, x: np.ndarray, draws: np.ndarray, label: str, look: dict) -> None:
    known = np.isfinite(draws).any(0)
    x, draws = x[known], draws[:, known]
    low, high = np.nanquantile(draws[1:], [0.025, 0.975], axis=0)
    axis.fill_between(x, low, high, color=look["color"], alpha=BAND, linewidth=0)
    axis.plot(x, draws[0], label=label, **look)


def strip_cases(found: dict[str, np.ndarray]) -> dict[str, int]:
    """Which moments stand for a good, a median and a bad run: percentiles of the error over the shown steps."""
    real, simulated = (found[f"{world}/frames"].astype(np.float64) for world in ("real", "simulated"))
    error = ((real - simulated) ** 2).mean((0, 2, 3, 4))
    shown = [s for s in STRIP if s < len(found["real/running"])]
    running = found["real/running"][shown[-1], :, 0]
    candidates = np.flatnonzero(running) if running.any() else np.arange(len(error))
    order = candidates[np.argsort(error[candidates], kind="stable")]
    return {name: int(order[round((len(order) - 1) * p / 100)]) for name, p in PERCENTILES.items()}


def draw_strips(found: dict[str, np.ndarray], cases: dict[str, int], path: Path) -> Path:
    """Film strips: real fork, simulator, and difference, for each case."""
    shown = [s for s in STRIP if s < len(found["real/running"])]
    figure, axes = new_figure(3 * len(cases), len(shown), panel=(1.1, 1.1))
    for c, (name, moment) in enumerate(cases.items()):
        real, simulated = (found[f"{world}/frames"][:, moment] for world in ("real", "simulated"))
        difference = 255 - np.abs(real.astype(int) - simulated).mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
        for r, (label, frames) in enumerate({f"{name}\nreal": real, "simulated": simulated, "difference": difference}.items()):
            for j, frame in enumerate(frames):
                _show(axes[3 * c + r, j], frame)
                if c == 0 and r == 0:
                    axes[0, j].set_title(f"k = {shown[j]}", loc="center", fontsize=8)
            axes[3 * c + r, 0].set_ylabel(label, fontsize=7)
    chosen = ", ".join(f"{name}: level {found['level'][moment]} from step {found['step'][moment]}" for name, moment in cases.items())
    add_caption(figure, f"The agent acts in both, with the recording's noise. {chosen}.", moments_and_levels(found)[0], moments_and_levels(found)[1])
    return save_figure(figure, path)[0]


def _show(axis, frame: np.ndarray) -> None:
    axis.imshow(frame, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
