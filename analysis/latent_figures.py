"""Pictures of the bottleneck: informed and random latents in one map, and how far the former are from the prior, dimension by dimension."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from analysis.cloud import limits
from analysis.colourings import CLASSES, Colouring, Scale, colour
from analysis.map_figures import TITLES
from analysis.style import NULL, REAL, add_caption, new_figure, save_figure

COLOURINGS = (
    Colouring("reward", "largest expected reward", "scale", "viridis"),
    Colouring("done", "the model ends the episode", "flag"),
    Colouring("value", "mean value", "scale", "viridis"),
    Colouring("cluster", "cluster of informed latents", "classes"),
)
_SIZE = 6.0  # of a point's area
_OTHER = "#ededed"  # paler than the grey of a flag that is not set
_ROWS = {"informed": "informed (recorded windows)", "random": "random (the prior)"}


def draw_latents(kind: str, maps: Mapping[str, np.ndarray], labels: Mapping[str, Mapping[str, np.ndarray]], n: str, levels: str, path: Path) -> Path:
    """One map, a row for each kind of latents and a column for each colouring. maps, labels: by kind, "informed" and "random"."""
    figure, axes = new_figure(2, len(COLOURINGS), panel=(2.9, 2.8))
    (left, low), (right, high) = limits(np.concatenate([maps[name] for name in _ROWS]))
    for j, how in enumerate(COLOURINGS):
        values = np.concatenate([labels[name][how.label] for name in _ROWS])
        places = np.concatenate([maps[name] for name in _ROWS])
        painted = colour(how, values, numbered_at=places if how.how == "classes" else None).rgb / 255  # one scale for both
        rgb = dict(zip(_ROWS, np.split(painted, [len(maps["informed"])])))
        for axis, name in zip(axes[:, j], _ROWS):
            other = next(iter(set(_ROWS) - {name}))
            axis.scatter(*maps[other].T, s=_SIZE, color=_OTHER, linewidths=0, rasterized=True)
            axis.scatter(*maps[name].T, s=_SIZE, c=rgb[name], linewidths=0, rasterized=True)
            axis.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])
            axis.grid(False)
        axes[0, j].set_title(how.title, fontsize=9)
        _key(figure, axes[:, j], how, values)
    for axis, name in zip(axes[:, 0], _ROWS):
        axis.set_ylabel(f"{_ROWS[name]}\n{TITLES[kind][1]}")
    for axis in axes[1]:
        axis.set_xlabel(TITLES[kind][0])
    text = (
        "What comes of a latent in the simulator, on a map made of informed latents into which random ones are placed; "
        f"pale: the other kind. Scales are shared; of more than {len(CLASSES)} clusters colours repeat, far apart."
    )
    add_caption(figure, text, n, levels)
    return save_figure(figure, path)[0]


def _key(figure, axes, how: Colouring, values: np.ndarray) -> None:
    key = colour(how, values).key
    if isinstance(key, Scale):
        figure.colorbar(key.mappable(), ax=list(axes), location="bottom", shrink=0.8, pad=0.02, aspect=30)
    elif how.how == "flag":
        for name, look in key:
            axes[1].scatter([], [], s=20, color=look, label=name)
        axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def draw_distance(arrays: Mapping[str, np.ndarray], radius: Mapping[str, np.ndarray], numbers: dict, n: str, levels: str, path: Path) -> Path:
    """Six panels: KL, mean, variance and kurtosis by dimension, variances of principal axes, squared lengths; q in blue, draws from
    N(0, I) in grey."""
    figure, axes = new_figure(2, 3, panel=(3.7, 2.7))
    _rate(axes[0, 0], arrays, numbers)
    for axis, name, unit in ((axes[0, 1], "mean", "mean"), (axes[0, 2], "variance", "variance"), (axes[1, 0], "kurtosis", "excess kurtosis")):
        for look, of, label in ((NULL, "draws", "as many draws from N(0, I)"), (REAL, "q", "all q together")):
            axis.plot(np.sort(arrays[f"{of}.{name}"])[::-1], label=label, **look)
        axis.set(title=f"{unit} by dimension", xlabel="dimension, largest first", ylabel=unit)
    axes[0, 1].legend(loc="upper right")
    for look, of in ((NULL, "draws"), (REAL, "q")):
        spread = arrays[f"axes.{of}"]
        axes[1, 1].plot(spread[spread > 1e-6 * spread.max()], **look)  # fewer latents than dimensions span fewer axes
    axes[1, 1].set(title="variance by principal axis", xlabel="axis, largest first", ylabel="variance", yscale="log")
    _lengths(axes[1, 2], radius, numbers["width"])
    add_caption(figure, _told_apart(numbers["distance"]), n, levels)
    return save_figure(figure, path)[0]


def _rate(axis, arrays: Mapping[str, np.ndarray], numbers: dict) -> None:
    """Bars of the KL of each dimension, largest first, with the part that is the distance of all q together."""
    order = np.argsort(-np.nan_to_num(arrays["q.kl"]), kind="stable")
    axis.set(title="KL(q || N(0, 1)) by dimension", xlabel="dimension, largest first", ylabel="nats per window")
    if numbers["q"]["rate"] is None:
        axis.text(0.5, 0.5, "points on a sphere:\nno KL", transform=axis.transAxes, ha="center", va="center")
        return
    across = np.arange(len(order))
    axis.fill_between(across, arrays["q.kl"][order], step="mid", color=REAL["color"], alpha=0.35, linewidth=0)
    axis.plot(across, arrays["q.kl"][order], drawstyle="steps-mid", label=f"of a window: {numbers['q']['rate']:.0f} in all", **REAL)
    axis.plot(across, arrays["q.marginal_kl"][order], color="#8a4f9e", linewidth=0.9, label=f"of all together: {numbers['q']['marginal_kl']:.1f}")
    axis.legend(loc="upper right", title=f"{numbers['q']['active']} of {len(order)} active", title_fontsize=8)


def _lengths(axis, radius: Mapping[str, np.ndarray], width: int) -> None:
    everything = np.concatenate(list(radius.values()))
    bins = np.linspace(everything.min(), everything.max() * (1 + 1e-6) + 1e-9, 40)
    for look, name, label in ((NULL, "random", "random"), (REAL, "informed", "informed")):
        axis.hist(radius[name], bins, density=True, histtype="stepfilled", alpha=0.35, color=look["color"])
        axis.hist(radius[name], bins, density=True, histtype="step", color=look["color"], linewidth=1.2, label=label)
    if np.ptp(radius["random"]) > 1e-3:  # on the sphere all lengths are 1
        grid = np.linspace(bins[0], bins[-1], 200)
        axis.plot(grid, chi2.pdf(grid, width), color="#444444", linewidth=0.9, linestyle=":", label=f"$\\chi^2$ of {width}")
    axis.set(title="squared length of a latent", xlabel="$|z|^2$", ylabel="density")
    axis.legend(loc="upper right")


def _told_apart(distance: dict) -> str:
    def one(found: dict) -> str:
        auroc = found["values and squares"]
        return (
            f"AUROC {auroc['value']:.2f} [{auroc['low']:.2f}, {auroc['high']:.2f}] (values alone {found['values']['value']:.2f}), "
            f"MMD {found['mmd']:.3f} (dealt at random: below {found['mmd_null']:.3f})"
        )

    return f"Informed from random latents, on unseen levels: {one(distance['informed'])}. Control, random from random: {one(distance['control'])}."
