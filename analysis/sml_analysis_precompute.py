"""The whole sensorimotor loop at each simulated step: what the agent sees, both states and the choice, in one
space.

Clusters are found twice, of the moments and of the moments with their change to the next step. Draw the
artefacts with analysis/sml_analysis_plotting.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main


@dataclass
class Args(MapArgs):
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that acts in the store: its encoder says what it sees."""
    num_episodes: int = 1000
    """Episodes, drawn at random; all where there are no more."""
    clusters: int = 64
    """How many clusters."""
    env_components: int = 64
    """Principal components of the environment's state that stand for it."""
    components: int = 128
    """Principal components of the loop on which moments are clustered and mapped, at most."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the encoder: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import load_agent
from analysis.maps.joint_states import environment_axes, joined, moments_with, principal_scores
from analysis.maps.simulated_state_maps import Points, map_step
from analysis.maps.simulated_state_steps import SML
from analysis.maps.step_fields import pieces, scores
from common.precision import choose_precision, set_precision
from common.runs import UsageError, file_id
from rollouts.store import Rollouts


def main(args: Args) -> None:
    agent_id = file_id(args.agent_file)

    def make(args, run, rollouts, kept, states):
        if (rollouts.episodes["policy_id"] != agent_id).any():
            acts = rollouts.episodes["policy_id"][0]
            raise UsageError(
                f"{rollouts.path} is of agent {acts}, not {args.agent_file} ({agent_id}): give the one that acts in it"
            )
        axes, numbers = environment_axes(run, rollouts, kept, args.begin, args.env_components, args.seed)
        rows = moments_with(states, args.begin, 1)
        logits = states.columns["logits"]
        blocks = {
            "seen": seen(args.agent_file, rollouts, kept, run.precision),
            "environment": scores(rollouts, "env_state", axes, kept),
            "agent": states.x,
            "choice": torch.from_numpy(logits).log_softmax(-1).numpy(),
        }
        vectors = joined(blocks, rows)
        points, held = principal_scores(run, "joint_axes", vectors, args.components)
        moving, changes = principal_scores(run, "moving_axes", joined(blocks, rows, (1,)), args.components)
        return Points(points, rows, vectors, numbers | held | changes, {"moving": moving})

    precision = choose_precision(args.precision, "cpu")
    map_step(
        SML,
        args,
        make,
        {"agent_file": agent_id},
        ahead=1,
        components=("env_components", "components"),
        precision=precision,
    )


def seen(agent_file: Path, rollouts: Rollouts, kept: np.ndarray, precision: str) -> np.ndarray:
    """What the agent's encoder makes of the frames of the kept steps: [n, F]."""
    agent = load_agent(agent_file)[0]
    set_precision(precision, agent)
    with torch.no_grad():
        return np.concatenate(
            [
                agent.encoder(torch.from_numpy(piece)).float().numpy()
                for piece in pieces(rollouts, "obs", kept)
            ]
        )


if __name__ == "__main__":
    run_main(main, ARGS)
