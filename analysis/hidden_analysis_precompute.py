"""The structure of an agent's hidden states: outliers, directions by four methods, clusters, and flat maps with simulated states placed in.

Reads a store of real rollouts and, if there is one, a store of simulated ones. Writes to results/hx_analysis_precomp whatever plots need,
frames included, with the numbers that say how far each of them can be trusted; draw them with analysis/hidden_analysis_plotting.py.
The same command again does nothing; interrupted, it goes on where it was.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from analysis.args import DIRECTION_METHODS
from common.cli import parse, run_main


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of real rollouts."""
    sim_data_dir: Path | None = None
    """Store of simulated rollouts of the same agent, placed into the maps of the real ones."""
    num_episodes: int = 4000
    """Real episodes, drawn at random; all where there are no more."""
    num_sim_episodes: int = 200
    """Simulated episodes, likewise."""
    outlier_neighbours: int = 5
    """A state's median distance to so many nearest ones says whether it is an outlier."""
    outlier_sigmas: float = 2.0
    """It is one so many standard deviations beyond the mean distance. Fits, clusters and maps leave outliers out."""
    methods: tuple[str, ...] = DIRECTION_METHODS
    """Which of pca, ica, nmf and dictionary to fit; pca always is."""
    components: int = 16
    """Directions of ica and nmf, and those that a state uses at a time of a dictionary with 16 times as many."""
    counts: tuple[int, ...] = (4, 8, 16)
    """Numbers of directions at which the methods are compared by reconstruction."""
    draws: int = 20
    """Fits to levels drawn again, for the stability of directions and clusters; 0 leaves directions untested."""
    share: float = 0.95
    """Clusters and maps are made of the principal components that hold this share of the variance."""
    clusters: int = 32
    """How many clusters."""
    maps: tuple[str, ...] = ("tsne", "umap")
    """Flat maps to make beside the principal axes: tsne, umap, both, or no word for none. UMAP compiles for a minute or two when it is first used."""
    points: int = 20_000
    """States of the maps, and of the checks of directions and clusters: a sample stratified by episode."""
    followed: int = 60
    """Episodes, real and simulated each, of which every step is placed into the maps and every frame kept: for paths and the explorer."""
    members: int = 24
    """Frames kept of each cluster, members drawn at random, of different episodes where it has enough."""
    seed: int = 0
    """Seed of everything random."""
    num_threads: int = 2
    """Threads of the linear algebra and of t-SNE."""
    new: bool = False
    """Make it again even where it is done."""
    out_dir: Path = Path("results")
    """Where hx_analysis_precomp is written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.artefacts import part
from analysis.clusters import Clusters
from analysis.embedding import FEWEST
from analysis.hidden_maps import Sample, check_maps, find_clusters, find_outliers, make_map, places_among, point_labels
from analysis.hidden_numbers import STEP, VERSION, cluster_numbers, map_numbers, outlier_shares
from analysis.hidden_states import States, choose_episodes, gather
from analysis.limits import GROUPS_PER_CLUSTER, GROUPS_PER_DIRECTION, Limit, fit_sizes
from analysis.map_fits import check_methods, equal_counts, fit_judged, spectrum, verdict
from analysis.map_frames import cluster_members, episode_frames, frames_at
from analysis.map_table import write_map
from analysis.points import changing, leading, scores_of, subsample
from analysis.steps import finish_step, fitted, json_part, open_step, point_latest
from common.progress import progress_bar
from common.runs import Run, UsageError
from common.words import counted
from generative.sim_env import actions_of
from interpret.directions import Directions
from interpret.fitting import checked
from interpret.stability import FEWEST_DRAWS
from rollouts.store import Rollouts

NOT_SETTINGS = ("data_dir", "sim_data_dir", "new", "out_dir", "num_threads", "log_level")
"""Flags that do not say what is made; stores enter by their ids."""


def main(args: Args) -> None:
    check(args)
    real = Rollouts.open(args.data_dir)
    simulated = Rollouts.open(args.sim_data_dir) if args.sim_data_dir else None
    check_stores(real, simulated)
    args = fit_sizes(args, limits(args, real))
    settings = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    inputs = {"data_dir": real.id} | ({"sim_data_dir": simulated.id} if simulated else {})
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new)
    if run.done:
        point_latest(run)
    else:
        with threadpool_limits(args.num_threads):
            compute(args, run, real, simulated)
    logging.info("hidden states: %s; draw them with: python analysis/hidden_analysis_plotting.py --out_dir %s", run.dir, args.out_dir)


def check(args: Args) -> None:
    """Raises UsageError for flags that cannot be met, before any work."""
    check_methods(args.methods)
    check_maps(args.maps)
    if args.draws and args.draws < FEWEST_DRAWS:
        raise UsageError(f"--draws is {args.draws}: {FEWEST_DRAWS} or more say something of stability, and 0 leaves it untested")
    for name, least in (("clusters", 2), ("followed", 1), ("members", 1), ("outlier_neighbours", 1), ("points", FEWEST), ("components", 1)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}: give {least} or more")
    if not 0 < args.share <= 1:
        raise UsageError(f"--share is {args.share}: give a share of the variance above 0, at most 1")
    if not 0 < args.outlier_sigmas < float("inf"):
        raise UsageError(f"--outlier_sigmas is {args.outlier_sigmas}: give a number above 0")


def check_stores(real: Rollouts, simulated: Rollouts | None) -> None:
    """Raises UsageError where the stores are not a real one and a simulated one of the same agent."""
    if real.simulated:
        raise UsageError(f"{real.path} holds simulated episodes: give it as --sim_data_dir, and a store that record.py made as --data_dir")
    if simulated is None:
        return
    if not simulated.simulated:
        raise UsageError(f"{simulated.path} holds real episodes: --sim_data_dir takes a store that record_gen_samples.py made")
    agents = [sorted(np.unique(store.episodes["policy_id"])) for store in (real, simulated)]
    if agents[0] != agents[1]:
        whose = f"{simulated.path} is of agent {', '.join(agents[1])} and {real.path} of {', '.join(agents[0])}"
        raise UsageError(f"{whose}: states of different agents share no map; give stores of one agent")


def limits(args: Args, real: Rollouts) -> dict[str, Limit]:
    """The sizes that the chosen real episodes carry. Outliers are at most 1 in 1 + sigmas^2 states (Cantelli 1928), so a map keeps enough points."""
    episodes = choose_episodes(real, args.num_episodes, args.seed)
    levels, states = len(np.unique(real.episodes["level_seed"][episodes])), int(real.episodes["length"][episodes].sum())
    width = real.manifest["hidden_size"]
    directions = Limit(min(levels // GROUPS_PER_DIRECTION, width), f"{counted(levels, 'level')}, {counted(width, 'hidden unit')}")
    kept = states - int(states / (1 + args.outlier_sigmas**2))
    return {
        "components": directions, "counts": directions, "clusters": Limit(levels // GROUPS_PER_CLUSTER, counted(levels, "level"), 2),
        "points": Limit(states, counted(states, "state"), FEWEST) if kept >= FEWEST else Limit(kept, f"{counted(states, 'state')} less outliers", FEWEST),
    }  # fmt: skip


def compute(args: Args, run: Run, real: Rollouts, simulated: Rollouts | None) -> None:
    """Every part of the step, in order; what is there already is read."""
    actions = actions_of(real.manifest)
    states = gather(real, choose_episodes(real, args.num_episodes, args.seed))
    placed = gather(simulated, choose_episodes(simulated, args.num_sim_episodes, args.seed)) if simulated else None
    columns = changing(states.x)
    with progress_bar(total=5 + len(args.maps), unit="part", desc="hidden states") as bar:

        def timed(what):
            bar.update()
            return what

        rule = args.outlier_neighbours, args.outlier_sigmas, args.seed
        outliers = timed(part(run, "inliers", lambda: find_outliers(states, placed, columns, *rule)))
        inner = np.flatnonzero(outliers["kept"])
        rows = subsample(states.episode[inner], args.points, args.seed)
        directions, refused = timed(fit_all(args, run, states, inner, rows, columns))
        x, level = states.x[inner][rows][:, columns], states.level[inner][rows]
        compared = timed(json_part(run, "equal_counts", lambda: equal_counts(list(directions), x, level, args.counts, args.seed)))
        space = leading(directions["pca"], args.share)
        points = scores_of(space, states.x)
        tested = args.clusters, rows, args.draws, args.seed
        found = timed(part(run, "clusters", lambda: find_clusters(points[inner], states.level[inner], *tested)))
        samples = samples_of(args, states, placed, inner[rows])
        shown = {name: scores_of(space, sample.states.x[sample.rows]) for name, sample in samples.items()}
        part(run, "axes", lambda: {name: some[:, :3] for name, some in shown.items()})
        part(run, "spread", lambda: {name: scores_of(made, states.x[inner][rows]).std(0) for name, made in directions.items()})
        own = {"followed": places_among(samples["followed"].rows, samples["real"].rows)}
        maps = {"pca": part(run, "map_pca", lambda: make_map("pca", shown, args.seed, 1, own))}
        for kind in args.maps:
            maps[kind] = timed(part(run, f"map_{kind}", lambda: make_map(kind, shown, args.seed, args.num_threads, own)))
        clusters = Clusters(found["centres"])
        factors = {name: directions[name] for name in directions if name != "pca"}
        labels = {name: point_labels(sample, actions, clusters, space, factors) for name, sample in samples.items()}
        part(run, "labels", lambda: {f"{name}.{key}": column for name, columns in labels.items() for key, column in columns.items()})
        timed(part(run, "frames", lambda: frames_of(args, real, simulated, states, samples, clusters.assign(points[inner]), inner)))
    write_tables(run, maps, labels, actions.names)
    episodes = {name: columns["episode"] for name, columns in labels.items()}
    numbers = {
        "stores": stores(real, simulated, states, placed), "actions": list(actions.names), "noop": actions.noop,
        "outliers": outlier_shares(outliers), "spectrum": spectrum(directions["pca"]), "axes": len(space),
        "methods": {name: verdict(made) for name, made in directions.items()}, "refused": refused, "equal_counts": compared,
        "clusters": cluster_numbers(found, clusters.assign(points[inner])), "maps": map_numbers(maps, episodes),
    }  # fmt: skip
    finish_step(run, numbers)


def fit_all(args: Args, run: Run, states: States, inner, rows, columns) -> tuple[dict[str, Directions], dict[str, str]]:
    """Directions of the states numbered `inner` by every method, in the whole width, PCA in full; and why a method refused, for those that did.

    rows: those of the inner ones that test stability. columns: the features that change.
    """
    x, level = states.x[inner][:, columns], states.level[inner]
    checked(x, level, args.components)
    full = min(len(columns), len(np.unique(level)) - 1)
    made, refused = {}, {}
    for method in dict.fromkeys(("pca", *args.methods)):
        count = full if method == "pca" else args.components

        def fit():
            found = fit_judged(method, x, level, count, rows, args.draws, args.seed).within(columns, states.x.shape[1])
            return found.with_provenance(site="hidden after the observation")

        try:
            made[method] = fitted(run, method, fit)
        except UsageError as error:
            if method == "pca":  # all else stands on it
                raise
            logging.warning("%s is left out: %s", method, error)
            refused[method] = str(error)
    return made, refused


def samples_of(args: Args, states: States, placed: States | None, sample: np.ndarray) -> dict[str, Sample]:
    """What is shown: the real sample that maps are made of, every step of the followed real episodes, and every simulated step."""
    chosen = np.random.default_rng([args.seed, 14]).permutation(np.unique(states.episode))[: args.followed]
    samples = {"real": Sample(states, sample), "followed": Sample(states, np.flatnonzero(np.isin(states.episode, chosen)))}
    return samples | ({"simulated": Sample(placed, np.arange(len(placed)))} if placed else {})


def frames_of(args: Args, real: Rollouts, simulated: Rollouts | None, states: States, samples: dict[str, Sample], labels, inner) -> dict:
    """members [C, M] (numbers of inliers, -1 for none) with their frames, and the frames of followed real and simulated episodes.

    labels: the cluster of each of the states numbered `inner`.
    """
    members = cluster_members(labels, states.episode[inner], args.clusters, args.members, args.seed)
    chosen = inner[members[members >= 0]]
    there = samples["followed"].rows
    arrays = {
        "members": members, "member_frames": frames_at(real, states.episode[chosen], states.step[chosen]),
        "member_episode": states.episode[chosen], "member_step": states.step[chosen],
        "followed": episode_frames(real, np.unique(states.episode[there])),
    }  # fmt: skip
    if simulated is None:
        return arrays
    episodes = np.unique(samples["simulated"].states.episode)[: args.followed]
    return arrays | {"simulated": episode_frames(simulated, episodes)}


def write_tables(run: Run, maps: dict, labels: dict, action_names) -> None:
    """One Parquet file per map: the real sample and the simulated steps."""
    names = [name for name in ("real", "simulated") if name in labels]
    columns = {key: np.concatenate([labels[name][key] for name in names]) for key in labels["real"]}
    columns |= {key: np.array(action_names)[columns[key]] for key in ("likeliest", "taken")}
    source = np.repeat(names, [len(labels[name]["episode"]) for name in names])
    for kind, arrays in maps.items():
        write_map(run.dir / f"map_{kind}.parquet", source, np.concatenate([arrays[name] for name in names]), columns)


def stores(real: Rollouts, simulated: Rollouts | None, states: States, placed: States | None) -> dict:
    """What the numbers are of."""
    levels = real.episodes["level_seed"][np.unique(states.episode)]
    agents = np.unique(real.episodes["policy_id"][np.unique(states.episode)]).tolist()
    told = {"real": real.id, "game": real.manifest.get("env", {}).get("env_name"), "agents": agents, "episodes": len(levels), "states": len(states), "num_levels": len(np.unique(levels))}
    told["levels"] = [int(levels.min()), int(levels.max())]
    if placed is None:
        return told
    return told | {"simulated": simulated.id, "sim_episodes": len(np.unique(placed.episode)), "sim_states": len(placed)}


if __name__ == "__main__":
    run_main(main, ARGS)
