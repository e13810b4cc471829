"""Figures of the saliency benchmark: cases with maps and real effects, the leaderboard, and what misleads."""

from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from analysis.plotting.style import GROUPS, NULL, REAL, SIMULATED, add_caption, new_figure, save_figure
from interpret.attribution.leaderboard import Benchmark

Arrays = dict[str, np.ndarray]
NAMES = {
    "gradient": "gradient (sum)",
    "gradient_norm": "gradient (length)",
    "gradient_x_input": "gradient × input",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "int. gradients, black",
    "integrated_gradients_blur": "int. gradients, blurred",
    "occlusion": "occlusion",
    "blur": "blur (Greydanus)",
    "sarfa": "SARFA",
    "centre_prior": "distance from the player",
    "edges": "edges of the frame",
    "box_fill": "fill the object's box",
    "effects_painted": "real effects, painted",
}
"""Names of methods and controls in figures."""
CASES = {"good": 90, "median": 50, "worst decile": 10}
"""Percentile, over states, of the correlation of the map of the best method."""
SHOWN = ("gradient_norm", "smoothgrad", "integrated_gradients", "occlusion", "blur")
"""Methods whose maps are drawn."""
RANDOMISED = ("gradient_norm", "smoothgrad", "integrated_gradients", "occlusion", "blur", "sarfa")
"""Methods whose maps under fresh weights are drawn, SARFA for the action."""
WORLDS = {
    "real": (0, REAL | {"label": "real frames"}),
    "simulated": (0.22, SIMULATED | {"label": "simulator's frames"}),
    "untrained": (0.44, NULL | {"label": "untrained agent"}),
}
"""Shift and look of each row's points."""
PANELS = {"value/value": "value", "action/action": "log-probability of the action"}
"""Function and effect of the two leaderboards."""


def best_method(scores: dict[str, dict]) -> str:
    """The method with the highest correlation."""
    return max(scores, key=lambda name: scores[name]["spearman"]["value"])


def choose_cases(benchmark: Benchmark, maps: Arrays, method: str) -> dict[str, int]:
    """The states at CASES' percentiles of the correlation of a method's maps of the value."""
    by_state = benchmark.by_state(maps[f"value/{method}"].astype(np.float32), "value")
    defined = np.flatnonzero(np.isfinite(by_state))
    order = defined[np.argsort(by_state[defined], kind="stable")]
    return {name: int(order[round(share / 100 * (len(order) - 1))]) for name, share in CASES.items()}


def draw_leaderboard(numbers: dict, benchmark: Benchmark, maps: Arrays, path: Path) -> Path:
    """Figure F10. Top: cases, maps of the value and real effects; bottom: both leaderboards.

    Args:
        numbers: of the precompute step.
        benchmark: the states.
        maps: on real frames.
        path: where the figure goes.
    """
    best = best_method(numbers["scores"]["real"]["value/value"])
    cases = choose_cases(benchmark, maps, best)
    figure, _ = new_figure(panel=(10.4, 10.2))
    figure.clear()
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    axes = top.subplots(len(cases), len(SHOWN) + 2, width_ratios=[*[1] * (len(SHOWN) + 1), 1.25])
    for line, (name, state) in zip(axes, cases.items()):
        _case(line, name, state, benchmark, maps)
    for axis, method in zip(axes[0, 1:-1], SHOWN):
        axis.set_title(NAMES[method].replace(", ", ",\n"), fontsize=8, loc="center")
    axes[0, 0].set_title("frame", fontsize=8, loc="center")
    axes[0, -1].set_title("effect on the value\nin the real game", fontsize=8, loc="center")
    axes[-1, -1].set_xlabel("with the object - without", fontsize=7)
    *panels, signed = bottom.subplots(1, 3)
    for axis, (key, title) in zip(panels, PANELS.items()):
        _leaderboard(axis, numbers, key)
        axis.set_title(title)
    _signed(signed, numbers)
    look = {"loc": "outside lower center", "ncols": 4, "fontsize": 7.5}
    bottom.legend(*panels[0].get_legend_handles_labels(), **look)
    text = (
        f"Top: states at percentiles {', '.join(map(str, CASES.values()))} of the correlation of "
        f"{NAMES[best]}, the best for the value; objects numbered, maps of the value (brightness: absolute "
        "value). Bottom: rank correlation, over the objects of a state, of a map's mass on the object with "
        "the size of the effect of deleting it in the real game; mean over states, 95% by layout. Right: "
        "of the map's sum with the effect, both with their signs."
    )
    add_caption(figure, text, *_counts(numbers))
    return save_figure(figure, path)[0]


