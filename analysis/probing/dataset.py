"""The data of probes, from a store: concepts as targets, folds by layout, and encoder features."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch.nn import functional as F

from agents.actor_critic import ActorCritic
from analysis.io.size_limits import Limit
from analysis.probing.store_concepts import EPISODE_ENDS, load_concepts
from common.runs import UsageError
from common.words import counted
from interpret.hooks import run_with_cache
from interpret.probing.bench import Targets
from rollouts.growth import RECORD_MORE
from rollouts.split import episode_layouts
from rollouts.store import Rollouts

FOLDS = 3
MIN_LAYOUTS = 12
"""Least number of layouts in which a probed concept is true, and false (for numbers: known)."""
MAX_FEATURES = 384
"""Wider states are reduced to this many principal components."""
_MAX_POOLED_FEATURES = 1024
"""Feature maps are average-pooled to at most this many features."""
NUM_PAST_ACTIONS = 4
_FRAMES_PER_CALL = 512


@dataclass(frozen=True)
class ProbeDataset:
    """n steps of E whole episodes of a store."""

    rollouts: Rollouts
    episodes: np.ndarray
    """[E]: numbers of the episodes in the store."""
    rows: np.ndarray
    """[n]: rows of the steps in the store."""
    first_step: np.ndarray
    """[E]: first of the n steps of each episode."""
    length: np.ndarray
    """[E]: steps of each episode."""
    groups: np.ndarray
    """[n]: number of the layout."""
    folds: np.ndarray
    """[n]: cross-validation fold, the same for all steps of a layout."""
    targets: Targets
    rare: dict[str, int]
    """Concepts that too few layouts show, and how many do."""

    @property
    def levels(self) -> str:
        """Range of the episodes' levels, for captions."""
        level = self.rollouts.episodes["level_seed"][self.episodes]
        return f"{level.min():,}-{level.max():,}"

    def column(self, name: str) -> np.ndarray:
        """A column of the store, [n, ...]."""
        return np.concatenate(list(self.chunks(name)))

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """`column` in pieces."""
        begin = 0
        for chunk in self.rollouts.chunks(name):
            low, high = np.searchsorted(self.rows, [begin, begin + len(chunk)])
            yield chunk[self.rows[low:high] - begin]
            begin += len(chunk)

    @property
    def time(self) -> np.ndarray:
        """[n]: the step of its episode."""
        return np.arange(len(self.rows)) - np.repeat(self.first_step, self.length)


def open_probe_dataset(rollouts: Rollouts, num_episodes: int, seed: int, concepts_dir) -> ProbeDataset:
    """A random sample of whole episodes with their concepts.

    Args:
        rollouts: the store.
        num_episodes: episodes, at most.
        seed: of the sample and of the folds.
        concepts_dir: the --out_dir of analysis.concepts_precompute.

    Raises:
        UsageError: if the store has no concepts, or too few layouts for probes.
    """
    concepts = load_concepts(rollouts, concepts_dir)
    layouts = episode_layouts(rollouts)
    rng = np.random.default_rng([seed, 13])
    episodes = np.sort(rng.permutation(len(rollouts))[:num_episodes])
    length = rollouts.episodes["length"][episodes]
    rows = np.flatnonzero(np.isin(rollouts.step_table()[:, 0], episodes))
    names, places = np.unique(layouts[episodes], return_inverse=True)
    if len(names) < FOLDS * MIN_LAYOUTS:
        shown = f"--num_episodes {num_episodes} shows {counted(len(names), 'layout')} of {rollouts.path}"
        needed = f"and probes, which are tested on others, need {FOLDS * MIN_LAYOUTS}"
        raise UsageError(f"{shown}, {needed}: give a larger number, or {RECORD_MORE}")
    groups = np.repeat(places, length)
    folds = (rng.permutation(len(names)) % FOLDS)[groups]
    targets, rare = _select_targets(
        probe_targets({name: column[rows] for name, column in concepts.items()}), groups, folds
    )
    if not targets.names:
        raise UsageError(
            f"no concept is shown by {MIN_LAYOUTS} layouts of {rollouts.path}, each way: {RECORD_MORE}"
        )
    return ProbeDataset(
        rollouts, episodes, rows, np.cumsum(length) - length, length, groups, folds, targets, rare
    )


def episodes_limit(rollouts: Rollouts) -> Limit:
    """Largest number of episodes of a dataset."""
    return Limit(len(rollouts), counted(len(rollouts), "episode"))


