"""Figures of the comparison: actions by situation, concepts by site, directions, representations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.comparison.watched import AGENT, CLONE, DT, ENCODER, OTHER, UNTRAINED, UNTRAINED_DT
from analysis.plotting.style import GROUPS, NULL, add_caption, new_figure, save_figure

COLORS = {DT: GROUPS[0], CLONE: GROUPS[1], OTHER: GROUPS[2]}
LABELS = {DT: "Decision Transformer", CLONE: "clone", OTHER: "agent of another seed"}
MEASURES = {"same": "same likeliest action", "kappa": "kappa against the commonest action"}
CHANCE = {"AUROC": 0.5, "R2": 0.0}
BASELINES = ("frame network", "untrained recurrence", "nuisances")


def sample_of(about: dict) -> tuple[str, str]:
    """Sample sizes and levels, for captions."""
    counts = f"{about['steps']:,} steps of {about['episodes']:,} episodes on {about['layouts']:,} layouts"
    return counts, about["levels"]


def draw_agreement(about: dict, path: Path) -> Path:
    """Share of steps with the same likeliest action, by chance too, and kappa, by situation and network."""
    networks = [name for name in COLORS if name in about["agreement"]]
    names = list(about["agreement"][DT])
    figure, axes = new_figure(1, 2, panel=(4.3, 1.0 + 0.3 * len(names)), sharey=True)
    place = np.arange(len(names))
    for axis, (measure, label) in zip(axes[0], MEASURES.items()):
        for i, network in enumerate(networks):
            rows = [about["agreement"][network][name][measure] for name in names]
            _intervals(
                axis, rows, place + 0.22 * (i - (len(networks) - 1) / 2), COLORS[network], LABELS[network]
            )
        axis.set_xlabel(label)
        axis.set_xlim(left=max(axis.get_xlim()[0], -1), right=1)
    chance = [about["agreement"][DT][name]["chance"]["value"] for name in names]
    axes[0, 0].plot(chance, place, "|", color=NULL["color"], markersize=9, label="by chance (DT)")
    counts = [about["agreement"][DT][name]["steps"] for name in names]
    axes[0, 0].set_yticks(place, [f"{name} ({n:,})" for name, n in zip(names, counts)])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(networks) + 1)
    text = "Recorded steps of the agent; actions with the same effect count as one. Bars: 95%, by layout."
    add_caption(figure, text, *sample_of(about))
    return save_figure(figure, path)[0]


def _intervals(axis, rows: Sequence[Mapping], place: np.ndarray, color: str, label: str) -> None:
    """Points with horizontal 95% intervals; undefined ones are left out."""
    kept = [(y, row) for y, row in zip(place, rows) if None not in (row["value"], row["low"], row["high"])]
    value, low, high = (np.array([row[key] for _, row in kept]) for key in ("value", "low", "high"))
    axis.errorbar(
        value,
        [y for y, _ in kept],
        xerr=np.abs(np.stack([value - low, high - value])),
        fmt="o",
        markersize=3.8,
        color=color,
        elinewidth=1.2,
        label=label,
    )


def columns_of(readers: Sequence[str]) -> list[str]:
    """Readers in the order of the figures: the agent, the Decision Transformer's sites, other networks."""
    sites = [name for name in readers if name.startswith(f"{DT}, ")]
    order = [AGENT, *sites, CLONE, OTHER, UNTRAINED_DT, UNTRAINED, ENCODER]
    return [name for name in order if name in readers]


