"""Directions, clusters and maps (PCA, t-SNE, UMAP) of an agent's hidden states.

Reads a store of real rollouts and, optionally, a store of simulated ones, whose states are projected onto the
maps. Writes results/hx_analysis_precomp, with frames and with numbers that say how far each result can be
trusted; draw it with analysis/hidden_analysis_plotting.py. The same command resumes an interrupted run and
does nothing once the run is finished.
"""

import logging

from analysis.io.shared_args import HiddenMapArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.io.size_limits import GROUPS_PER_CLUSTER, GROUPS_PER_DIRECTION, Limit, fit_sizes
from analysis.io.steps import open_step, point_latest
from analysis.maps.direction_fits import check_methods
from analysis.maps.hidden_state_analysis import analyse_hidden_states
from analysis.maps.hidden_states import sample_episodes
from analysis.maps.map_parts import check_maps
from analysis.maps.map_summary import STEP, VERSION
from common.runs import UsageError
from common.words import counted
from interpret.directions.stability import MIN_RESAMPLES
from interpret.embedding import MIN_POINTS
from rollouts.store import Rollouts

NOT_SETTINGS = ("data_dir", "sim_data_dir", "new", "out_dir", "num_threads", "log_level")
"""Flags that do not change the result; stores enter by their ids."""
LEAST = {
    "clusters": 2,
    "path_episodes": 1,
    "frames_per_cluster": 1,
    "outlier_neighbours": 1,
    "points": MIN_POINTS,
    "components": 1,
}
"""Smallest value of each flag."""


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
            analyse_hidden_states(args, run, real, simulated)
    plot = f"python analysis/hidden_analysis_plotting.py --out_dir {args.out_dir}"
    logging.info("hidden states: %s; draw them with: %s", run.dir, plot)


def check(args: Args) -> None:
    """Raises UsageError for invalid flags, before any work."""
    check_methods(args.methods)
    check_maps(args.maps)
    if args.draws and args.draws < MIN_RESAMPLES:
        raise UsageError(
            f"--draws is {args.draws}: {MIN_RESAMPLES} or more estimate stability, and 0 skips the estimate"
        )
    for name, least in LEAST.items():
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}: give {least} or more")
    if not 0 < args.variance_share <= 1:
        raise UsageError(f"--variance_share is {args.variance_share}: give a fraction above 0, at most 1")
    if not 0 < args.outlier_sigmas < float("inf"):
        raise UsageError(f"--outlier_sigmas is {args.outlier_sigmas}: give a number above 0")


def check_stores(real: Rollouts, simulated: Rollouts | None) -> None:
    """Raises UsageError unless the stores are a real one and a simulated one of the same agent."""
    if real.simulated:
        raise UsageError(
            f"{real.path} holds simulated episodes: pass it as --sim_data_dir, and a store recorded with "
            "record.py as --data_dir"
        )
    if simulated is None:
        return
    if not simulated.simulated:
        raise UsageError(
            f"{simulated.path} holds real episodes: --sim_data_dir takes a store recorded with "
            "record_gen_samples.py"
        )
    agents = [sorted(np.unique(store.episodes["policy_id"])) for store in (real, simulated)]
    if agents[0] != agents[1]:
        raise UsageError(
            f"{simulated.path} is of agent {', '.join(agents[1])} and {real.path} of {', '.join(agents[0])}: "
            "one map needs the states of one agent; pass stores of the same agent"
        )


def limits(args: Args, real: Rollouts) -> dict[str, Limit]:
    """The largest sizes that the sampled real episodes allow.

    At most 1 in 1 + sigmas^2 states is an outlier (Cantelli 1928), which bounds the states left for a map.
    """
    episodes = sample_episodes(real, args.num_episodes, args.seed)
    levels = len(np.unique(real.episodes["level_seed"][episodes]))
    states = int(real.episodes["length"][episodes].sum())
    width = real.manifest["hidden_size"]
    directions = Limit(
        min(levels // GROUPS_PER_DIRECTION, width),
        f"{counted(levels, 'level')}, {counted(width, 'hidden unit')}",
    )
    kept = states - int(states / (1 + args.outlier_sigmas**2))
    points = Limit(states, counted(states, "state"), MIN_POINTS)
    few_points = Limit(kept, f"{counted(states, 'state')} less outliers", MIN_POINTS)
    return {
        "components": directions,
        "counts": directions,
        "clusters": Limit(levels // GROUPS_PER_CLUSTER, counted(levels, "level"), 2),
        "points": points if kept >= MIN_POINTS else few_points,
    }


if __name__ == "__main__":
    run_main(main, ARGS)
