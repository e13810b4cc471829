"""Records simulated rollouts: the agent plays in its world model, from recorded or random starts. The same command again resumes."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.actor_critic import load_agent
from common.cli import run_script
from common.runs import UsageError, choose_device, file_id
from generative.compatibility import check_store
from generative.record import InformedStart, RandomStart, Sampling, record_samples
from generative.simulator import load_simulator
from rollouts.store import Rollouts

OUTPUT = Path("generative/rec_gen_mod_data")


@dataclass
class Args:
    model_file: Path
    """The world model."""
    agent_file: Path
    """The agent that acts in it."""
    data_dir: Path = Path("data")
    """Store of real rollouts that informed samples begin from; not read with --rand_init."""
    rand_init: bool = False
    """Begin from latents drawn from N(0, I) in place of recorded frames."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["--samples-to-record"])] = 200
    """How many simulated episodes to record."""
    num_sim_steps: int = 32
    """The longest a simulated episode may be."""
    batch_size: int = 64
    """Episodes simulated together, and episodes per shard."""
    sampling: Literal["stochastic", "modal"] = "stochastic"
    """Draw latents, environment states and ends from their distributions, or take the likeliest of each."""
    greedy: bool = False
    """The agent takes its likeliest action in place of drawing one."""
    off_agent: bool = False
    """Let an agent act that the world model was not trained with. It starts from its own initial state."""
    generated_data_dir: Path | None = None
    """The store to write; by default generative/rec_gen_mod_data/informed_init or .../rand_init."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


def main(args: Args) -> None:
    for name in ("num_samples", "num_sim_steps", "batch_size"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}: there is nothing to record; give 1 or more")
    device = choose_device(args.device, args.gpu_device)
    simulator, meta = load_simulator(args.model_file, args.agent_file, args.off_agent, device)
    sampling = Sampling(args.num_samples, args.num_sim_steps, args.batch_size, args.seed, args.sampling == "modal", args.greedy)
    rollouts = None if args.rand_init else open_real(args)
    start = RandomStart(simulator, sampling) if rollouts is None else InformedStart(simulator, rollouts, sampling)
    path = args.generated_data_dir or OUTPUT / ("rand_init" if args.rand_init else "informed_init")
    agent_id = file_id(args.agent_file)
    manifest = {
        "num_actions": simulator.agent.num_actions, "action_names": meta["action_names"], "noop": meta["noop"],
        "hidden_size": simulator.agent.core.state_size, "obs_shape": simulator.model.config.obs_shape, "env": meta["env"],
        "simulated": True, "sampling": sampling, "off_agent": not simulator.own_agent,
        "inputs": {"model_file": file_id(args.model_file), "agent_file": agent_id, "data_dir": rollouts.id if rollouts else None},
    }  # fmt: skip
    record_samples(simulator, start, sampling, path, manifest, agent_id, device)
    logging.info("%d simulated episodes in %s", args.num_samples, path)


def open_real(args: Args) -> Rollouts:
    """The store that informed samples begin from. Raises UsageError when it is not the agent's."""
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts, *load_agent(args.agent_file), args.agent_file)
    return rollouts


if __name__ == "__main__":
    run_script(main, tyro.cli(Args, description=__doc__))
