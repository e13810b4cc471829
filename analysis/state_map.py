"""Maps of simulated steps, whatever the space: clusters, flat maps, labels, frames and numbers, from points that a script has made.

The scripts of environment states, sensorimotor loops and behaviours differ in their points alone.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.args import MapArgs
from analysis.artefacts import part
from analysis.clusters import Clusters
from analysis.hidden_maps import check_maps, find_clusters, make_map, places_among
from analysis.hidden_numbers import cluster_numbers, map_numbers
from analysis.embedding import FEWEST
from analysis.hidden_states import States, choose_episodes, gather, labels_of
from analysis.limits import GROUPS_PER_CLUSTER, GROUPS_PER_DIRECTION, Limit, fit_sizes
from analysis.map_frames import cluster_members, frames_at
from analysis.points import changing, scores_of, subsample
from analysis.sampled_states import groups_of, levels_of, steps_of
from analysis.state_steps import Step
from analysis.steps import finish_step, fitted, open_step, point_latest
from common.precision import Precision
from common.progress import progress_bar
from common.runs import Run, UsageError
from common.words import counted
from generative.sim_env import actions_of
from interpret.nmf import fit_nmf
from rollouts.store import Rollouts

NOT_SETTINGS = ("data_dir", "agent_file", "precision", "num_threads", "new", "out_dir", "log_level")
"""Flags that say where things are, not what is made."""
_FEWEST_PARTS = 2


class Points(NamedTuple):
    """x [n, K]: principal scores in which distances count. rows [n]: the step of the states that each stands for. features [n, F]: what is
    factorised. numbers: what is to be said of them. more {label: count}: further clusterings, each of points [n, .] of the same rows."""

    x: np.ndarray
    rows: np.ndarray
    features: np.ndarray
    numbers: dict
    more: Mapping[str, np.ndarray] = {}


Make = Callable[[MapArgs, Run, Rollouts, np.ndarray, States], Points]
"""(args, run, store, kept steps [num_steps] bool, their states) -> Points; what it fits it saves in the run."""


def open_simulated(path: Path) -> Rollouts:
    """A store of simulated rollouts. Raises UsageError for a real one."""
    rollouts = Rollouts.open(path)
    if not rollouts.simulated:
        raise UsageError(f"{path} holds real episodes, which have no such states: give a store that record_gen_samples.py made")
    return rollouts


def map_step(
    step: Step, args: MapArgs, make: Make, inputs: Mapping[str, str] = {}, ahead: int = 0, most: int | None = None,
    components: tuple[str, ...] = (), precision: Precision | None = None,
) -> None:  # fmt: skip
    """Makes the step, or finds that it is made.

    Args:
        make: gives the points; its args hold the sizes that the store carries.
        inputs: ids of what is read besides the store.
        ahead, most: the points are the first `most` steps of each episode from `begin` on that have one `ahead` steps later.
        components: flags that say how many principal components are taken.
        precision: of the networks that `make` runs, if any.
    """
    check_maps(args.maps)
    if args.begin < 0:
        raise UsageError(f"--begin is {args.begin}: steps are counted from 0")
    if args.points < FEWEST:
        raise UsageError(f"--points is {args.points}: a map takes {FEWEST} or more")
    rollouts = open_simulated(args.data_dir)
    args = fit_sizes(args, limits(args, rollouts, ahead, most, components))
    settings = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    run = open_step(args.out_dir, step.name, step.version, settings, {"data_dir": rollouts.id, **inputs}, args.new, precision)
    if run.done:
        point_latest(run)
    else:
        with threadpool_limits(args.num_threads):
            _compute(args, run, rollouts, make)
    logging.info("%s: %s", step.title, run.dir)


def limits(args: MapArgs, rollouts: Rollouts, ahead: int, most: int | None, components: tuple[str, ...]) -> dict[str, Limit]:
    """The sizes that the chosen episodes carry; ahead, most, components: see `map_step`."""
    episodes = choose_episodes(rollouts, args.num_episodes, args.seed)
    groups, length = len(np.unique(groups_of(rollouts)[episodes])), rollouts.episodes["length"][episodes]
    points, states = (int(np.clip(length - args.begin - later, 0, cap).sum()) for later, cap in ((ahead, most), (0, None)))
    what, steps = counted(groups, "starting place"), f"{counted(points, 'step')} from step {args.begin} on"
    steps += f" that have one {counted(ahead, 'step')} later" if ahead else ""
    return {
        "clusters": Limit(groups // GROUPS_PER_CLUSTER, what, 2), "parts": Limit(groups // GROUPS_PER_DIRECTION, what, 0),
        "points": Limit(points, steps, FEWEST),
    } | dict.fromkeys(components, Limit(min(states, points) - 1, steps))  # fmt: skip


def _compute(args: MapArgs, run: Run, rollouts: Rollouts, make: Make) -> None:
    with progress_bar(total=4 + len(args.maps), unit="part", desc="map") as bar:
        episodes = choose_episodes(rollouts, args.num_episodes, args.seed)
        kept, states = steps_of(rollouts, episodes), gather(rollouts, episodes)
        made = make(args, run, rollouts, kept, states)
        episode, groups = states.episode[made.rows], groups_of(rollouts)[states.episode[made.rows]]
        bar.update()
        sample = subsample(episode, args.points, args.seed)
        clusters = _clusters(args, run, made, groups, sample)
        bar.update()
        chosen = np.random.default_rng([args.seed, 14]).permutation(np.unique(episode))[: args.followed]
        shown = {"real": sample, "followed": np.flatnonzero(np.isin(episode, chosen))}
        maps, own = {}, {"followed": places_among(shown["followed"], shown["real"])}
        for kind in ("pca", *args.maps):
            points = {name: made.x[rows] for name, rows in shown.items()}
            maps[kind] = part(run, f"map_{kind}", lambda: make_map(kind, points, args.seed, args.num_threads, own))
            bar.update()
        columns = _labels(args, run, rollouts, states, made, clusters, groups, sample)
        part(run, "behaviours", lambda: behaviours(episode, columns["cluster"]))
        part(run, "labels", lambda: {f"{name}.{key}": column[rows] for name, rows in shown.items() for key, column in columns.items()})
        part(run, "frames", lambda: _frames(args, rollouts, states, made.rows, columns["cluster"]))
        bar.update()
    numbers = {
        "store": rollouts.id, "episodes": len(episodes), "steps": len(made.x), "levels": levels_of(rollouts, kept), "axes": made.x.shape[1],
        "actions": list(actions_of(rollouts.manifest).names), "clusters": args.clusters, "maps": map_numbers(maps),
        "clusterings": {name: cluster_numbers(found, columns[name]) for name, found in clusters.items()}, **made.numbers,
    }  # fmt: skip
    finish_step(run, numbers)


def _clusters(args: MapArgs, run: Run, made: Points, groups: np.ndarray, sample: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Clusters of the points, and of every further set of points, with their stability."""
    spaces = {"cluster": made.x, **made.more}
    return {name: part(run, name, lambda: find_clusters(x, groups, args.clusters, sample, args.draws, args.seed)) for name, x in spaces.items()}


