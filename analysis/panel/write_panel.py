"""Writes the panel: facts as JSON, arrays as compressed text, and the page's own script, in one file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.panel.direction_sets import DirectionScores
from analysis.panel.embed import layout, pack
from analysis.panel.factor_gallery import Gallery
from analysis.panel.run_samples import RunSamples
from analysis.panel.words import action_glyphs, function_words, sample_words
from analysis.rendering.path_trust import PathTrust
from common.checkpoints import write_text
from common.progress import progress_bar
from common.words import counted

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    "data", "state", "tips", "colours", "pictures", "player", "scatter", "bars", "filters", "samples",
    "factors", "tour", "main",
)  # fmt: skip
"""Parts of the page's script, in the order in which they run."""


class Panel(NamedTuple):
    """All that a page shows."""

    samples: RunSamples
    directions: DirectionScores
    clusters: np.ndarray
    """[N]: cluster of each sample."""
    cluster_source: str
    """How the clusters were made, in words."""
    gallery: Gallery | None
    trust: PathTrust = PathTrust()


def write_panel(path: Path, panel: Panel) -> None:
    """Writes the page."""
    table = table_arrays(panel)
    clips = []
    for sample in progress_bar(panel.samples.ids, desc="packing samples", unit="sample"):
        arrays = clip_arrays(panel.samples, sample)
        clips.append(pack(arrays))
    facts = page_facts(panel) | {"table": layout(table), "clip": layout(arrays)}
    parts = {
        "STYLE": (ASSETS / "panel.css").read_text(),
        "SCRIPT": "\n".join((ASSETS / f"{name}.js").read_text() for name in SCRIPTS),
        "FACTS": json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c"),
        "TABLE": pack(table),
        "CLIPS": "\n".join(clips),
    }
    write_text(path, fill((ASSETS / "panel.html").read_text(), parts))


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with every {{NAME}} replaced; what is put in is not searched again."""
    pieces = [piece.split("}}", 1) for piece in template.split("{{")]
    return pieces[0][0] + "".join(parts[name] + rest for name, rest in pieces[1:])


def clip_arrays(samples: RunSamples, sample: int) -> dict[str, np.ndarray]:
    """Frames [T, H, W, C], and the stored maps [S, H, W] of the steps that matter to a function."""
    clip = samples.store.clip(sample)
    maps = {f"map/{f}": clip[f"map/{f}"][: part.shape[1]] for f, part in samples.gradients.items()}
    return {"obs": clip["obs"]} | maps


def table_arrays(panel: Panel) -> dict[str, np.ndarray]:
    """What the page needs of all samples at once."""
    samples = panel.samples
    arrays = {"scores": panel.directions.scores, "cluster": panel.clusters.astype(np.int16)}
    arrays |= {f"gradient/{f}": part for f, part in panel.directions.gradients.items()}
    arrays |= {f"scale/{f}": scale for f, scale in samples.scales.items()}
    arrays |= samples.columns | {"action": samples.columns["action"].astype(np.int16)}
    clips = [samples.store.clip(sample) for sample in samples.ids]
    arrays["thumb"] = np.stack([half_size(clip["obs"][samples.sorting_step]) for clip in clips])
    if panel.gallery:
        regions = panel.gallery.factors.regions
        arrays["region"] = np.round(255 * regions / regions.max((1, 2), keepdims=True)).astype(np.uint8)
        shown = [example for row in panel.gallery.examples for example in row]
        arrays["example_obs"] = np.stack([clips[i]["obs"][t] for i, _, t in shown])
        arrays["example_map"] = np.stack([clips[i][f"map/{samples.functions[f]}"][t] for i, f, t in shown])
    return arrays


def half_size(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, C] at half its size, or as it is if a side is odd."""
    height, width, channels = frame.shape
    if height % 2 or width % 2:
        return frame
    return frame.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3)).round().astype(np.uint8)


def page_facts(panel: Panel) -> dict:
    """Names and sizes."""
    samples = panel.samples
    actions = list(samples.store.facts["action_names"])
    return {
        "about": about(panel),
        "step": samples.read_step,
        "sorting_step": samples.sorting_step,
        "recorded": samples.recorded,
        "functions": [
            {
                "name": f,
                "words": function_words(f, actions),
                "steps": samples.gradients[f].shape[1],
                "untrusted": panel.trust.rejects(f),
            }
            for f in samples.functions
        ],
        "actions": action_glyphs(actions),
        "directions": [
            {"name": name, "set": of, "status": status}
            for name, of, status in zip(
                panel.directions.names, panel.directions.sets, panel.directions.status
            )
        ],
        "samples": [
            {"id": int(number), "words": words} for number, words in zip(samples.ids, sample_words(samples))
        ],
        "cluster_source": panel.cluster_source,
        "factors": panel.gallery and gallery_facts(panel.gallery),
    }


def about(panel: Panel) -> str:
    """The first lines: what is shown, of how many samples and levels, how it was computed, by which agent."""
    samples, facts = panel.samples, panel.samples.store.facts
    levels = samples.origin("level")
    known = np.unique(levels[levels >= 0])
    where = f" of {counted(len(known), 'level')} ({known.min():,}-{known.max():,})" if len(known) else ""
    kind = "recorded" if samples.recorded else "simulated"
    read = "summed over steps" if samples.read_step is None else f"read at step {samples.read_step}"
    draws = f", over {facts['draws']} draws" if facts.get("draws", 1) > 1 else ""
    how = f" by {facts['method']}{draws}" if "method" in facts else ""
    size = f"{counted(len(samples.ids), f'{kind} sample')}{where}"
    steps = f"{counted(samples.hidden.shape[1], 'step')} each"
    maps = f"Functions are {read}; maps are their gradients with respect to pixels{how}"
    doubt = " Gradients through the simulator are unchecked." if panel.trust.failed is None else ""
    return f"{size}, {steps}. {maps}.{doubt} Agent {samples.agent}."


def gallery_facts(gallery: Gallery) -> dict:
    """Shares, stability and examples of the regions."""
    factors = gallery.factors
    cosines = None if factors.cosines is None else np.median(factors.cosines, 0)
    return {
        "explained": factors.explained,
        "draws": 0 if factors.cosines is None else len(factors.cosines),
        "regions": [
            {
                "share": float(factors.share[k]),
                "cosine": None if cosines is None else float(cosines[k]),
                "stable": None if cosines is None else bool(factors.stable[k]),
                "by_function": gallery.by_function[k].tolist(),
                "examples": [{"sample": i, "function": f, "step": t} for i, f, t in gallery.examples[k]],
            }
            for k in range(len(factors.share))
        ],
    }
