"""The saliency benchmark: states of the real game, the objects in view, what deleting each does to the agent,
and scores of attribution maps against it.

    benchmark = Benchmark.open()
    maps = my_method(agent, benchmark.frames, benchmark.hidden)  # [n, H, W]
    print(benchmark.score(maps, effect="value"))
"""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint, write_json
from common.errors import UsageError
from common.stats import json_estimate, level_weights
from interpret.attribution.deletion_scores import (
    above_empty,
    box_mass,
    largest_agrees,
    partial_spearman,
    spearman_by_state,
)
from interpret.attribution.map_controls import centre_prior, edge_maps

KIND = "worldlens saliency benchmark"
VERSION = 1
SHIPPED = Path(__file__).parents[2] / "docs" / "benchmark" / "saliency_coinrun_v1"
EFFECTS = ("value", "action", "kl", "return")
"""value and action: value, and log-probability of the taken action, with the object minus without it, at the
same hidden state. kl: of the policy with the object from that without it. return: rewards of the next steps
and the value after them when the agent plays on in the real game, with the object minus without it.
"""


@dataclass(frozen=True)
class Benchmark:
    """n states and their m objects.

    Attributes:
        about: ids of agent and store, names of kinds and actions, settings.
        frames: [n, H, W, C] uint8, as the agent sees them.
        hidden: [n, D], the agent's hidden state before the frame.
        action: [n], taken after the frame.
        layout: [n], a hash of the level's layout; intervals are bootstrapped over layouts.
        level, episode, step: [n], where in the store the state is from.
        player: [n, 2], row and column of the player in the frame.
        state: [m], which state an object belongs to.
        kind: [m], index into about["kinds"].
        cell: [m, 2], row and column in the level's grid.
        box: [m, 4], top, left, bottom, right of the pixels that the deletion changes; the last two exclusive.
        empty_box: [m, 4], a box of that size where the picture shows empty cells; -1 if there is none.
        area: [m], pixels that the deletion changes.
        distance: [m], tiles between object and player.
        effects: [m] by name, of EFFECTS.
    """

    about: dict
    frames: np.ndarray
    hidden: np.ndarray
    action: np.ndarray
    layout: np.ndarray
    level: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    player: np.ndarray
    state: np.ndarray
    kind: np.ndarray
    cell: np.ndarray
    box: np.ndarray
    empty_box: np.ndarray
    area: np.ndarray
    distance: np.ndarray
    effects: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"Benchmark({len(self)} states on {len(set(self.layout))} layouts, {len(self.state)} objects)"

    def save(self, path: Path) -> None:
        """Writes path.safetensors and path.json."""
        columns = {name: getattr(self, name) for name in self._columns()}
        columns |= {f"effect/{name}": values for name, values in self.effects.items()}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}
        save_checkpoint(Path(path).with_suffix(".safetensors"), tensors, {"kind": KIND, "version": VERSION})
        write_json(Path(path).with_suffix(".json"), {"kind": KIND, "version": VERSION} | self.about)

    @classmethod
    def open(cls, path: Path = SHIPPED) -> "Benchmark":
        """Reads a benchmark. Raises UsageError if it is missing, foreign or of another version."""
        path = Path(path)
        again = "take one from docs/benchmark, or make it with python -m analysis.saliency_truth_precompute"
        try:
            tensors, meta = load_checkpoint(path.with_suffix(".safetensors"))
            about = json.loads(path.with_suffix(".json").read_text())
        except (BadCheckpoint, OSError, ValueError) as error:
            raise UsageError(f"no saliency benchmark at {path} ({error}): {again}") from error
        if (meta.get("kind"), meta.get("version")) != (KIND, VERSION):
            raise UsageError(f"{path} holds no saliency benchmark of version {VERSION}: {again}")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        effects = {
            name.removeprefix("effect/"): x for name, x in arrays.items() if name.startswith("effect/")
        }
        return cls(about, *(arrays[name] for name in cls._columns()), effects)

    @classmethod
    def _columns(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name not in ("about", "effects")]

    @cached_property
    def weights(self) -> np.ndarray:
        """Bootstrap weights [1 + R, n] of the states."""
        return level_weights(self.layout)

    @property
    def layouts(self) -> int:
        """Number of layouts that the states are of."""
        return len(np.unique(self.layout))

    @cached_property
    def control_maps(self) -> dict[str, np.ndarray]:
        """Maps that do not look at the agent: distance from the player, and edges of the frame."""
        pixels = torch.from_numpy(self.frames).float() / 255
        return {
            "centre_prior": centre_prior(self.player, self.frames.shape[1:3]),
            "edges": edge_maps(pixels).numpy(),
        }

    def score(self, maps: np.ndarray, effect: str = "value", signed: bool = False) -> dict[str, dict]:
        """Scores of maps [n, H, W], each {value, low, high, n}: a mean over n states with its 95% interval by
        layout, where there are enough layouts.

        Args:
            maps: one per state; larger absolute values mean more important pixels.
            effect: of EFFECTS.
            signed: whether the sum of a map over an object estimates the object's effect with its sign.

        Returns:
            spearman: correlation within a state, over objects, of the map's mass in the object's box (sum of
            absolute values) with the size of the object's effect. partial: the same without what area and
            distance explain. above_centre_prior, above_edges: spearman minus that of the control.
            other_state: spearman of the maps when each is laid on another state's frame. largest: share of
            states in which the object with the most mass has the largest effect; chance: for an object drawn
            at random. above_empty: share of objects with more mass than an empty place of their size as far
            from the player; 0.5 is chance. signed: spearman of sum and effect with their signs, if `signed`.

        Raises:
            UsageError: for maps of another shape or with NaN, and for an unknown effect.
        """
        statistics, n = self.statistics(maps, effect, signed)
        return {name: json_estimate(values, n[name], self.layouts) for name, values in statistics.items()}

    def statistics(
        self, maps: np.ndarray, effect: str, signed: bool = False
    ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """What `score` reports, as arrays [1 + R] over the bootstrap, and numbers of states."""
        maps = self._checked(maps, effect)
        found = {"spearman": self._correlation(maps, effect), "other_state": self._shuffled(maps, effect)}
        size = np.abs(self.effects[effect])
        mass = box_mass(np.abs(maps), self.state, self.box)
        found["largest"], found["chance"] = largest_agrees(mass, size, self.state, len(self))
        empty = box_mass(np.abs(maps), self.state, self.empty_box)
        found["above_empty"] = above_empty(mass, empty, self.state, len(self))
        if signed:
            sums = box_mass(maps, self.state, self.box)
            found["signed"] = spearman_by_state(sums, self.effects[effect], self.state, len(self))
        statistics = {name: sums.mean(self.weights) for name, sums in found.items()}
        n = {name: int((sums.weight > 0).sum()) for name, sums in found.items()}
        confounders = np.stack([self.area, self.distance], 1)
        statistics["partial"] = partial_spearman(mass, size, confounders, self.state, self.weights)
        for name, control in self.control_maps.items():
            theirs = self._correlation(control, effect).mean(self.weights)
            statistics[f"above_{name}"] = statistics["spearman"] - theirs
        return statistics, n | dict.fromkeys(statistics.keys() - n.keys(), n["spearman"])

    def by_state(self, maps: np.ndarray, effect: str) -> np.ndarray:
        """Spearman's correlation [n] in each state; NaN where all effects or all masses are equal."""
        sums = self._correlation(self._checked(maps, effect), effect)
        return np.where(sums.weight > 0, sums.value, np.nan)

    def _correlation(self, maps: np.ndarray, effect: str):
        mass = box_mass(np.abs(maps), self.state, self.box)
        return spearman_by_state(mass, np.abs(self.effects[effect]), self.state, len(self))

    def _shuffled(self, maps: np.ndarray, effect: str):
        """With the map of the previous state, which is of another layout wherever there are several."""
        return self._correlation(np.roll(maps, 1, axis=0), effect)

    def _checked(self, maps: np.ndarray, effect: str) -> np.ndarray:
        maps = np.asarray(maps)
        expected = self.frames.shape[:3]
        if maps.shape != expected:
            raise UsageError(f"maps of shape {maps.shape}: give one per state, of shape {expected}")
        if not np.isfinite(maps).all():
            raise UsageError("maps hold NaN or infinity: give finite numbers")
        if effect not in self.effects:
            raise UsageError(f"no effect {effect!r}; choose one of: {', '.join(self.effects)}")
        return maps


def painted(benchmark: Benchmark, values: np.ndarray) -> np.ndarray:
    """Maps [n, H, W] in which each value [m] is spread evenly over its object's box. Painted with the effects
    themselves, they score what overlapping boxes allow.
    """
    maps = np.zeros(benchmark.frames.shape[:3], np.float32)
    for state, (top, left, bottom, right), value in zip(benchmark.state, benchmark.box, values):
        maps[state, top:bottom, left:right] += value / ((bottom - top) * (right - left))
    return maps