def _labels(args, run, rollouts, states, made, clusters, groups, sample) -> dict[str, np.ndarray]:
    """What every point is coloured by: [n] each."""
    named = {"episode": states.episode, "t": states.step} | labels_of(states, actions_of(rollouts.manifest)) | of_episodes(states)
    labels = {name: np.asarray(values)[made.rows] for name, values in named.items()}
    spaces = {"cluster": made.x, **made.more}
    labels |= {name: Clusters(found["centres"]).assign(spaces[name]) for name, found in clusters.items()}
    common = behaviours(labels["episode"], labels["cluster"])
    labels["behaviour"] = common["cluster"][np.searchsorted(common["episode"], labels["episode"])]
    factors = _strongest_part(args, run, made.features, groups, sample)
    return labels | ({} if factors is None else {"nmf": factors})


def behaviours(episode: np.ndarray, cluster: np.ndarray) -> dict[str, np.ndarray]:
    """The commonest cluster of each episode, the larger one where two are as common: episode [E], ascending, cluster [E]."""
    episodes, index = np.unique(episode, return_inverse=True)
    counts = np.zeros((len(episodes), cluster.max() + 1), np.int64)
    np.add.at(counts, (index, cluster), 1)
    return {"episode": episodes, "cluster": counts.argmax(1)}


def of_episodes(states: States) -> dict[str, np.ndarray]:
    """What a simulated episode came to, at each of its steps [n]: whether it ended, and the largest expected reward."""
    first = np.flatnonzero(states.step == 0)
    length = np.diff(np.append(first, len(states)))
    ended = np.logical_or.reduceat(states.columns["terminated"], first)
    return {"ever_done": np.repeat(ended, length), "max_reward": np.repeat(np.maximum.reduceat(states.columns["reward"], first), length)}


def _strongest_part(args: MapArgs, run: Run, features: np.ndarray, groups: np.ndarray, sample: np.ndarray) -> np.ndarray | None:
    """The strongest NMF part [n] of every point's features; None where none are asked for, or the features do not allow it."""
    if args.parts < _FEWEST_PARTS:
        return None
    columns = changing(features[sample])
    try:
        x = features[sample][:, columns]
        found = fitted(run, "nmf", lambda: fit_nmf(x, groups[sample], args.parts, args.seed).within(columns, features.shape[1]))
    except UsageError as error:
        logging.warning("no NMF: %s", error)
        return None
    return scores_of(found, features).argmax(1)


def _frames(args: MapArgs, rollouts: Rollouts, states: States, rows: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """members [C, M] (rows of the points, -1 for none) and their frames."""
    members = cluster_members(labels, states.episode[rows], args.clusters, args.members, args.seed)
    chosen = rows[members[members >= 0]]
    return {"members": members, "member_frames": frames_at(rollouts, states.episode[chosen], states.step[chosen])}