def probe_targets(concepts: dict[str, np.ndarray]) -> Targets:
    """Concept columns [n] as targets; `end` becomes one binary target for each of EPISODE_ENDS."""
    columns = {name: column for name, column in concepts.items() if name != "end"}
    columns |= {f"end_{name}": concepts["end"] == i for i, name in enumerate(EPISODE_ENDS)}
    classes = np.array([column.dtype == bool for column in columns.values()])
    return Targets(
        list(columns), classes, np.stack([column.astype(np.float32) for column in columns.values()], 1)
    )


def _select_targets(
    targets: Targets, groups: np.ndarray, folds: np.ndarray
) -> tuple[Targets, dict[str, int]]:
    """Targets that enough layouts show, both values in every fold; of the others, how many layouts do."""
    rare = {}
    for name, is_class, column in zip(targets.names, targets.classes, targets.truth.T):
        sides = [column == 0, column == 1] if is_class else [np.isfinite(column)]
        shown = min(len(np.unique(groups[side])) for side in sides)
        if (
            shown < MIN_LAYOUTS
            or any(len(np.unique(folds[side])) < FOLDS for side in sides)
            or np.nanstd(column) == 0
        ):
            rare[name] = shown
    kept = [i for i, name in enumerate(targets.names) if name not in rare]
    return Targets([targets.names[i] for i in kept], targets.classes[kept], targets.truth[:, kept]), rare


def nuisance_features(dataset: ProbeDataset, x: np.ndarray) -> np.ndarray:
    """Nuisance features [n, 2 + 4 * A]: the step, the player's position x [n], and the last four actions."""
    action = dataset.column("action").astype(int)
    time = dataset.time
    num_actions = dataset.rollouts.manifest["num_actions"]
    parts = [time, x]
    for back in range(1, NUM_PAST_ACTIONS + 1):
        one_hot = np.eye(num_actions, dtype=np.float32)[np.roll(action, back)]
        parts += list((one_hot * (time >= back)[:, None]).T)
    return np.stack(parts, 1).astype(np.float32)


def encoder_features(
    agent: ActorCritic, dataset: ProbeDataset, sites: Sequence[str], device, advance: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """Features [n, F] of every frame at some sites of the agent's encoder, by site; feature maps are pooled.

    Args:
        agent: the agent.
        dataset: whose frames are encoded.
        sites: hook names of interpret.hooks.
        device: that the agent is on.
        advance: called with the number of frames done.

    Raises:
        UsageError: for a site outside the encoder, and for NaN or infinity.
    """
    parts = {site: [] for site in sites}
    with torch.inference_mode():
        for chunk in dataset.chunks("obs"):
            for begin in range(0, len(chunk), _FRAMES_PER_CALL):
                frames = torch.from_numpy(chunk[begin : begin + _FRAMES_PER_CALL]).to(device)
                kept = run_with_cache(agent, sites, agent.encoder, frames)[1]
                for site, value in kept.items():
                    parts[site].append(_pool(value).float().cpu().numpy())
                advance(len(frames))
    columns = {site: np.concatenate(chunks) for site, chunks in parts.items()}
    for site, column in columns.items():
        check_finite(column, f"the output of {site}")
    return columns


def _pool(value: torch.Tensor) -> torch.Tensor:
    """Features [n, F] of vectors, or of feature maps [n, C, H, W]."""
    if value.ndim == 4:
        side = max(int((_MAX_POOLED_FEATURES / value.shape[1]) ** 0.5), 1)
        value = F.adaptive_avg_pool2d(value, [min(side, size) for size in value.shape[2:]])
    return value.flatten(1)


def reduce_dimension(x: np.ndarray, seed: int) -> np.ndarray:
    """States [n, D], or their MAX_FEATURES leading principal components (Halko et al. 2011).

    The components are fit without labels, so held-out scores stay honest.
    """
    if x.shape[1] <= MAX_FEATURES:
        return x
    return PCA(MAX_FEATURES, svd_solver="randomized", random_state=seed).fit_transform(x)


def check_finite(x: np.ndarray, name: str) -> None:
    """Raises UsageError for NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        where = f"at {len(bad)} of {len(x)} steps, the first at step {bad[0]}"
        raise UsageError(
            f"{name} holds NaN or infinity {where}: record the store again, or take another agent"
        )
