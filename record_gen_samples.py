"""Records simulated rollouts of the agent, or of given actions, from recorded or random starting points.

The same command again resumes.
"""

import logging
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName


@dataclass
class Args:
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model."""
    agent_file: Path
    """The agent that acts in it."""
    data_dir: Path = Path("data")
    """Store of real rollouts that simulations start from; not read with --rand_init."""
    rand_init: bool = False
    """Start from random latents instead of recorded frames."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["--samples_to_record"])] = 200
    """How many simulated episodes to record; with --action_grid, how many starting points."""
    num_sim_steps: int = 32
    """Longest simulated episode, in steps."""
    batch_size: int = 64
    """Episodes simulated together, and episodes per shard."""
    sampling: Literal["stochastic", "modal"] = "stochastic"
    """Sample latents, environment states and ends, or take the mode of each."""
    greedy: bool = False
    """The agent takes its most likely action instead of sampling."""
    manual_actions: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--manual_action"])] = ()
    """Names of actions to take in turn, repeating, instead of the agent's, which still sees every frame."""
    action_grid: bool = False
    """From each starting point, one episode for each action with a distinct effect, held throughout, and a
    video of them side by side.
    """
    env_state: Literal["float16", "float32", "none"] = "float16"
    """Dtype of the stored deterministic state of the environment, the largest field."""
    allow_other_agent: bool = False
    """Accept an agent that the world model was not trained with; it starts from its own initial state."""
    out_dir: Annotated[Path | None, tyro.conf.arg(aliases=("--generated_data_dir", "--data_save_dir"))] = None
    """The store to write; by default results/simulated/ informed_init, rand_init or manual_actions."""
    seed: int = 0
    """Seed of everything random."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.rendering.action_grid import write_grids
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from common.words import counted
from envs.vecenv import ActionSpace
from generative.record import Sampling, record_samples
from generative.sim_env import action_space_of
from generative.simulator import load_simulator
from generative.starts import InformedStarts, RandomStarts, open_agent_rollouts
from rollouts.growth import extent
from rollouts.store import Rollouts, recorded_precision

OUTPUT = Path("results/simulated")


def main(args: Args) -> None:
    for name in ("num_samples", "num_sim_steps", "batch_size"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}: there is nothing to record; give 1 or more")
    device = choose_device(args.device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, args.allow_other_agent, device)
    actions = action_space_of(meta)
    sampling = sampling_of(args, actions)
    kind = "manual_actions" if sampling.manual else "rand_init" if args.rand_init else "informed_init"
    path = args.out_dir or OUTPUT / kind
    room = extent(path, "sampling", "num_samples", sampling.num_samples, sampling.batch_size)
    sampling = replace(sampling, num_samples=room.total, grown_from=room.grown_from)
    rollouts = None if args.rand_init else open_agent_rollouts(args.data_dir, args.agent_file)
    starts = (
        RandomStarts(simulator)
        if rollouts is None
        else InformedStarts(simulator, rollouts, sampling.seed, sampling.use_mode)
    )
    precision = choose_precision(args.precision, device).keep(recorded_precision(path), path)
    set_precision(precision, simulator.model, simulator.agent)
    agent_id = file_id(args.agent_file)
    manifest = {
        "num_actions": simulator.agent.num_actions,
        "action_names": actions.names,
        "noop": actions.noop,
        "hidden_size": simulator.agent.core.state_size,
        "obs_shape": simulator.model.config.obs_shape,
        "env": meta["env"],
        "simulated": True,
        "precision": precision,
        "sampling": sampling.values(),
        "allow_other_agent": not simulator.own_agent,
        "inputs": {
            "world_model_file": file_id(args.world_model_file),
            "agent_file": agent_id,
            "data_dir": rollouts.id if rollouts else None,
        },
    }
    if not record_samples(simulator, starts, sampling, path, manifest, agent_id, device):
        has = f"has {counted(room.there, 'episode')} already" if room.there else "is done"
        logging.info("%s %s; another --out_dir makes another", path, has)
    if args.action_grid:
        write_grids(Rollouts.open(path), [actions.names[action] for action in sampling.manual])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    logging.info(
        "%s in %s; %.1f GiB of memory at most", counted(sampling.num_samples, "simulated episode"), path, peak
    )


def sampling_of(args: Args, actions: ActionSpace) -> Sampling:
    """What the flags ask for. Raises UsageError for an action that there is not, and for flags that
    contradict each other.
    """
    unknown = [name for name in args.manual_actions if name not in actions.names]
    if unknown:
        raise UsageError(f"no action {unknown[0]!r} here; choose from: {', '.join(actions.names)}")
    if sum(map(bool, (args.manual_actions, args.action_grid, args.greedy))) > 1:
        raise UsageError(
            "--manual_actions, --action_grid and --greedy each say who chooses the actions; give one of them"
        )
    manual = (
        tuple(sorted(set(actions.effect_classes)))
        if args.action_grid
        else tuple(actions.names.index(name) for name in args.manual_actions)
    )
    samples = args.num_samples * (len(manual) if args.action_grid else 1)
    modal = args.sampling == "modal"
    return Sampling(
        samples,
        args.num_sim_steps,
        args.batch_size,
        args.seed,
        modal,
        args.greedy,
        manual,
        args.action_grid,
        args.env_state,
    )


if __name__ == "__main__":
    run_main(main, ARGS)
