"""Jacobians of direction scores in simulated episodes, with respect to the states of agent and environment.

Every sample is a stored simulated episode, repeated with gradients. Its Jacobian at all lags is kept in
results/jacobians_precomp, whole and by path, which analysis/xcaus_precompute.py and
analysis/dynamics_grads_consistency_precompute.py read. At one lag, the Jacobians of all samples are clustered
and mapped in results/jacobian_analysis_precomp; draw them with analysis/jacobian_analysis_plotting.py. The
same command again resumes; other clusters or maps take the same Jacobians.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from analysis.io.shared_args import MapFitArgs
from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, PrecisionName


@dataclass(kw_only=True)
class Args(MapFitArgs):
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model that the store was recorded with."""
    agent_file: Path
    """The agent that acts in the store."""
    data_dir: Path = Path("results/simulated/informed_init")
    """Store of simulated rollouts, with environment states."""
    directions: Path | None = None
    """Saved directions of the agent's hidden state; default: those of the latest hidden-state analysis in
    <out_dir>, by ICA or, if that was not fit, by PCA.
    """
    num_episodes: int = 500
    """Episodes, sampled at random; all if the store has fewer."""
    score_step: int = 8
    """Step of an episode whose scores are differentiated, with respect to this step and all earlier ones."""
    lag: int = 1
    """Lag, in steps, of the Jacobians that are clustered and mapped."""
    normalise: bool = True
    """Divide each sample's Jacobian by its norm, for agent and environment apart: clusters and maps then
    compare patterns; otherwise a few very large Jacobians determine them.
    """
    env_components: int = 32
    """Principal components of the environment state in whose scores its gradients are kept."""
    environment_path: bool = False
    """Also compute gradients to the environment state along unchanged actions; takes twice as long."""
    keep_float: bool = False
    """Keep float32, and gradients to every feature of the environment state, instead of float16 and scores.
    """
    components: int = 64
    """Largest number of principal components that clusters and maps are fit on."""
    maps: tuple[str, ...] = ("tsne",)
    """Embeddings besides PCA: tsne, umap, both, or no word for none."""
    frames_per_cluster: int = 12
    """Example frames stored for each cluster."""
    batch_size: int = 32
    """Episodes simulated together; bounds the memory."""
    device: Device = "auto"
    precision: PrecisionName = "auto"

    start_step = property(lambda self: self.score_step)
    path_episodes = 12
    nmf_components = 0


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import logging

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least
from analysis.io.steps import cached_directions, finish_step, open_step, point_latest
from analysis.lagged.jacobian_points import (
    averaged_blocks,
    check_replayed,
    jacobian_numbers,
    map_blocks,
    norms_by_lag,
    sample_columns,
)
from analysis.lagged.store_correlations import latest_directions
from analysis.lagged.stored_jacobians import NAME, VERSION, JacobianPlan, compute_jacobians, find_jacobians
from analysis.maps.hidden_states import HiddenStates, load_hidden_states, sample_episodes
from analysis.maps.joint_states import environment_axes, joint_vectors, principal_scores, rows_with_future
from analysis.maps.simulated_state_maps import Points, StepSelection, open_simulated, run_map_step
from analysis.maps.simulated_state_steps import JACOBIAN
from analysis.maps.step_fields import levels_in_words, steps_mask
from common.integrity import check_memory
from common.precision import Precision, choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id
from common.words import counted
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from interpret.attribution.replay import check_recorded_with, replayed_trace, stored_sampling
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.attribution.trace import graph_bytes
from interpret.directions.directions import Directions, load_directions
from rollouts.store import Rollouts, recorded_precision

FIRST_ENV_STEP = 1
"""The environment state of step 0 is read from the latent; its axes are fit from this step on."""


def main(args: Args) -> None:
    check_flags(args)
    rollouts = open_simulated(args.data_dir)
    jacobians = run_jacobians(args, rollouts)
    stored = find_jacobians(args.out_dir, jacobians.dir)

    def make_points(args, run, rollouts, mask, states) -> Points:
        return jacobian_points(args, run, states, stored)

    selection = StepSelection(0, 1, ("components",))
    run_map_step(JACOBIAN, args, make_points, selection, {"jacobians": jacobians.dir.name})


def run_jacobians(args: Args, rollouts: Rollouts) -> Run:
    """The finished step that holds the Jacobians of all samples; a map reads it, as do other analyses."""
    stored_sampling(rollouts)
    inputs = {name: file_id(getattr(args, name)) for name in ("world_model_file", "agent_file")}
    check_recorded_with(rollouts, *inputs.values())
    directions = load_directions(args.directions) if args.directions else latest_directions(args.out_dir)[0]
    check_width(directions, rollouts)
    episodes = long_enough(args, rollouts)
    simulator = load_networks(args, rollouts)
    inputs |= {"data_dir": rollouts.id, "directions": directions.id}
    names = ("num_episodes", "score_step", "env_components", "environment_path", "keep_float", "seed")
    settings = {name: getattr(args, name) for name in names}
    run = open_step(args.out_dir, NAME, VERSION, settings, inputs, args.new, run_precision(args))
    if run.done:
        point_latest(run)
    else:
        set_precision(run.precision, simulator.model, simulator.agent)
        compute(args, run, simulator, rollouts, episodes, directions)
    logging.info("Jacobians: %s", run.dir)
    return run


