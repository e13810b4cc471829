"""Optimises latents of the simulator so that the agent does something: raises its value, takes an action,
drives a hidden unit or a direction, or reaches a part of its state space.

The optimised latents are compared with the best recorded moments and the best random latents at equal cost,
and with what the agent does in the real game, at the recorded moments that are nearest to them. An optimum
that no recorded moment is near is a claim about the simulator only.

    python target_function_exps.py --world_model_file MODEL \\
        --agent_file AGENT --data_dir STORE \\
        --targets increase_value decrease_value increase_action_up-right

A target is increase_<function>, decrease_<function>, <function>=<number>, reach_cluster_<number> (with
--clusters_dir) or reach_moments (with --moments).

Functions: value, value_delta, action (log-probability of
the action taken), action_<name>, leftwards, rightwards, upwards, downwards, entropy, reward, done,
hidden_<unit>, hx_direction_<number>_<kind> and hx_direction for all directions (with --direction_files).

Writes numbers.json, figures, videos and the latents to a directory of --out_dir; docs/target_functions.md
explains them. The same command again resumes.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from common.cli import parse, run_main
from common.shared_flags import (
    NONE_IF_EMPTY,
    SEED_DIRECTIONS,
    SEED_MODEL_FILE,
    Device,
    LogLevel,
    PrecisionName,
)


@dataclass
class Args:
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model."""
    agent_file: Path
    """The agent it was trained with."""
    data_dir: Path = Path("data")
    """Store of the agent's real rollouts: starts, the prior, a baseline and the check come from it."""
    targets: tuple[str, ...] = ("increase_value",)
    """What is wanted; one optimisation each."""
    step: int | Literal["sum"] = 4
    """Simulated step at which the function is read, 0 for the first frame; or sum, over all --num_sim_steps.
    """
    num_sim_steps: int = 12
    """Steps of the rollouts that are shown, and of sums over steps."""
    direction_files: Annotated[tuple[Path, ...], SEED_DIRECTIONS] = ()
    """Files of directions of the hidden state. Direction d of kind k is hx_direction_<d>_<k>."""
    clusters_dir: Path | None = None
    """A finished hidden-state analysis (analysis/hidden_analysis_precompute.py), for reach_cluster_<number>.
    """
    moments: Annotated[tuple[str, ...], NONE_IF_EMPTY] = ()
    """Recorded moments, each as episode:step, whose mean hidden state reach_moments goes to."""
    num_starts: int = 16
    """Latents that are optimised together, each from its own start."""
    start_pool: int = 16
    """Recorded moments that each start is the best of, by simulating all; 1 takes starts as they come."""
    rand_init: bool = False
    """Start from random latents of the prior instead of recorded moments."""
    start_latents: Path | None = None
    """Start from the optimised latents of an earlier run, its file <target>.safetensors; there is no pool."""
    num_iterations: int = 150
    """Steps of Adam."""
    lr: float = 0.1
    """Learning rate at the start, in standard deviations of the latent; it falls to 0 along half a cosine."""
    num_rollouts: int = 8
    """Rollouts per latent and iteration, each with its own noise: the target is an expectation over noise."""
    latent_noise: float = 0.3
    """Noise that each rollout of the training adds to its latent, in standard deviations: the gradients are
    those of a smoothed objective. 0 for none.
    """
    common_noise: bool = False
    """The same noise in every iteration instead of new noise: smoother curves, and optima that fit it."""
    grad_clip_norm: float = 5.0
    """Largest norm of one rollout's gradient, in standard deviations of the function per unit of the whitened
    latent (1 for a function that is linear in it).
    """
    prior: Literal["recorded", "standard"] = "recorded"
    """Latents that count as plausible: the Gaussian with mean and covariance of the latents of recorded
    moments, or N(0, I), which the shipped model's recorded latents are far from.
    """
    prior_weight: float = 0.1
    """Weight of the distance from the prior's typical shell; 0 lets latents go anywhere."""
    diversity: float = 0.0
    """Weight of the mean distance between first frames, in units of that at the start."""
    detach_agent: bool = True
    """No gradient to the latent through the agent's memory at the start; its frames alone are optimised."""
    detach_actions: bool = True
    """No gradient through the choice of actions, which is noisy; actions still change with the frames."""
    eval_every: int = 25
    """Iterations between evaluations, after each of which the run can resume."""
    eval_rollouts: int = 16
    """Rollouts per latent of an evaluation; the best latent of each start is kept by them."""
    report_rollouts: int = 64
    """Rollouts per latent, with fresh noise, that all reported values are means of."""
    num_moments: int = 2000
    """Recorded moments that the prior is fit on, and that the nearest one is searched in."""
    num_shown: int = 6
    """Starts in the video."""
    fps: float = 5.0
    """Steps per second of video."""
    batch_size: int = 64
    """Most rollouts at a time; lower it if memory runs out. Another one changes the last bits of results."""
    seed: int = 0
    """Seed of starts, candidates, noise and resamples."""
    device: Device = "auto"
    precision: PrecisionName = "fp32"
    # in bf16 half of the gradients have a cosine below 0.86 with those in float32
    out_dir: Path = Path("results/targets")
    """Where runs go."""
    new: bool = False
    """Start another run even though this command has one."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import math

from analysis.io.size_limits import check_least
from analysis.targets.clips import make_clips, write_clips
from analysis.targets.experiment import Experiment
from analysis.targets.figures import draw_run
from analysis.targets.places import moments_place, read_clusters
from analysis.targets.prior_figure import draw_priors
from analysis.targets.results import log_results, run_numbers, target_results
from analysis.targets.setup import choose_begin, make_experiment
from analysis.targets.strips import draw_strips
from analysis.targets.target_run import TargetRun
from common.checkpoints import write_json
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, open_run
from generative.action_space import action_space_of
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import open_agent_rollouts
from interpret.attribution.functions import known_functions
from interpret.directions.by_kind import load_by_kind
from interpret.targets.target_rollouts import Reading, reading_of
from interpret.targets.targets import Target, choose_targets
from rollouts.store import Rollouts

FILES = ("world_model_file", "agent_file", "data_dir", "direction_files", "clusters_dir", "start_latents")
"""Flags that count by the content of what they name."""


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, device=device)
    rollouts = open_agent_rollouts(args.data_dir, args.agent_file)
    targets = find_targets(args, simulator, meta, rollouts)
    readings = {target: reading_of(target, args.step, args.num_sim_steps) for target in targets}
    ids = {name: file_id(getattr(args, name)) for name in ("world_model_file", "agent_file")}
    begin = choose_begin(args, ids, device)
    run = start_run(args, rollouts, device)
    if run.done:
        return
    set_precision(run.precision, simulator.model, simulator.agent)
    experiment = make_experiment(args, run, simulator, rollouts, begin, ids, device)
    numbers = run_targets(args, experiment, readings)
    write_json(run.dir / "numbers.json", numbers)
    draw_run(run.dir, numbers)
    draw_priors(experiment, run.dir / "priors.png")
    run.finish({"targets": list(numbers["targets"])})
    log_results(numbers, run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for sizes and weights out of range."""
    sizes = (
        "num_sim_steps",
        "num_starts",
        "start_pool",
        "num_iterations",
        "num_rollouts",
        "eval_every",
        "eval_rollouts",
    )
    check_least(args, **dict.fromkeys(sizes, 1), report_rollouts=1, num_moments=1, num_shown=1, batch_size=1)
    for name in ("lr", "grad_clip_norm", "fps"):
        if not 0 < getattr(args, name) < math.inf:
            raise UsageError(f"--{name} is {getattr(args, name)}: give a number above 0")
    for name in ("prior_weight", "diversity", "latent_noise"):
        if not 0 <= getattr(args, name) < math.inf:
            raise UsageError(f"--{name} is {getattr(args, name)}: give 0 or more")


