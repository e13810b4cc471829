"""Saliency as film strips and videos: frames with the maps of one function, actions, and the scale."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.rendering.arrows import arrow_direction
from analysis.rendering.path_trust import PathTrust
from analysis.rendering.pen import Pen
from analysis.rendering.signed_map import legend_bar, overlay_map, scale_end
from common.checkpoints import write_atomically, write_json
from common.progress import progress_bar
from common.video import upscale, write_video
from interpret.attribution.env_gradients import held_map, whole_functions
from interpret.attribution.saliency_store import SaliencyStore

_GROUND = (255, 255, 255)
_TEXT = (34, 38, 44)
_QUIET = (112, 118, 128)
_MARK = (222, 140, 16)
_GAP = 6
_SIDE = 14  # margin of the page
_TITLE = 44
_HEAD = 24  # above each column of a strip: its step and action
_LEGEND = 96  # width
_LABELS = 92  # of rows
_STRIP_SIDE = 120  # of a frame in a strip, about
_VIDEO_SIDE = 320  # and in a video
_STRIP_UNIT = 2  # pixels per layout unit
_COLUMNS = 10  # of a strip, before it goes on below
_FPS = 3


@dataclass(frozen=True)
class SaliencyClip:
    """What is drawn of one sample and function.

    Args:
        frames: uint8 [T, H, W, 3].
        maps: by label, [S, H, W].
        actions: name of the action at each step.
        step: at which the function is read, or "sum".
        length: steps until the episode ends; the simulator goes on all the same.
        title, subtitle: above.
        untrusted: labels of maps that are drawn without colour.
    """

    frames: np.ndarray
    maps: dict[str, np.ndarray]
    actions: Sequence[str]
    step: int | str
    length: int
    title: str
    subtitle: str
    untrusted: frozenset[str] = frozenset()

    @property
    def limit(self) -> float:
        """End of the scale, which all maps share."""
        return scale_end(np.stack([self.shown(label) for label in self.maps]))

    def vanishes(self, label: str) -> bool:
        """Whether no change of pixels within [0, 1] would change the function by as much as float32 can tell
        from 1.
        """
        return np.abs(self.maps[label]).sum() < np.finfo(np.float32).eps

    def shown(self, label: str) -> np.ndarray:
        """The map as it is drawn: 0 where it vanishes."""
        return np.zeros_like(self.maps[label]) if self.vanishes(label) else self.maps[label]

    def remarks(self, label: str) -> list[str]:
        """What a reader has to know of a map."""
        doubted = label in self.untrusted and not self.vanishes(label)
        return ["all zero"] * self.vanishes(label) + ["not trusted"] * doubted

    @property
    def mapped(self) -> int:
        """S: steps with a map."""
        return len(next(iter(self.maps.values())))


def draw_strip(clip: SaliencyClip) -> np.ndarray:
    """All steps with a map from left to right, frames above, maps below: uint8 [height, width, 3]."""
    scale = max(round(_STRIP_SIDE / clip.frames.shape[1]), 1)
    height, width = (side * scale for side in clip.frames.shape[1:3])
    columns = min(clip.mapped, _COLUMNS)
    rows = 1 + len(clip.maps)
    band = _HEAD + rows * (height + _GAP) + _GAP
    bands = -(-clip.mapped // columns)
    size = (2 * _SIDE + _LABELS + columns * (width + _GAP) + _LEGEND, _TITLE + bands * band + _SIDE)
    pen = _page(size, _STRIP_UNIT)
    _draw_title(pen, clip)
    for t in range(clip.mapped):
        left = _SIDE + _LABELS + t % columns * (width + _GAP)
        top = _TITLE + t // columns * band
        _draw_column(pen, clip, t, (left, top), scale)
    for at in range(bands):
        for row, label in enumerate(("frame", *clip.maps)):
            middle = _TITLE + at * band + _HEAD + row * (height + _GAP) + height / 2
            pen.text((_SIDE, middle), label, 12, _QUIET)
            for remark in clip.remarks(label) if row else ():
                pen.text((_SIDE, middle + 15), remark, 12, _MARK)
    top = _TITLE + _HEAD + height + _GAP
    _draw_legend(pen, clip, (size[0] - _LEGEND - _SIDE + 10, top), len(clip.maps) * (height + _GAP) - _GAP)
    return np.asarray(pen.picture)


def _page(size: tuple[int, int], unit: int) -> Pen:
    return Pen(Image.new("RGB", (size[0] * unit, size[1] * unit), _GROUND), unit)


def video_frames(clip: SaliencyClip) -> Iterator[np.ndarray]:
    """The frame and each map side by side, one picture per step: uint8 [height, width, 3]."""
    scale = max(round(_VIDEO_SIDE / clip.frames.shape[1]), 1)
    height, width = (side * scale for side in clip.frames.shape[1:3])
    size = (2 * _SIDE + (1 + len(clip.maps)) * (width + _GAP) + _LEGEND, _TITLE + _HEAD + height + 2 * _SIDE)
    for t in range(len(clip.frames)):
        pen = _page(size, 1)
        _draw_title(pen, clip)
        top = _TITLE + _HEAD
        _draw_head(pen, clip, t, (_SIDE, _TITLE), width)
        _paste(pen, clip.frames[t], scale, (_SIDE, top))
        for at, label in enumerate(clip.maps, start=1):
            left = _SIDE + at * (width + _GAP)
            words = ", ".join([label, *clip.remarks(label)])
            pen.text((left + 2, _TITLE + _HEAD / 2), words, 13, _QUIET)
            _paste(pen, _map_at(clip, label, t), scale, (left, top))
            if t >= clip.mapped:
                pen.text((left + width / 2, top + height - 12), "too late to matter", 13, _QUIET, anchor="mm")
        if t == clip.step:
            _frame(pen, (_SIDE, top, size[0] - _LEGEND - _SIDE - _GAP, top + height))
        _draw_legend(pen, clip, (size[0] - _LEGEND - _SIDE + 10, top), height)
        yield np.asarray(pen.picture)


def _draw_column(pen: Pen, clip: SaliencyClip, t: int, corner: tuple[int, int], scale: int) -> None:
    left, top = corner
    height, width = (side * scale for side in clip.frames.shape[1:3])
    _draw_head(pen, clip, t, corner, width)
    top += _HEAD
    pictures = [clip.frames[t], *(_map_at(clip, label, t) for label in clip.maps)]
    for row, image in enumerate(pictures):
        _paste(pen, image, scale, (left, top + row * (height + _GAP)))
    if t == clip.step:
        _frame(pen, (left, top, left + width, top + len(pictures) * (height + _GAP) - _GAP))


def _draw_head(pen: Pen, clip: SaliencyClip, t: int, corner: tuple[int, int], width: int) -> None:
    """The step and the action taken there; the step at which the function is read is marked."""
    left, top = corner
    marked = t == clip.step
    words = f"t = {t}{' · read here' if marked else ' · ended' if t >= clip.length else ''}"
    pen.text((left + 2, top + _HEAD / 2), words, 12, _MARK if marked else _TEXT)
    name = clip.actions[t]
    pen.arrow((left + width - _HEAD + 2, top + 2), _HEAD - 4, arrow_direction(name), _TEXT, _GROUND)
    if arrow_direction(name) is None:
        pen.text((left + width - 2, top + _HEAD / 2), name, 11, _QUIET, anchor="rm")


def _map_at(clip: SaliencyClip, label: str, t: int) -> np.ndarray:
    maps = clip.shown(label)
    shown = maps[t] if t < len(maps) else np.zeros(maps.shape[1:])
    return overlay_map(clip.frames[t], shown, clip.limit, label in clip.untrusted)


def _draw_title(pen: Pen, clip: SaliencyClip) -> None:
    pen.text((_SIDE, 16), clip.title, 15, _TEXT)
    pen.text((_SIDE, 35), clip.subtitle, 11, _QUIET)


def _draw_legend(pen: Pen, clip: SaliencyClip, corner: tuple[int, int], height: int) -> None:
    """The scale; there is none where all maps are zero."""
    if all(map(clip.vanishes, clip.maps)):
        return
    left, top = corner
    _paste(pen, legend_bar(height, 14), 1, (left, top))
    for share, sign in ((0.0, "+"), (0.5, ""), (1.0, "−")):
        words = "0" if share == 0.5 else f"{sign}{clip.limit:.2g}"
        pen.text((left + 20, top + 6 + share * (height - 12)), words, 11, _TEXT)
    for share, words in ((0.25, "raises it"), (0.75, "lowers it")):
        pen.text((left + 20, top + share * height), words, 10, _QUIET)


def _paste(pen: Pen, image: np.ndarray, scale: int, corner: tuple[int, int]) -> None:
    """An image whose pixels are `scale` layout units wide."""
    enlarged = Image.fromarray(upscale(image, scale * pen.unit))
    pen.picture.paste(enlarged, (corner[0] * pen.unit, corner[1] * pen.unit))


def _frame(pen: Pen, corners: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = (corner * pen.unit for corner in corners)
    rim = 2 * pen.unit
    pen.draw.rectangle((left - rim, top - rim, right + rim - 1, bottom + rim - 1), outline=_MARK, width=rim)


def clip_of(
    store: SaliencyStore,
    sample: int,
    function: str,
    maps: dict[str, np.ndarray],
    trust: PathTrust,
    note: str = "",
    of: Mapping[str, str] | None = None,
) -> SaliencyClip:
    """A sample's clip with maps of a function.

    Args:
        store: of the sample.
        sample: its number.
        function: its name.
        maps: by label.
        trust: says which maps lose their colour.
        note: ends the title.
        of: {label: stored function} of maps that are not of `function` itself.
    """
    arrays = store.clip(sample)
    facts = store.facts
    names = facts["action_names"]
    actions = [names[facts["effect_classes"][action]] for action in arrays["action"]]
    read = "summed over all steps" if facts["step"] == "sum" else f"at step {facts['step']}"
    untrusted = frozenset(label for label in maps if trust.rejects((of or {}).get(label, function)))
    doubt = f" · {trust.words}" if untrusted or trust.failed is None else ""
    mean = f" · mean of {facts['draws']} draws" if facts["draws"] > 1 else ""
    return SaliencyClip(
        arrays["obs"],
        maps,
        actions,
        facts["step"],
        int(arrays["length"]),
        f"{_sample_name(store, sample)} · gradient of {function} {read}{note}",
        f"{_source(store, sample)}{mean} · summed over colours, per unit of brightness{doubt}",
        untrusted,
    )


def _sample_name(store: SaliencyStore, sample: int) -> str:
    combined = store.facts["combined"]
    return f"Mean latent of {len(combined)} samples" if combined else f"Sample {sample}"


def _source(store: SaliencyStore, sample: int) -> str:
    row = store.samples.index(sample)
    episode, step, level = (store.facts["source"][name][row] for name in ("episode", "step", "level"))
    if episode < 0:
        return "simulated from a mean latent"
    kind = "recorded" if store.facts["real_frames"] else "simulated from"
    return f"{kind} episode {episode}, step {step}, level {level}"


def draw_samples(store: SaliencyStore, directory: Path, trust: PathTrust) -> None:
    """A video and a strip of each sample and function that has none yet."""
    _forget_other_colors(directory, trust)
    asked = [(sample, function) for sample in store.samples for function in store.functions]
    for sample, function in progress_bar(asked, unit="clip", desc="pictures"):
        name = f"{_file_name(store, sample)}_saliency_{function.replace('@', '_')}"
        clip = clip_of(store, sample, function, {"gradient": store.map(sample, function)}, trust)
        _write(directory / name, clip)


def demo_clip(store: SaliencyStore, sample: int, function: str, trust: PathTrust) -> SaliencyClip:
    """A sample's maps of a function with and without gradients from actions to the environment, and the
    difference.
    """
    maps = {
        "with": store.map(sample, function),
        "without": held_map(store, sample, function),
        "difference": store.map(sample, f"{function}@mixed"),
    }
    # frames have no environment path: without changed actions there is the agent's memory alone
    of = {"without": f"{function}@agent", "difference": f"{function}@mixed"}
    return clip_of(store, sample, function, maps, trust, ", with and without gradients through actions", of)


def draw_demo(store: SaliencyStore, directory: Path, trust: PathTrust) -> None:
    """A video and a strip of `demo_clip` of each sample and function."""
    _forget_other_colors(directory, trust)
    asked = [(sample, function) for sample in store.samples for function in whole_functions(store)]
    for sample, function in progress_bar(asked, unit="clip", desc="demonstration"):
        _write(
            directory / f"{_file_name(store, sample)}_{function}", demo_clip(store, sample, function, trust)
        )


def _forget_other_colors(directory: Path, trust: PathTrust) -> None:
    """Removes the pictures that were drawn when the check of gradients said something else."""
    record = directory.with_name(f"{directory.name}_trust.json")
    now = {"failed": None if trust.failed is None else list(trust.failed)}
    if record.exists() and json.loads(record.read_text()) != now:
        shutil.rmtree(directory, ignore_errors=True)
    write_json(record, now)


def _file_name(store: SaliencyStore, sample: int) -> str:
    return "combined" if store.facts["combined"] else f"sample_{sample:05d}"


def _write(path: Path, clip: SaliencyClip) -> None:
    """path.mp4 and path.png, unless they are there; a name may hold dots."""
    video, strip = (path.with_name(f"{path.name}.{ending}") for ending in ("mp4", "png"))
    if not video.exists():
        write_video(video, video_frames(clip), _FPS)
    if not strip.exists():
        image = Image.fromarray(draw_strip(clip))
        write_atomically(strip, lambda temporary: image.save(temporary, format="PNG"))
