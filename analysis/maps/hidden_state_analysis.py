"""The analysis of hidden states: outliers, directions, clusters and maps, written part by part to a run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.shared_args import HiddenMapArgs
from analysis.io.steps import cached_directions, cached_json, finish_step
from analysis.maps.direction_fits import compare_methods, fit_with_stability, spectrum, stability_numbers
from analysis.maps.hidden_states import HiddenStates, load_hidden_states, sample_episodes
from analysis.maps.map_frames import cluster_members, episode_frames, frames_at
from analysis.maps.map_parts import (
    MapSample,
    by_sample,
    find_clusters,
    find_outliers,
    index_in,
    make_map,
    sample_labels,
)
from analysis.maps.map_summary import cluster_numbers, map_numbers, outlier_shares
from analysis.maps.map_table import write_map
from common.progress import progress_bar
from common.runs import Run, UsageError
from envs.vecenv import ActionSpace
from generative.action_space import action_space_of
from interpret.clustering import Clusters
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample
from interpret.subsample import leading_components, scores_of, subsample, varying_columns
from rollouts.store import Rollouts

Samples = dict[str, MapSample]


@dataclass(frozen=True)
class Stores:
    """A real store and, optionally, a simulated one, with the hidden states of the sampled episodes."""

    real: Rollouts
    simulated: Rollouts | None
    states: HiddenStates
    sim_states: HiddenStates | None

    @classmethod
    def load(cls, args: HiddenMapArgs, real: Rollouts, simulated: Rollouts | None) -> "Stores":
        states = load_hidden_states(real, sample_episodes(real, args.num_episodes, args.seed))
        if simulated is None:
            return cls(real, None, states, None)
        episodes = sample_episodes(simulated, args.num_sim_episodes, args.seed)
        return cls(real, simulated, states, load_hidden_states(simulated, episodes))

    def numbers(self) -> dict:
        """Ids, sizes and levels of the stores."""
        episodes = np.unique(self.states.episode)
        levels = self.real.episodes["level_seed"][episodes]
        numbers = {
            "real": self.real.id,
            "game": self.real.manifest.get("env", {}).get("env_name"),
            "agents": np.unique(self.real.episodes["policy_id"][episodes]).tolist(),
            "episodes": len(levels),
            "states": len(self.states),
            "num_levels": len(np.unique(levels)),
            "levels": [int(levels.min()), int(levels.max())],
        }
        if self.simulated is None:
            return numbers
        return numbers | {
            "simulated": self.simulated.id,
            "sim_episodes": len(np.unique(self.sim_states.episode)),
            "sim_states": len(self.sim_states),
        }


@dataclass(frozen=True)
class Inliers:
    """The real states that are no outliers, with the features that vary.

    Args:
        all: rows of the real states.
        sample: the rows among them that maps and checks use.
        columns: features that vary.
        x: standardisable features of all inliers [n, len(columns)].
        level: level seed of each inlier [n].
        tested: indices of `sample` in `all`.
    """

    all: np.ndarray
    sample: np.ndarray
    columns: np.ndarray
    x: np.ndarray
    level: np.ndarray
    tested: np.ndarray

    @classmethod
    def of(
        cls, states: HiddenStates, kept: np.ndarray, columns: np.ndarray, args: HiddenMapArgs
    ) -> "Inliers":
        rows = np.flatnonzero(kept)
        tested = subsample(states.episode[rows], args.points, args.seed)
        return cls(rows, rows[tested], columns, states.x[rows][:, columns], states.level[rows], tested)


def analyse_hidden_states(args: HiddenMapArgs, run: Run, real: Rollouts, simulated: Rollouts | None) -> None:
    """Computes every part of the run that is missing, then finishes the run with its numbers."""
    stores = Stores.load(args, real, simulated)
    actions = action_space_of(real.manifest)
    columns = varying_columns(stores.states.x)
    with progress_bar(total=5 + len(args.maps), unit="part", desc="hidden states") as bar:
        outliers = cached_part(run, "inliers", lambda: _outliers(args, stores, columns))
        bar.update()
        inliers = Inliers.of(stores.states, outliers["kept"], columns, args)
        directions, refused = fit_all(args, run, inliers, stores.states.x.shape[1])
        bar.update()
        compared = cached_json(run, "equal_counts", lambda: _compared(args, list(directions), inliers))
        bar.update()
        space = leading_components(directions["pca"], args.variance_share)
        clusters = cached_part(run, "clusters", lambda: _clusters(args, stores.states, inliers, space))
        bar.update()
        samples = map_samples(args, stores, inliers.sample)
        maps = make_maps(args, run, samples, space, bar.update)
        labels = _labels(run, samples, actions, Clusters(clusters["centres"]), space, directions)
        assigned = Clusters(clusters["centres"]).assign(scores_of(space, stores.states.x)[inliers.all])
        cached_part(run, "spread", lambda: _score_spread(stores.states, inliers, directions))
        cached_part(run, "frames", lambda: map_frames(args, stores, samples, assigned, inliers.all))
        bar.update()
    write_tables(run, maps, labels, actions.names)
    numbers = {
        "stores": stores.numbers(),
        "actions": list(actions.names),
        "noop": actions.noop,
        "outliers": outlier_shares(outliers),
        "spectrum": spectrum(directions["pca"]),
        "axes": len(space),
        "methods": {name: stability_numbers(fit) for name, fit in directions.items()},
        "refused": refused,
        "equal_counts": compared,
        "clusters": cluster_numbers(clusters, assigned),
        "maps": map_numbers(maps, {name: columns["episode"] for name, columns in labels.items()}),
    }
    finish_step(run, numbers)


def _outliers(args: HiddenMapArgs, stores: Stores, columns: np.ndarray) -> dict[str, np.ndarray]:
    rule = args.outlier_neighbours, args.outlier_sigmas, args.seed
    return find_outliers(stores.states, stores.sim_states, columns, *rule)


def _compared(args: HiddenMapArgs, methods: Sequence[str], inliers: Inliers) -> list[dict]:
    x, level = inliers.x[inliers.tested], inliers.level[inliers.tested]
    return compare_methods(methods, x, level, args.counts, args.seed)


def _clusters(
    args: HiddenMapArgs, states: HiddenStates, inliers: Inliers, space: Directions
) -> dict[str, np.ndarray]:
    points = scores_of(space, states.x)[inliers.all]
    return find_clusters(points, inliers.level, args.clusters, inliers.tested, args.draws, args.seed)


def _score_spread(
    states: HiddenStates, inliers: Inliers, directions: Mapping[str, Directions]
) -> dict[str, np.ndarray]:
    """Standard deviation [K] of each method's scores over the map's sample."""
    return {name: scores_of(fit, states.x[inliers.sample]).std(0) for name, fit in directions.items()}


def fit_all(
    args: HiddenMapArgs, run: Run, inliers: Inliers, width: int
) -> tuple[dict[str, Directions], dict[str, str]]:
    """Directions by every method, PCA in full; and, for each method that failed, the reason.

    Args:
        args: methods, number of components, draws and seed.
        run: receives the directions.
        inliers: states that are fit.
        width: number of features of a hidden state; the directions span all of them.

    Raises:
        UsageError: PCA failed; everything else depends on it.
    """
    checked_sample(inliers.x, inliers.level, args.components)
    directions: dict[str, Directions] = {}
    refused: dict[str, str] = {}
    for method in dict.fromkeys(("pca", *args.methods)):
        try:
            directions[method] = cached_directions(run, method, partial(_fit, args, method, inliers, width))
        except UsageError as error:
            if method == "pca":
                raise
            logging.warning("%s is left out: %s", method, error)
            refused[method] = str(error)
    return directions, refused


def _fit(args: HiddenMapArgs, method: str, inliers: Inliers, width: int) -> Directions:
    full = min(len(inliers.columns), len(np.unique(inliers.level)) - 1)
    count = full if method == "pca" else args.components
    fit = fit_with_stability(
        method, inliers.x, inliers.level, count, inliers.tested, args.draws, args.seed
    ).within(inliers.columns, width)
    return fit.with_provenance(site="hidden after the observation")


def map_samples(args: HiddenMapArgs, stores: Stores, sample: np.ndarray) -> Samples:
    """The rows that maps are fit on, all steps of a few real episodes, and all simulated steps."""
    episodes = np.unique(stores.states.episode)
    chosen = np.random.default_rng([args.seed, 14]).permutation(episodes)[: args.path_episodes]
    rows = np.flatnonzero(np.isin(stores.states.episode, chosen))
    samples = {"real": MapSample(stores.states, sample), "followed": MapSample(stores.states, rows)}
    if stores.sim_states is not None:
        samples["simulated"] = MapSample(stores.sim_states, np.arange(len(stores.sim_states)))
    return samples


def make_maps(
    args: HiddenMapArgs, run: Run, samples: Samples, space: Directions, advance
) -> dict[str, dict[str, np.ndarray]]:
    """PCA and the other embeddings, fit on the real sample, with the other samples projected onto them."""
    points = {name: scores_of(space, sample.states.x[sample.rows]) for name, sample in samples.items()}
    cached_part(run, "axes", lambda: {name: scores[:, :3] for name, scores in points.items()})
    own = {"followed": index_in(samples["followed"].rows, samples["real"].rows)}
    maps = {"pca": cached_part(run, "map_pca", lambda: make_map("pca", points, args.seed, 1, own))}
    for kind in args.maps:
        fit = partial(make_map, kind, points, args.seed, args.num_threads, own)
        maps[kind] = cached_part(run, f"map_{kind}", fit)
        advance()
    return maps


def _labels(
    run: Run,
    samples: Samples,
    actions: ActionSpace,
    clusters: Clusters,
    space: Directions,
    directions: Mapping[str, Directions],
) -> dict[str, dict[str, np.ndarray]]:
    factors = {name: fit for name, fit in directions.items() if name != "pca"}
    labels = {
        name: sample_labels(sample, actions, clusters, space, factors) for name, sample in samples.items()
    }
    cached_part(run, "labels", lambda: by_sample(labels))
    return labels


def map_frames(
    args: HiddenMapArgs, stores: Stores, samples: Samples, assigned: np.ndarray, inliers: np.ndarray
) -> dict[str, np.ndarray]:
    """Example frames of every cluster, and all frames of the followed real and the first simulated episodes.

    Args:
        args: numbers of clusters, members and episodes, and the seed.
        stores: of the states.
        samples: see `map_samples`.
        assigned: cluster of each inlier [n].
        inliers: rows of the real states [n].

    Returns:
        members [C, M], indices of inliers, -1 for none; their frames, episodes and steps; followed and
        simulated frames [., H, W, C].
    """
    states = stores.states
    members = cluster_members(
        assigned, states.episode[inliers], args.clusters, args.frames_per_cluster, args.seed
    )
    chosen = inliers[members[members >= 0]]
    arrays = {
        "members": members,
        "member_frames": frames_at(stores.real, states.episode[chosen], states.step[chosen]),
        "member_episode": states.episode[chosen],
        "member_step": states.step[chosen],
        "followed": episode_frames(stores.real, np.unique(states.episode[samples["followed"].rows])),
    }
    if stores.simulated is None:
        return arrays
    episodes = np.unique(stores.sim_states.episode)[: args.path_episodes]
    return arrays | {"simulated": episode_frames(stores.simulated, episodes)}


def write_tables(run: Run, maps: dict, labels: dict, action_names: Sequence[str]) -> None:
    """One Parquet file per map, with the real sample and the simulated steps."""
    names = [name for name in ("real", "simulated") if name in labels]
    columns = {key: np.concatenate([labels[name][key] for name in names]) for key in labels["real"]}
    columns |= {key: np.array(action_names)[columns[key]] for key in ("likeliest", "taken")}
    source = np.repeat(names, [len(labels[name]["episode"]) for name in names])
    for kind, arrays in maps.items():
        points = np.concatenate([arrays[name] for name in names])
        write_map(run.dir / f"map_{kind}.parquet", source, points, columns)