def _counts(numbers: dict) -> tuple[str, str]:
    n = f"{numbers['states']:,} states on {numbers['layouts']:,} layouts, {numbers['objects']:,} objects"
    return n, "{}-{}".format(*numbers["levels"])


def _case(axes, name: str, state: int, benchmark: Benchmark, maps: Arrays) -> None:
    """One state: frame with numbered boxes, maps, bars."""
    frame = benchmark.frames[state]
    rows = np.flatnonzero(benchmark.state == state)
    _picture(axes[0], frame)
    axes[0].set_ylabel(name, fontsize=9, fontweight="bold")
    for number, (top, left, bottom, right) in enumerate(benchmark.box[rows], 1):
        box = (left - 0.5, top - 0.5), right - left, bottom - top
        axes[0].add_patch(Rectangle(*box, fill=False, edgecolor="#ffd23f", linewidth=0.9))
        middle = (left + right) / 2, (top + bottom) / 2
        outline = [withStroke(linewidth=1.2, foreground="black")]
        look = {"fontsize": 5.5, "ha": "center", "va": "center_baseline", "path_effects": outline}
        axes[0].text(*middle, str(number), color="white", **look)
    grey = frame.mean(-1, keepdims=True).astype(np.float32) / 255
    for axis, method in zip(axes[1:-1], SHOWN):
        size = np.abs(maps[f"value/{method}"][state].astype(np.float32))
        size = np.minimum(size / np.quantile(size, 0.995).clip(1e-12), 1)[..., None]
        heat = np.array([1.0, 0.45, 0.1])
        _picture(axis, 0.35 * grey * (1 - size) + size * heat)
        for top, left, bottom, right in benchmark.box[rows]:
            box = (left - 0.5, top - 0.5), right - left, bottom - top
            axis.add_patch(Rectangle(*box, fill=False, edgecolor="white", linewidth=0.5, alpha=0.7))
    _bars(axes[-1], benchmark, rows)


def _picture(axis, image: np.ndarray) -> None:
    axis.imshow(image)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _bars(axis, benchmark: Benchmark, rows: np.ndarray) -> None:
    """Real effects of a state's objects on the value."""
    effect = benchmark.effects["value"][rows]
    kinds = [benchmark.about["kinds"][kind] for kind in benchmark.kind[rows]]
    axis.barh(range(len(rows)), effect, color=REAL["color"], height=0.7)
    axis.axvline(0, color="#444444", linewidth=0.7)
    size = 6.5 if len(rows) < 9 else 5
    axis.set_yticks(range(len(rows)), [f"{kind} {i}" for i, kind in enumerate(kinds, 1)], fontsize=size)
    axis.tick_params(axis="x", labelsize=6.5)
    axis.invert_yaxis()
    axis.yaxis.tick_right()
    axis.grid(axis="y", visible=False)
    axis.spines[["left"]].set_visible(False)


def _leaderboard(axis, numbers: dict, key: str) -> None:
    """Correlations of all methods, best first, and of the controls."""
    real = numbers["scores"]["real"][key]
    order = sorted(real, key=lambda name: -real[name]["spearman"]["value"])
    for world, (shift, look) in WORLDS.items():
        rows = [numbers["scores"][world][key][name]["spearman"] for name in order]
        _points(axis, rows, np.arange(len(order)) + shift, look)
    controls = numbers["controls"][key.split("/")[1]]
    shown = [name for name in ("edges", "centre_prior", "box_fill") if name in controls]
    rows = [controls[name]["spearman"] for name in shown]
    _points(axis, rows, len(order) + 0.2 + np.arange(len(rows)), {"color": GROUPS[1], "label": "no agent"})
    axis.axhline(len(order) - 0.3, color="#444444", linewidth=0.7)
    _finish(axis, [NAMES[name] for name in (*order, *shown)], "rank correlation with real effects")


