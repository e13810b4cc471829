"""Artefacts of a map, hidden states and simulated states alike, as the plots read them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.io.steps import read_labels, read_numbers, read_part
from analysis.plotting.colourings import Colouring
from analysis.plotting.map_figures import Caption
from common.words import counted

FIT_ON_REQUEST = ("ica", "nmf")
"""Labels that artefacts lack where the method was not asked for, or its fit failed, which was logged."""


@dataclass(frozen=True)
class MapArtefacts:
    """What a precompute step of a map wrote.

    Args:
        numbers: content of numbers.json.
        maps: {kind: {sample: [., 2]}}; `real` is the sample that the map is fit on.
        labels: {sample: {label: [.]}}.
        frames: members [C, M], member_frames, and frames of whole episodes.
        clustering: numbers of the clusters that the label `cluster` names.
        caption: sample size and levels.
        unit: what a point is, in the singular.
        axes: scores on three principal components [n, 3] of the real sample, for animations.
    """

    numbers: dict
    maps: dict[str, dict[str, np.ndarray]]
    labels: dict[str, dict[str, np.ndarray]]
    frames: dict[str, np.ndarray]
    clustering: dict
    caption: Caption
    unit: str
    axes: np.ndarray | None = None

    @property
    def actions(self) -> list[str]:
        """Action names."""
        return self.numbers["actions"]

    def available(self, colourings: Sequence[Colouring], command: str) -> list[Colouring]:
        """The colourings that have labels; warns of the others, which the command computes with --new."""
        labels = self.labels["real"]
        missing = [one.label for one in colourings if one.label not in (*labels, *FIT_ON_REQUEST)]
        if missing:
            logging.warning(
                "the artefacts have no labels for %s, so these colourings are left out; compute them with: "
                "%s --new",
                ", ".join(missing),
                command,
            )
        return [one for one in colourings if one.label in labels]

    def members(self, cluster: int) -> np.ndarray:
        """Example frames [M, H, W, C] of a cluster."""
        present = (self.frames["members"] >= 0).sum(1)
        end = np.cumsum(present)[cluster]
        return self.frames["member_frames"][end - present[cluster] : end]


def read_hidden_state_map(directory: Path) -> MapArtefacts:
    """Artefacts of the hidden-state analysis. Raises UsageError if a part is missing or damaged."""
    numbers = read_numbers(directory)
    maps = _read_maps(directory, numbers)
    stores = numbers["stores"]
    shown = f"{len(maps['pca']['real']):,} of {counted(stores['states'], 'step')}"
    return MapArtefacts(
        numbers,
        maps,
        read_labels(directory),
        read_part(directory, "frames"),
        numbers["clusters"],
        Caption(f"{shown} in {counted(stores['episodes'], 'episode')}", "{}-{}".format(*stores["levels"])),
        "state",
        read_part(directory, "axes")["real"],
    )


def read_simulated_state_map(directory: Path) -> MapArtefacts:
    """Artefacts of a map of simulated steps. Raises UsageError if a part is missing or damaged."""
    numbers = read_numbers(directory)
    maps = _read_maps(directory, numbers)
    shown = f"{len(maps['pca']['real']):,} of {counted(numbers['steps'], 'simulated step')}"
    return MapArtefacts(
        numbers,
        maps,
        read_labels(directory),
        read_part(directory, "frames"),
        numbers["clusterings"]["cluster"],
        Caption(f"{shown} in {counted(numbers['episodes'], 'episode')}", numbers["levels"]),
        "step",
    )


def _read_maps(directory: Path, numbers: dict) -> dict[str, dict[str, np.ndarray]]:
    return {kind: read_part(directory, f"map_{kind}") for kind in numbers["maps"]}