def draw_concepts(about: dict, path: Path) -> Path:
    """Heat map of probe scores: concepts by networks, layers and tokens; baselines last."""
    entries = about["concepts"]
    readers = columns_of(list(entries))
    own = entries[AGENT]
    groups = {
        measure: sorted(
            (name for name in own if own[name]["measure"] == measure),
            key=lambda name: -(own[name]["value"]["value"] or 0),
        )
        for measure in CHANCE
    }
    names = [name for group in groups.values() for name in group]
    cells = [[entries[reader][name] for reader in readers] for name in names]
    table = np.array([[_number(cell["value"]) for cell in row] for row in cells])
    beyond = np.array([[cell["beyond"] for cell in row] for row in cells])
    others = np.array([[_number(own[name]["baselines"][one]) for one in BASELINES] for name in names])
    figure, axes = new_figure(panel=(2.2 + 0.62 * (len(readers) + 3), 2.3 + 0.2 * len(names)))
    axis = axes[0, 0]
    whole = np.concatenate([table, others], 1)
    bold = np.concatenate([beyond, np.zeros(others.shape, bool)], 1)
    _heat_map(axis, whole, bold, len(groups["AUROC"]))
    axis.axvline(len(readers) - 0.5, color="white", linewidth=3)
    axis.set_xticks(range(whole.shape[1]), [*map(_titled, readers), *BASELINES], rotation=40, ha="left")
    axis.set_yticks(range(len(names)), names)
    text = (
        "Linear probes on held-out layouts: AUROC of binary concepts above the white line, R² of numbers "
        "below it. Bold: above the control task and every baseline (encoder, last three columns), by the 95% "
        "interval by layout."
    )
    add_caption(figure, text, *sample_of(about))
    return save_figure(figure, path)[0]


def _number(one: Mapping) -> float:
    return np.nan if one["value"] is None else one["value"]


def _titled(reader: str) -> str:
    """A reader's name on an axis; a site of the Decision Transformer goes without its network."""
    return {AGENT: "agent's state"}.get(reader, reader.removeprefix(f"{DT}, "))


def _heat_map(axis, table: np.ndarray, bold: np.ndarray, binary: int) -> None:
    """Scores as numbers on blue; the first `binary` rows are AUROC, the others R²."""
    strength = np.where(np.arange(len(table))[:, None] < binary, 2 * table - 1, table).clip(0, 1)
    axis.imshow(strength, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        axis.text(
            j,
            i,
            "" if np.isnan(value) else f"{max(value, -9.99):.2f}",
            ha="center",
            va="center",
            fontsize=6.8,
            fontweight="bold" if bold[i, j] else "normal",
            color="white" if strength[i, j] > 0.85 else "#222222",
        )
    if 0 < binary < len(table):
        axis.axhline(binary - 0.5, color="white", linewidth=3)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def draw_representations(about: dict, path: Path) -> Path:
    """Left: R² of the agent's principal directions from every site. Right: CKA of every site with the agent's
    state.
    """
    entries = about["directions"]
    readers = columns_of(list(entries))
    names = list(next(iter(entries.values())))
    figure, axes = new_figure(
        1, 2, panel=(4.6, 1.9 + 0.27 * len(readers)), sharey=True, width_ratios=[1.15, 1]
    )
    table = np.array([[_number(entries[reader][name]["value"]) for name in names] for reader in readers])
    beyond = np.array([[entries[reader][name]["beyond"] for name in names] for reader in readers])
    left, right = axes[0]
    _heat_map(left, table, beyond, 0)
    shares = [f"{i + 1}\n{share:.0%}" for i, share in enumerate(about["variance"])]
    left.set_xticks(range(len(names)), shares)
    left.set_yticks(range(len(readers)), map(_titled, readers))
    left.set_title("R² of the agent's principal directions", pad=26)
    cka = about["cka"]
    at = cka["names"].index(AGENT)
    rows = [
        {key: cka[key][at][cka["names"].index(reader)] for key in ("value", "low", "high")}
        for reader in readers
    ]
    place = np.arange(len(readers))
    _intervals(right, rows, place, GROUPS[0], "")
    right.axvline(0, **NULL | {"linewidth": 1.0})
    right.set_ylim(len(readers) - 0.5, -0.5)
    right.set_title("debiased CKA with the agent's state")
    text = (
        "Left: numbers of the directions and their share of the variance; bold: above the control task and "
        "every baseline (encoder, untrained recurrence, nuisances). Right: one step per layout. Bars: 95%, "
        "by layout."
    )
    add_caption(figure, text, *sample_of(about))
    return save_figure(figure, path)[0]
