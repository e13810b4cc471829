"""The sensorimotor loop: encoder output, both states and the policy of each simulated step, in one space.

Steps are clustered twice: by the joint state, and by the joint state with its change to the next step. Draw
the artefacts with analysis/sml_analysis_plotting.py.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main
from common.shared_flags import PrecisionName


@dataclass
class Args(MapArgs):
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that acts in the store; its encoder is applied to the frames."""
    num_episodes: int = 1000
    """Episodes, sampled at random; all if the store has fewer."""
    clusters: int = 64
    """Number of k-means clusters."""
    env_components: int = 64
    """Principal components of the environment state that enter the joint state."""
    components: int = 128
    """Largest number of principal components of the joint state that clusters and maps are fit on."""
    precision: PrecisionName = "auto"


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import load_agent
from analysis.maps.joint_states import (
    environment_axes,
    joint_vectors,
    principal_scores,
    rows_with_future,
)
from analysis.maps.simulated_state_maps import Points, StepSelection, run_map_step
from analysis.maps.simulated_state_steps import SML
from analysis.maps.step_fields import direction_scores, field_chunks
from common.precision import choose_precision, set_precision
from common.runs import UsageError, file_id
from rollouts.store import Rollouts


def main(args: Args) -> None:
    agent_id = file_id(args.agent_file)

    def make_points(args, run, rollouts, mask, states) -> Points:
        check_agent(rollouts, args.agent_file, agent_id)
        axes, numbers = environment_axes(run, rollouts, mask, args.start_step, args.env_components, args.seed)
        rows = rows_with_future(states, args.start_step, 1)
        logits = torch.from_numpy(states.columns["logits"])
        blocks = {
            "encoder": encoder_output(args.agent_file, rollouts, mask, run.precision),
            "environment": direction_scores(rollouts, "env_state", axes, mask),
            "agent": states.x,
            "policy": logits.log_softmax(-1).numpy(),
        }
        vectors = joint_vectors(blocks, rows)
        points, variance = principal_scores(run, "joint_axes", vectors, args.components)
        moving, moving_variance = principal_scores(
            run, "moving_axes", joint_vectors(blocks, rows, (1,)), args.components
        )
        return Points(points, rows, vectors, numbers | variance | moving_variance, {"moving": moving})

    selection = StepSelection(1, components=("env_components", "components"))
    precision = choose_precision(args.precision, "cpu")
    run_map_step(SML, args, make_points, selection, {"agent_file": agent_id}, precision)


def check_agent(rollouts: Rollouts, agent_file: Path, agent_id: str) -> None:
    """Raises UsageError unless the agent acts in all episodes of the store."""
    policies = rollouts.episodes["policy_id"]
    if (policies != agent_id).any():
        raise UsageError(
            f"{rollouts.path} is of agent {policies[0]}, not {agent_file} ({agent_id}): give the agent that "
            "acts in it"
        )


def encoder_output(agent_file: Path, rollouts: Rollouts, mask: np.ndarray, precision: str) -> np.ndarray:
    """Output [n, F] of the agent's encoder on the frames of the masked steps."""
    agent = load_agent(agent_file)[0]
    set_precision(precision, agent)
    with torch.no_grad():
        chunks = (torch.from_numpy(chunk) for chunk in field_chunks(rollouts, "obs", mask))
        return np.concatenate([agent.encoder(chunk).float().numpy() for chunk in chunks])


if __name__ == "__main__":
    run_main(main, ARGS)
