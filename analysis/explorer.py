"""The explorer: one HTML file, without server or scripts from elsewhere, in which the points of a map show their frames and play their episodes."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from analysis.colourings import Coloured, Colouring, colour
from common.checkpoints import write_text

TEMPLATE = Path(__file__).with_suffix(".html")
COLUMNS = 32
"""Frames in a row of an episode's sheet."""
QUALITY = 80
GROUND = 6000
"""Points of the pale cloud behind."""
_GRID = 4095  # places are whole numbers up to this
_KEY = 5  # of a scale, colours that its key shows


def write_explorer(path: Path, maps: Mapping[str, Mapping[str, np.ndarray]], labels: Mapping[str, Mapping[str, np.ndarray]],
                   frames: Mapping[str, np.ndarray], colourings: Sequence[Colouring], names: list[str], titles: Mapping[str, str], about: str) -> None:  # fmt: skip
    """Writes the page. Shown are the steps of the followed episodes, frames["followed"] [n, H, W, C], and those of simulated episodes of which frames are
    there: the first steps of labels["simulated"]. names: of the actions; titles: of the maps."""
    shown = {"real": ("followed", len(frames["followed"]))}
    if "simulated" in frames:
        shown["simulated"] = ("simulated", len(frames["simulated"]))
    columns = {key: np.concatenate([labels[of][key][:n] for of, n in shown.values()]) for key in labels["followed"]}
    pictures = {source: frames[of] for source, (of, _) in shown.items()}
    data = {
        "title": "Explorer of hidden states", "about": about, "names": dict(titles), "columns": COLUMNS, "side": int(frames["followed"].shape[1]),
        "episodes": episodes_of(columns, pictures), "t": columns["t"].tolist(), "maps": {}, "ground": {},
        "colourings": [colouring_of(how, columns[how.label], names) for how in colourings],
    }  # fmt: skip
    data["episode"] = np.repeat(np.arange(len(data["episodes"])), [episode["length"] for episode in data["episodes"]]).tolist()
    for kind, arrays in maps.items():
        points = np.concatenate([arrays[of][:n] for of, n in shown.values()])
        everything = np.concatenate([points, arrays["real"]])
        low, high = everything.min(0), everything.max(0)
        few = np.random.default_rng(0).permutation(len(arrays["real"]))[:GROUND]
        data["maps"][kind], data["ground"][kind] = (_grid(some, low, high) for some in (points, arrays["real"][few]))
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    write_text(path, TEMPLATE.read_text().replace(">DATA<", f">{text}<"))


def episodes_of(columns: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray]) -> list[dict]:
    """Name, source, first row, length and sheet of frames of each episode; columns [n] and the frames of each source [.., H, W, C], in the same order."""
    episodes, at = [], 0
    for source, shown in pictures.items():
        ids = columns["episode"][at : at + len(shown)]
        for begin, end in zip(*_runs(ids)):
            level = columns["level"][at + begin]
            name = f"level {level}, {end - begin} steps" if source == "real" else f"simulated {ids[begin]}, {end - begin} steps"
            episodes.append({"name": name, "source": source, "first": int(at + begin), "length": int(end - begin), "sheet": sheet(shown[begin:end])})
        at += len(shown)
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
    return np.array([f"{value:.3g}" if how.how == "scale" else str(int(value)) for value in values])


def _key(how: Colouring, painted: Coloured) -> list[tuple[str, str]]:
    if isinstance(painted.key, list):
        return [(name, to_hex(look)) for name, look in painted.key]
    low, high, _ = painted.key
    marks = np.geomspace(low, high, _KEY) if how.how == "log" else np.linspace(low, high, _KEY)
    colors = colour(how, marks).rgb / 255
    return [(f"{mark:.3g}", to_hex(color)) for mark, color in zip(marks, colors)]


def _runs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row, and row after the last, of each stretch of equal ids [n]."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1, [len(ids)]])
    return edges[:-1], edges[1:]


def _grid(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict:
    whole = np.round((points - low) / np.maximum(high - low, 1e-9) * _GRID).astype(int)
    return {"x": whole[:, 0].tolist(), "y": whole[:, 1].tolist()}
