"""Flags of the scripts that record simulated rollouts. Imports nothing slow, so that --help answers soon."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.shared_flags import ALONE, SEED_MODEL_FILE, Device, JobFlag, LogLevel, PrecisionName
from interpret.interventions.flags import EditFlags


@dataclass
class GenSamplesArgs:
    """Flags of every script that records simulated rollouts."""

    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model."""
    agent_file: Path
    """The agent that acts in it."""
    data_dir: Path = Path("data")
    """Store of real rollouts that simulations start from."""
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
    job: JobFlag = ALONE
    env_state: Literal["float16", "float32", "none"] = "float16"
    """Dtype of the stored deterministic state of the environment, the largest field."""
    allow_other_agent: bool = False
    """Accept an agent that the world model was not trained with; it starts from its own initial state."""
    out_dir: Annotated[Path | None, tyro.conf.arg(aliases=("--generated_data_dir", "--data_save_dir"))] = None
    """The store to write; by default results/simulated/ informed_init, rand_init, manual_actions or edited.
    """
    edit: tyro.conf.OmitArgPrefixes[EditFlags] = field(default_factory=EditFlags)
    """Edits of the agent's hidden state."""
    seed: int = 0
    """Seed of everything random."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO
