"""Maps of simulated steps in any space: clusters, embeddings, labels, frames and numbers.

The scripts for environment states, sensorimotor loops and behaviours differ only in the points they pass in.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.io.artefacts import cached_part
from analysis.io.shared_args import MapArgs
from analysis.io.size_limits import GROUPS_PER_CLUSTER, GROUPS_PER_DIRECTION, Limit, fit_sizes
from analysis.io.steps import cached_directions, finish_step, open_step, point_latest
from analysis.maps.hidden_states import HiddenStates, load_hidden_states, sample_episodes, step_labels
from analysis.maps.map_frames import cluster_members, frames_at
from analysis.maps.map_parts import by_sample, check_maps, find_clusters, index_in, make_map
from analysis.maps.map_summary import cluster_numbers, map_numbers
from analysis.maps.simulated_state_steps import MapStep
from analysis.maps.step_fields import episode_groups, levels_in_words, steps_mask
from common.precision import Precision
from common.progress import progress_bar
from common.runs import Run, UsageError
from common.words import counted
from generative.action_space import action_space_of
from interpret.clustering import Clusters
from interpret.directions.nmf import fit_nmf
from interpret.embedding import MIN_POINTS
from interpret.subsample import scores_of, subsample, varying_columns
from rollouts.store import Rollouts

NOT_SETTINGS = (
    "data_dir", "agent_file", "world_model_file", "directions", "batch_size", "device", "precision",
    "num_threads", "new", "out_dir", "log_level",
)  # fmt: skip
"""Flags that do not change the result; stores, networks and directions enter by their ids."""
_MIN_NMF_COMPONENTS = 2


@dataclass(frozen=True)
class Points:
    """The points of a map.

    Args:
        x: principal scores [n, K], between which distances are meaningful.
        rows: row of the hidden states that each point belongs to [n].
        features: [n, F], factorised by NMF.
        numbers: about the space, for numbers.json.
        more: {label: points [n, .]}: further clusterings of the same rows.
        averaged: {name: [n, ...]}: arrays whose means over each cluster become the part `cluster_means`.
    """

    x: np.ndarray
    rows: np.ndarray
    features: np.ndarray
    numbers: dict
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    averaged: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def spaces(self) -> dict[str, np.ndarray]:
        """{label: points}: all clusterings."""
        return {"cluster": self.x, **self.more}


MakePoints = Callable[[MapArgs, Run, Rollouts, np.ndarray, HiddenStates], Points]
"""(args, run, store, mask of the sampled steps, their states) -> Points; saves its fits in the run."""


@dataclass(frozen=True)
class StepSelection:
    """Which steps of an episode become points.

    Args:
        ahead: number of further steps that the episode must last.
        most: number of steps per episode; None for all.
        components: flags that set a number of principal components.
    """

    ahead: int = 0
    most: int | None = None
    components: tuple[str, ...] = ()


EVERY_STEP = StepSelection()


def open_simulated(path: Path) -> Rollouts:
    """A store of simulated rollouts. Raises UsageError for a real one."""
    rollouts = Rollouts.open(path)
    if not rollouts.simulated:
        raise UsageError(
            f"{path} holds real episodes, which have no environment state: give a store recorded with "
            "record_gen_samples.py"
        )
    return rollouts


def run_map_step(
    step: MapStep,
    args: MapArgs,
    make_points: MakePoints,
    selection: StepSelection = EVERY_STEP,
    inputs: Mapping[str, str] = {},
    precision: Precision | None = None,
) -> None:
    """Runs the step, unless it is finished already.

    Args:
        step: name and version.
        args: flags; make_points receives them with sizes lowered to what the store allows.
        make_points: computes the points.
        selection: which steps become points.
        inputs: ids of what is read besides the store.
        precision: of the networks that make_points runs, if any.
    """
    check_maps(args.maps)
    if args.start_step < 0:
        raise UsageError(f"--start_step is {args.start_step}: give 0 or more")
    if args.points < MIN_POINTS:
        raise UsageError(f"--points is {args.points}: a map takes {MIN_POINTS} or more")
    rollouts = open_simulated(args.data_dir)
    args = fit_sizes(args, limits(args, rollouts, selection))
    settings = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    inputs = {"data_dir": rollouts.id, **inputs}
    run = open_step(args.out_dir, step.name, step.version, settings, inputs, args.new, precision)
    if run.done:
        point_latest(run)
    else:
        with threadpool_limits(args.num_threads):
            compute_map(args, run, rollouts, make_points)
    logging.info("%s: %s", step.title, run.dir)


def limits(args: MapArgs, rollouts: Rollouts, selection: StepSelection) -> dict[str, Limit]:
    """The largest sizes that the sampled episodes allow."""
    episodes = sample_episodes(rollouts, args.num_episodes, args.seed)
    length = rollouts.episodes["length"][episodes]
    groups = len(np.unique(episode_groups(rollouts)[episodes]))
    states = int(np.maximum(length - args.start_step, 0).sum())
    points = int(np.clip(length - args.start_step - selection.ahead, 0, selection.most).sum())
    starts = counted(groups, "start state")
    steps = f"{counted(points, 'step')} from step {args.start_step} on"
    if selection.ahead:
        steps += f" that have one {counted(selection.ahead, 'step')} later"
    return {
        "clusters": Limit(groups // GROUPS_PER_CLUSTER, starts, 2),
        "nmf_components": Limit(groups // GROUPS_PER_DIRECTION, starts, 0),
        "points": Limit(points, steps, MIN_POINTS),
    } | dict.fromkeys(selection.components, Limit(min(states, points) - 1, steps))


def compute_map(args: MapArgs, run: Run, rollouts: Rollouts, make_points: MakePoints) -> None:
    """Computes every part of the run that is missing, then finishes the run with its numbers."""
    with progress_bar(total=4 + len(args.maps), unit="part", desc="map") as bar:
        episodes = sample_episodes(rollouts, args.num_episodes, args.seed)
        mask = steps_mask(rollouts, episodes)
        states = load_hidden_states(rollouts, episodes)
        points = make_points(args, run, rollouts, mask, states)
        episode = states.episode[points.rows]
        groups = episode_groups(rollouts)[episode]
        bar.update()
        sample = subsample(episode, args.points, args.seed)
        clusters = _clusters(args, run, points, groups, sample)
        bar.update()
        samples = map_samples(args, episode, sample)
        maps = _maps(args, run, points, samples, bar.update)
        labels = _labels(rollouts, states, points, clusters)
        labels |= _nmf_label(args, run, points.features, groups, sample)
        cached_part(run, "behaviours", lambda: most_common_cluster(episode, labels["cluster"]))
        if points.averaged:
            cached_part(run, "cluster_means", lambda: cluster_means(points.averaged, labels["cluster"], args))
        cached_part(run, "labels", lambda: by_sample(_label_samples(labels, samples)))
        cached_part(run, "frames", lambda: _frames(args, rollouts, states, points.rows, labels["cluster"]))
        bar.update()
    numbers = {
        "store": rollouts.id,
        "episodes": len(episodes),
        "steps": len(points.x),
        "levels": levels_in_words(rollouts, mask),
        "axes": points.x.shape[1],
        "actions": list(action_space_of(rollouts.manifest).names),
        "clusters": args.clusters,
        "maps": map_numbers(maps),
        "clusterings": {name: cluster_numbers(found, labels[name]) for name, found in clusters.items()},
        **points.numbers,
    }
    finish_step(run, numbers)


def map_samples(args: MapArgs, episode: np.ndarray, sample: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the points that maps are fit on (`real`), and of a few whole episodes (`followed`)."""
    chosen = np.random.default_rng([args.seed, 14]).permutation(np.unique(episode))[: args.path_episodes]
    return {"real": sample, "followed": np.flatnonzero(np.isin(episode, chosen))}


