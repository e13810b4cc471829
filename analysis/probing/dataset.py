"""A store as probes need it: concepts to be read, layouts that divide it into folds, frames, and what an
agent made of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch.nn import functional as F

from agents.actor_critic import ActorCritic
from analysis.io.size_limits import Limit
from analysis.probing.store_concepts import EPISODE_CONCEPTS, EPISODE_ENDS, load_concepts
from common.runs import UsageError
from common.words import counted
from envs.concepts import CONCEPTS
from generative.training.data import episode_layouts
from interpret.hooks import run_with_cache
from interpret.probing.bench import Targets
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

FOLDS = 3
FEWEST_LAYOUTS = 12
"""In which a concept must be true, and false (of numbers: be known), to be probed at all."""
WIDEST = 384
"""Features that probes see: states that have more are read through as many leading principal components."""
_SQUARES = 1024
"""A picture's features are averaged over squares, so many that this is not exceeded."""
ACTIONS_BACK = 4
_FRAMES_AT_ONCE = 512


@dataclass(frozen=True)
class ProbeDataset:
    """n steps of whole episodes of a store. rows [n]: which steps of the store; first_step, length [E]: of
    the episodes, among these n; episodes [E]: their numbers in the store; groups [n]: number of the layout;
    folds [n], by layout; rare: concepts that too few layouts show, and how many do.
    """

    rollouts: Rollouts
    episodes: np.ndarray
    rows: np.ndarray
    first_step: np.ndarray
    length: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    targets: Targets
    rare: dict[str, int]

    @property
    def levels(self) -> str:
        """Where the episodes are from, for captions."""
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


def open_study(rollouts: Rollouts, num_episodes: int, seed: int, concepts_dir) -> ProbeDataset:
    """At most num_episodes whole episodes, drawn at random. Raises UsageError for a store without concepts or
    with too few layouts for probes.
    """
    concepts = load_concepts(rollouts, concepts_dir)
    layouts = episode_layouts(rollouts)
    rng = np.random.default_rng([seed, 13])
    episodes = np.sort(rng.permutation(len(rollouts))[:num_episodes])
    length = rollouts.episodes["length"][episodes]
    rows = np.flatnonzero(np.isin(rollouts.step_table()[:, 0], episodes))
    names, places = np.unique(layouts[episodes], return_inverse=True)
    if len(names) < FOLDS * FEWEST_LAYOUTS:
        found = f"{counted(len(names), 'layout')} of {rollouts.path}, and probes, which are tested on others, need {FOLDS * FEWEST_LAYOUTS}"
        raise UsageError(
            f"--num_episodes {num_episodes} shows {found}: give a larger number, or {RECORD_MORE}"
        )
    groups = np.repeat(places, length)
    folds = (rng.permutation(len(names)) % FOLDS)[groups]
    kept, rare = _common(targets_of({name: column[rows] for name, column in concepts.items()}), groups, folds)
    if not kept.names:
        raise UsageError(
            f"no concept is shown by {FEWEST_LAYOUTS} layouts of {rollouts.path}, each way: {RECORD_MORE}"
        )
    return ProbeDataset(
        rollouts, episodes, rows, np.cumsum(length) - length, length, groups, folds, kept, rare
    )


def episodes_limit(rollouts: Rollouts) -> Limit:
    """The episodes that a study can show."""
    return Limit(len(rollouts), counted(len(rollouts), "episode"))


def targets_of(concepts: dict[str, np.ndarray]) -> Targets:
    """Concept columns [n] as targets; how an episode ends becomes a truth value for each way."""
    columns = {name: column for name, column in concepts.items() if name != "end"}
    columns |= {f"end_{name}": concepts["end"] == i for i, name in enumerate(EPISODE_ENDS)}
    classes = np.array([column.dtype == bool for column in columns.values()])
    return Targets(
        list(columns), classes, np.stack([column.astype(np.float32) for column in columns.values()], 1)
    )


def definition(name: str) -> str:
    """What a target means, in a line."""
    return (
        f"The episode will end by: {name[4:]}."
        if name.startswith("end_")
        else (CONCEPTS | EPISODE_CONCEPTS)[name].definition
    )


def _common(targets: Targets, groups: np.ndarray, folds: np.ndarray) -> tuple[Targets, dict[str, int]]:
    """The targets that enough layouts show, both ways, some in every fold; and of the others how many do."""
    rare = {}
    for name, is_class, column in zip(targets.names, targets.classes, targets.truth.T):
        sides = [column == 0, column == 1] if is_class else [np.isfinite(column)]
        shown = min(len(np.unique(groups[side])) for side in sides)
        if (
            shown < FEWEST_LAYOUTS
            or any(len(np.unique(folds[side])) < FOLDS for side in sides)
            or np.nanstd(column) == 0
        ):
            rare[name] = shown
    kept = [i for i, name in enumerate(targets.names) if name not in rare]
    return Targets([targets.names[i] for i in kept], targets.classes[kept], targets.truth[:, kept]), rare


def nuisances(study: ProbeDataset, x: np.ndarray) -> np.ndarray:
    """What a probe may read without any thought: the step, the player's place x [n], and the last four
    actions. [n, 2 + 4 * A].
    """
    action = study.column("action").astype(int)
    time = study.time
    width = study.rollouts.manifest["num_actions"]
    parts = [time, x]
    for back in range(1, ACTIONS_BACK + 1):
        one_hot = np.eye(width, dtype=np.float32)[np.roll(action, back)]
        parts += list((one_hot * (time >= back)[:, None]).T)
    return np.stack(parts, 1).astype(np.float32)


def encoded(
    agent: ActorCritic, study: ProbeDataset, sites: Sequence[str], device, advance: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """What the agent's encoder makes of every frame, {site: [n, F]}: places in the network by the names of
    interpret.hooks; pictures are averaged over squares.

    Raises UsageError for a place that is no part of the encoder, and for NaN or infinity.
    """
    found = {site: [] for site in sites}
    with torch.inference_mode():
        for chunk in study.chunks("obs"):
            for begin in range(0, len(chunk), _FRAMES_AT_ONCE):
                frames = torch.from_numpy(chunk[begin : begin + _FRAMES_AT_ONCE]).to(device)
                kept = run_with_cache(agent, sites, agent.encoder, frames)[1]
                for site, value in kept.items():
                    found[site].append(_flat(value).float().cpu().numpy())
                advance(len(frames))
    columns = {site: np.concatenate(parts) for site, parts in found.items()}
    for site, column in columns.items():
        check_finite(column, f"what comes out of {site}")
    return columns


def _flat(value: torch.Tensor) -> torch.Tensor:
    """[n, F] of vectors, or of pictures [n, C, H, W]."""
    if value.ndim == 4:
        side = max(int((_SQUARES / value.shape[1]) ** 0.5), 1)
        value = F.adaptive_avg_pool2d(value, [min(side, size) for size in value.shape[2:]])
    return value.flatten(1)


def narrowed(x: np.ndarray, seed: int) -> np.ndarray:
    """States [n, D] as they are, or their WIDEST leading principal components (Halko et al. 2011), which know
    nothing of concepts.
    """
    return (
        x
        if x.shape[1] <= WIDEST
        else PCA(WIDEST, svd_solver="randomized", random_state=seed).fit_transform(x)
    )


def check_finite(x: np.ndarray, name: str) -> None:
    """Raises UsageError for NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        where = f"at {len(bad)} of {len(x)} steps, the first at step {bad[0]}"
        raise UsageError(
            f"{name} holds NaN or infinity {where}: record the store again, or take another agent"
        )