def _signed(axis, numbers: dict) -> None:
    """Correlations with their signs, of the methods whose maps have one."""
    labels = []
    for key, title in {"value/value": "value", "action/action": "action"}.items():
        rows = {
            name: row["signed"] for name, row in numbers["scores"]["real"][key].items() if "signed" in row
        }
        order = sorted(rows, key=lambda name: -rows[name]["value"])
        for world, (shift, look) in WORLDS.items():
            found = [numbers["scores"][world][key][name]["signed"] for name in order]
            _points(axis, found, len(labels) + np.arange(len(order)) + shift, look)
        labels += [f"{title}: {NAMES[name]}" for name in order]
    axis.set_title("with their signs")
    _finish(axis, labels, "signed rank correlation")


def _finish(axis, labels: list[str], title: str) -> None:
    axis.axvline(0, color="#444444", linewidth=0.7)
    axis.set_yticks(np.arange(len(labels)) + 0.2, labels, fontsize=6.5)
    axis.set_xlabel(title)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def _points(axis, rows: list[dict], y: np.ndarray, look: dict) -> None:
    value, low, high = (np.array([row[name] for row in rows], float) for name in ("value", "low", "high"))
    color = look["color"]
    axis.hlines(y, low, high, color=color, linewidth=1.6, linestyle=look.get("linestyle", "-"))
    axis.plot(value, y, "o", markersize=4, color=color, label=look["label"])


def draw_misleads(numbers: dict, path: Path) -> Path:
    """Left: maps under fresh weights; right: place of each kind of object by effect and by map."""
    figure, axes = new_figure(1, 2, panel=(5.2, 3.6))
    _randomisation(axes[0, 0], numbers["randomisation"])
    kinds = numbers["kinds"]["value"]
    _kinds(axes[0, 1], kinds)
    legends = {}
    for axis in axes[0]:
        handles, labels = axis.get_legend_handles_labels()
        legends = dict(zip(labels, handles)) | legends
    figure.legend(legends.values(), legends.keys(), loc="outside upper center", ncols=7, fontsize=7.5)
    layers = next(iter(numbers["randomisation"].values()))
    text = (
        "Left: rank correlation over pixels (absolute values) of the value's map with that of an agent whose "
        f"weights are fresh from the heads down to a layer (n = {layers[0]['n']} states); a method that does "
        "not fall explains the picture. SARFA: of the action. Right: mean place of an object among those of "
        "its state, from least (0) to most (1), by the size of its real effect on the value and by the mass "
        "of maps. Bands and bars: 95% by layout."
    )
    add_caption(figure, text, *_counts(numbers))
    return save_figure(figure, path)[0]


def _randomisation(axis, randomisation: dict[str, list[dict]]) -> None:
    for method, color in zip(RANDOMISED, GROUPS):
        rows = randomisation[f"{'action' if method == 'sarfa' else 'value'}/{method}"]
        x = np.arange(len(rows) + 1)
        value, low, high = (
            np.array([1.0, *(row[name] for row in rows)], float) for name in ("value", "low", "high")
        )
        axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(x, value, color=color, label=NAMES[method], marker="o", markersize=3)
    names = ["trained", *(row["layer"].replace("encoder ", "encoder\n") for row in rows)]
    axis.set_xticks(x, names, fontsize=7)
    axis.axhline(0, color="#444444", linewidth=0.7)
    axis.set(ylabel="correlation with the trained agent's map", title="fresh weights, layer by layer")


def _kinds(axis, kinds: dict[str, dict]) -> None:
    shown = {"effect": "real effect"} | {name: NAMES[name] for name in SHOWN}
    height = 0.8 / len(shown)
    colors = ("#1a1a1a", *GROUPS)
    for i, (name, label) in enumerate(shown.items()):
        rows = [about["place"][name] for about in kinds.values()]
        value, low, high = (np.array([row[part] for row in rows], float) for part in ("value", "low", "high"))
        y = np.arange(len(kinds)) + (i - len(shown) / 2 + 0.5) * height
        axis.hlines(y, low, high, color=colors[i], linewidth=1.2)
        axis.plot(value, y, "D" if name == "effect" else "o", color=colors[i], markersize=4, label=label)
    labels = [f"{kind}\n{about['objects']} objects" for kind, about in kinds.items()]
    axis.set_yticks(range(len(kinds)), labels, fontsize=7.5)
    axis.axvline(0.5, color="#444444", linewidth=0.7)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="place among the objects of the state", title="kinds of objects")