def _clusters(
    args: MapArgs, run: Run, points: Points, groups: np.ndarray, sample: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """{label: arrays of `find_clusters`} of every space."""
    clusters = {}
    for name, x in points.spaces.items():
        fit = partial(find_clusters, x, groups, args.clusters, sample, args.draws, args.seed)
        clusters[name] = cached_part(run, name, fit)
    return clusters


def _maps(
    args: MapArgs, run: Run, points: Points, samples: Mapping[str, np.ndarray], advance: Callable
) -> dict[str, dict[str, np.ndarray]]:
    x = {name: points.x[rows] for name, rows in samples.items()}
    own = {"followed": index_in(samples["followed"], samples["real"])}
    maps = {}
    for kind in ("pca", *args.maps):
        fit = partial(make_map, kind, x, args.seed, args.num_threads, own)
        maps[kind] = cached_part(run, f"map_{kind}", fit)
        advance()
    return maps


def _labels(
    rollouts: Rollouts, states: HiddenStates, points: Points, clusters: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """{label: [n]} of every point."""
    columns = {"episode": states.episode, "t": states.step}
    columns |= step_labels(states, action_space_of(rollouts.manifest)) | episode_outcomes(states)
    labels = {name: np.asarray(values)[points.rows] for name, values in columns.items()}
    for name, found in clusters.items():
        labels[name] = Clusters(found["centres"]).assign(points.spaces[name])
    behaviours = most_common_cluster(labels["episode"], labels["cluster"])
    index = np.searchsorted(behaviours["episode"], labels["episode"])
    return labels | {"behaviour": behaviours["cluster"][index]}


def _label_samples(
    labels: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    return {name: {key: column[rows] for key, column in labels.items()} for name, rows in samples.items()}


def most_common_cluster(episode: np.ndarray, cluster: np.ndarray) -> dict[str, np.ndarray]:
    """The most common cluster of each episode; the larger cluster (lower index) on a tie.

    Args:
        episode: of each point [n].
        cluster: of each point [n].

    Returns:
        episode [E], ascending, and cluster [E].
    """
    episodes, index = np.unique(episode, return_inverse=True)
    counts = np.zeros((len(episodes), cluster.max() + 1), np.int64)
    np.add.at(counts, (index, cluster), 1)
    return {"episode": episodes, "cluster": counts.argmax(1)}


def cluster_means(
    averaged: Mapping[str, np.ndarray], cluster: np.ndarray, args: MapArgs
) -> dict[str, np.ndarray]:
    """{name: [C, ...]}: means of arrays [n, ...] over the members of each cluster [n]; NaN if it has none."""
    counts = np.bincount(cluster, minlength=args.clusters)
    members = (cluster == np.arange(args.clusters)[:, None]) / np.where(counts > 0, counts, np.nan)[:, None]
    return {name: np.tensordot(members, x, 1).astype(np.float32) for name, x in averaged.items()}


def episode_outcomes(states: HiddenStates) -> dict[str, np.ndarray]:
    """Whether each step's episode ended, and its largest predicted reward: [n] each."""
    first = np.flatnonzero(states.step == 0)
    length = np.diff(np.append(first, len(states)))
    ended = np.logical_or.reduceat(states.columns["terminated"], first)
    return {
        "ever_done": np.repeat(ended, length),
        "max_reward": np.repeat(np.maximum.reduceat(states.columns["reward"], first), length),
    }


def _nmf_label(
    args: MapArgs, run: Run, features: np.ndarray, groups: np.ndarray, sample: Sequence[int]
) -> dict[str, np.ndarray]:
    """{"nmf": strongest NMF component [n]}; empty if --nmf_components is 0 or the fit fails."""
    if args.nmf_components < _MIN_NMF_COMPONENTS:
        return {}
    columns = varying_columns(features[sample])
    x = features[sample][:, columns]
    try:
        nmf = cached_directions(
            run,
            "nmf",
            lambda: fit_nmf(x, groups[sample], args.nmf_components, args.seed).within(
                columns, features.shape[1]
            ),
        )
    except UsageError as error:
        logging.warning("NMF is left out: %s", error)
        return {}
    return {"nmf": scores_of(nmf, features).argmax(1)}


def _frames(
    args: MapArgs, rollouts: Rollouts, states: HiddenStates, rows: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """members [C, M], indices of the points, -1 for none, and their frames."""
    members = cluster_members(labels, states.episode[rows], args.clusters, args.frames_per_cluster, args.seed)
    chosen = rows[members[members >= 0]]
    frames = frames_at(rollouts, states.episode[chosen], states.step[chosen])
    return {"members": members, "member_frames": frames}