def compute(
    args: Args,
    run: Run,
    simulator: Simulator,
    rollouts: Rollouts,
    episodes: np.ndarray,
    directions: Directions,
) -> None:
    """Computes the Jacobians of the episodes, then finishes the run with its numbers."""
    mask = steps_mask(rollouts, sample_episodes(rollouts, args.num_episodes, args.seed))
    env_axes, numbers = environment_axes(run, rollouts, mask, FIRST_ENV_STEP, args.env_components, args.seed)
    cached_directions(run, "directions", lambda: directions)
    plan = JacobianPlan(
        args.score_step, directions, env_axes, args.environment_path, args.keep_float, args.batch_size
    )
    replayed, difference = compute_jacobians(run, simulator, rollouts, episodes, plan)
    check_replayed(replayed, rollouts)
    states = load_hidden_states(rollouts, episodes)
    samples = cached_part(
        run, "samples", lambda: sample_columns(rollouts, directions, states, episodes[replayed])
    )
    numbers |= jacobian_numbers(args.score_step, directions, samples, replayed, difference)
    finish_step(run, numbers | {"store": rollouts.id, "levels": levels_in_words(rollouts, mask)})


def run_precision(args: Args) -> Precision:
    """The precision that the store was recorded in, unless another one is asked for by name."""
    device = choose_device(args.device)
    asked = choose_precision(args.precision, device).keep(recorded_precision(args.data_dir), args.data_dir)
    return choose_precision(asked, device)


def load_networks(args: Args, rollouts: Rollouts) -> Simulator:
    """The simulator with its agent. Raises UsageError if a batch does not fit into memory."""
    other = rollouts.manifest.get("allow_other_agent", False)
    simulator, _ = load_simulator(args.world_model_file, args.agent_file, other, choose_device(args.device))
    one = long_enough(args, rollouts)[:1]
    size = graph_bytes(lambda: replayed_trace(simulator, rollouts, one, args.score_step + 1))
    batch = min(args.batch_size, len(rollouts))
    check_memory(size * batch, f"{counted(batch, 'episode')} at a time (--batch_size, --score_step)")
    return simulator


def jacobian_points(args: Args, run: Run, states: HiddenStates, stored: StoredJacobians) -> Points:
    """A point for every sample: its Jacobian at --lag."""
    rows = rows_with_future(states, args.score_step, 0, 1)
    rows = rows[np.isin(states.episode[rows], stored.samples["episode"])]
    env_axes = load_directions(stored.directory / "env_pca.safetensors")
    env_std = np.sqrt(env_axes.provenance["variance"]).astype(np.float32)
    vectors = joint_vectors(map_blocks(stored, env_std, args.lag, args.normalise), np.arange(len(rows)))
    points, numbers = principal_scores(run, "jacobian_axes", vectors, args.components)
    facts = stored.numbers | {"lag": args.lag, "directory": stored.directory.name}
    numbers |= {"jacobians": facts, "norms": norms_by_lag(stored)}
    return Points(points, rows, vectors, numbers, averaged=averaged_blocks(stored, env_std, args.lag))


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, score_step=1, lag=1, env_components=2, batch_size=1)
    if args.lag > args.score_step:
        raise UsageError(
            f"--lag is {args.lag}: at --score_step {args.score_step} there are lags from 0 to "
            f"{args.score_step}"
        )


def long_enough(args: Args, rollouts: Rollouts) -> np.ndarray:
    """The sampled episodes that have the step. Raises UsageError if there is none."""
    episodes = sample_episodes(rollouts, args.num_episodes, args.seed)
    length = rollouts.episodes["length"][episodes]
    if args.score_step >= length.max():
        raise UsageError(
            f"--score_step is {args.score_step}, and the longest episode of {rollouts.path} has "
            f"{counted(int(length.max()), 'step')}: give a smaller one, or record longer episodes with "
            "record_gen_samples.py --num_sim_steps"
        )
    return episodes[length > args.score_step]


def check_width(directions: Directions, rollouts: Rollouts) -> None:
    """Raises UsageError if directions are not of the agent's hidden state."""
    width = rollouts.manifest["hidden_size"]
    if directions.width != width:
        raise UsageError(
            f"the directions have width {directions.width}, and the agent's hidden state has width {width}: "
            "give directions that were fit on it"
        )


if __name__ == "__main__":
    run_main(main, ARGS)
