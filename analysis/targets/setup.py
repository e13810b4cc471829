"""The experiment that the flags of target_function_exps.py ask for."""

from pathlib import Path

import torch

from analysis.targets.experiment import Begin, Experiment, Sizes
from analysis.targets.target_run import LATENTS
from common.checkpoints import load_checkpoint
from common.progress import progress_bar
from common.runs import Run, UsageError
from generative.simulator import Simulator
from generative.starts import InformedStarts, check_start_count
from interpret.targets.latent_optimisation import OptimisationConfig
from interpret.targets.recorded_moments import RecordedMoments, make_prior, read_moments, recorded_windows
from rollouts.store import Rollouts


def make_experiment(
    args,
    run: Run,
    simulator: Simulator,
    rollouts: Rollouts,
    begin: Begin,
    ids: dict[str, str],
    device: torch.device,
) -> Experiment:
    """The experiment, with recorded moments read and the prior fit.

    Raises:
        UsageError: for too few moments or levels.
    """
    moments = read_all_moments(args, simulator, rollouts, device)
    prior = make_prior(args.prior, moments, simulator.model, args.seed)
    recorded = InformedStarts(simulator, rollouts, args.seed)
    check_start_count(recorded, args.num_starts)
    names = vars(args)
    config = {name: names[name] for name in OptimisationConfig.__dataclass_fields__}
    sizes = {name: names[name] for name in Sizes.__dataclass_fields__}
    return Experiment(
        run, simulator, prior, recorded, moments, begin,
        OptimisationConfig(**config), Sizes(**sizes),
        args.seed, args.detach_agent, args.detach_actions, ids,
    )  # fmt: skip


def read_all_moments(args, simulator: Simulator, rollouts: Rollouts, device) -> RecordedMoments:
    """The --num_moments recorded moments."""
    windows = recorded_windows(rollouts, simulator.model, args.num_sim_steps, args.num_moments, args.seed)
    with progress_bar(total=len(windows), unit="moment", desc="recorded moments", leave=False) as bar:
        return read_moments(simulator, windows, args.batch_size, device, bar.update)


def choose_begin(args, ids: dict[str, str], device: torch.device) -> Begin:
    """Where optimisations begin.

    Raises:
        UsageError: for flags that contradict each other, and for stored latents of another world model.
    """
    if args.start_latents is None:
        return Begin(args.num_starts, args.start_pool, "random" if args.rand_init else "recorded")
    if args.rand_init:
        raise UsageError("--start_latents and --rand_init each say where to begin: give one of them")
    z = read_latents(args.start_latents, ids["world_model_file"]).to(device)
    return Begin(len(z), 1, "recorded", z)


def read_latents(path: Path, world_model_id: str) -> torch.Tensor:
    """The optimised latents [N, Z] of an earlier run.

    Raises:
        UsageError: the file holds something else, or latents of another world model.
    """
    tensors, facts = load_checkpoint(path)
    if facts.get("kind") != LATENTS:
        raise UsageError(
            f"{path} holds no optimised latents; give results/targets/<run>/<target>.safetensors of an "
            "earlier run"
        )
    if facts.get("world_model_file") != world_model_id:
        raise UsageError(
            f"{path} holds latents of world model {facts.get('world_model_file')}, and this is "
            f"{world_model_id}; they mean nothing to it: give that model"
        )
    return tensors["optimised"]
