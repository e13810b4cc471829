"""The explorer: one HTML file, without server or foreign scripts, in which the points of a map show their frames and play their episodes."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from analysis.colourings import Coloured, Colouring, colour, short
from common.checkpoints import write_text
from common.words import counted

TEMPLATE = Path(__file__).with_suffix(".html")
COLUMNS = 32
"""Frames in a row of an episode's sheet."""
QUALITY = 80
GROUND = 6000
"""Points of the pale cloud behind."""
_GRID = 4095  # places are whole numbers up to this
_KEY = 5  # of a scale, colours that its key shows


class Shown(NamedTuple):
    """What a page shows: the steps of the followed real episodes, and those simulated steps, the first of them, of which frames are there."""

    maps: Mapping[str, Mapping[str, np.ndarray]]
    """[n, 2] by map and sample: real (the pale cloud), followed, simulated."""
    labels: Mapping[str, Mapping[str, np.ndarray]]
    """[n] by sample and label."""
    frames: Mapping[str, np.ndarray]
    """[n, H, W, C] uint8: followed, and simulated if there are any."""
    actions: list[str]
    """Their names."""
    titles: Mapping[str, str]
    """Names of the maps."""


def write_explorer(path: Path, shown: Shown, colourings: Sequence[Colouring], about: str) -> None:
    """Writes the page; `about` is a line at its top."""
    pictures = {name: shown.frames[name] for name in ("followed", "simulated") if name in shown.frames}
    columns = {key: np.concatenate([shown.labels[of][key][: len(some)] for of, some in pictures.items()]) for key in shown.labels["followed"]}
    episodes = episodes_of(columns, pictures)
    data = {
        "title": "Explorer of hidden states", "about": about, "names": dict(shown.titles), "columns": COLUMNS,
        "side": int(pictures["followed"].shape[1]), "episodes": episodes, "t": columns["t"].tolist(), "maps": {}, "ground": {},
        "episode": np.repeat(np.arange(len(episodes)), [episode["length"] for episode in episodes]).tolist(),
        "colourings": [colouring_of(how, columns[how.label], shown.actions) for how in colourings],
    }  # fmt: skip
    for kind, arrays in shown.maps.items():
        points = np.concatenate([arrays[of][: len(some)] for of, some in pictures.items()])
        everything = np.concatenate([points, arrays["real"]])
        low, high = everything.min(0), everything.max(0)
        few = np.random.default_rng(0).permutation(len(arrays["real"]))[:GROUND]
        data["maps"][kind], data["ground"][kind] = (_grid(some, low, high) for some in (points, arrays["real"][few]))
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    write_text(path, TEMPLATE.read_text().replace(">DATA<", f">{text}<"))


def episodes_of(columns: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray]) -> list[dict]:
    """Name, source, first row, length and sheet of frames of each episode; columns [n], and the frames of each sample, in the same order."""
    episodes, at = [], 0
    for of, frames in pictures.items():
        ids = columns["episode"][at : at + len(frames)]
        for begin, end in zip(*_runs(ids)):
            name = f"level {columns['level'][at + begin]}" if of == "followed" else f"simulated {ids[begin]}"
            source = "real" if of == "followed" else "simulated"
            where = {"first": int(at + begin), "length": int(end - begin)}
            episodes.append({"name": f"{name}, {counted(end - begin, 'step')}", "source": source} | where | {"sheet": sheet(frames[begin:end])})
        at += len(frames)
    return episodes


def sheet(frames: np.ndarray) -> str:
    """Frames [T, H, W, C] uint8 in rows of COLUMNS, as the data URI of a WebP picture."""
    count, height, width, channels = frames.shape
    rows = -(-count // COLUMNS)
    whole = np.zeros((rows * COLUMNS, height, width, channels), np.uint8)
    whole[:count] = frames
    picture = whole.reshape(rows, COLUMNS, height, width, channels).swapaxes(1, 2).reshape(rows * height, COLUMNS * width, channels)
    picture = picture[:, : min(count, COLUMNS) * width]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def colouring_of(how: Colouring, values: np.ndarray, names: list[str]) -> dict:
    """A colouring of n points as indices into a palette and into a list of words, with its key."""
    painted = colour(how, values, names)
    palette, color = np.unique(np.round(painted.rgb).astype(int), axis=0, return_inverse=True)
    words, word = np.unique(_words(how, values, names), return_inverse=True)
    return {
        "title": how.title, "palette": [to_hex(rgb / 255) for rgb in palette], "color": color.ravel().tolist(), "order": painted.order.tolist(),
        "words": words.tolist(), "word": word.tolist(), "key": _key(how, painted),
    }  # fmt: skip


def _words(how: Colouring, values: np.ndarray, names: list[str]) -> np.ndarray:
    if how.how == "flag":
        return np.where(np.asarray(values) > 0, "yes", "no")
    if how.how == "named":
        return np.array(names)[values]
    return np.array([short(value) if how.how == "scale" else str(int(value)) for value in values])


def _key(how: Colouring, painted: Coloured) -> list[tuple[str, str]]:
    if isinstance(painted.key, list):
        return [(name, to_hex(look)) for name, look in painted.key]
    marks = painted.key.marks(_KEY)
    colors = colour(how, marks).rgb / 255
    return [(short(mark), to_hex(color)) for mark, color in zip(marks, colors)]


def _runs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row, and row after the last, of each stretch of equal ids [n]."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1, [len(ids)]])
    return edges[:-1], edges[1:]


def _grid(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict:
    whole = np.round((points - low) / np.maximum(high - low, 1e-9) * _GRID).astype(int)
    return {"x": whole[:, 0].tolist(), "y": whole[:, 1].tolist()}