def find_targets(args: Args, simulator: Simulator, meta: dict, rollouts: Rollouts) -> list[Target]:
    """The targets that the flags name."""
    agent_id, width = file_id(args.agent_file), simulator.agent.core.state_size
    directions = load_by_kind(args.direction_files, width, agent_id)
    places = read_clusters(args.clusters_dir, agent_id) | moments_place(rollouts, args.moments)
    functions = known_functions(action_space_of(meta), directions, width)
    return choose_targets(args.targets, functions, places)


def start_run(args: Args, rollouts: Rollouts, device) -> Run:
    """Finds or starts the run of these flags; inputs count by content, not by path."""
    inputs = {name: file_id(getattr(args, name)) for name in ("world_model_file", "agent_file")}
    inputs["data_dir"] = rollouts.id
    inputs |= {f"directions_{i}": file_id(path) for i, path in enumerate(args.direction_files)}
    if args.clusters_dir:
        inputs["clusters_dir"] = args.clusters_dir.resolve().name
    if args.start_latents:
        inputs["start_latents"] = file_id(args.start_latents)
    asked = {name: value for name, value in vars(args).items() if name not in FILES}
    precision = choose_precision(args.precision, device)
    return open_run(args.out_dir, f"seed_{args.seed}", asked, args.new, inputs, precision=precision)


def run_targets(args: Args, experiment: Experiment, readings: dict[Target, Reading]) -> dict:
    """Computes and draws every target; returns the numbers of the run."""
    cost = sum(experiment.cost(reading) for reading in readings.values())
    numbers = run_numbers(experiment)
    with progress_bar(total=cost, unit="step", unit_scale=True) as bar:
        for target, reading in readings.items():
            bar.set_description(target.name)
            parts = TargetRun(experiment, target, reading, bar.update).parts()
            numbers["targets"][target.name] = target_results(experiment, target, reading, parts)
            draw_target(args, experiment, target, reading, parts)
    return numbers


def draw_target(args: Args, experiment: Experiment, target: Target, reading: Reading, parts: dict) -> None:
    """Writes the video and the film strips of a target."""
    clips = make_clips(experiment, target, reading, parts)
    path = experiment.run.dir / target.file_name
    write_clips(clips, path.with_name(f"{path.name}.mp4"), args.num_shown, args.fps)
    draw_strips(clips, parts["levels"]["start"], path.with_name(f"{path.name}_strip.png"))


if __name__ == "__main__":
    run_main(main, ARGS)
