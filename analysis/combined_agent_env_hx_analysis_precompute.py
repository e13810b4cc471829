"""Behaviours: clusters of steps by the states of agent and environment and by how both change afterwards.

An episode's behaviour is the most common cluster of its first steps. Draw the artefacts with
analysis/combined_agent_env_hx_analysis_plotting.py.
"""

from dataclasses import dataclass

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main


@dataclass
class Args(MapArgs):
    steps_per_episode: int = 4
    """Steps of each episode that are clustered, from step --start_step on."""
    change_lags: tuple[int, ...] = (2, 4, 6)
    """Lags, in steps, over which the changes of the states are taken."""
    env_components: int = 16
    """Principal components of the environment state that enter the joint state."""
    components: int = 64
    """Largest number of principal components of the joint state that clusters and maps are fit on."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.maps.joint_states import (
    environment_axes,
    joint_vectors,
    principal_scores,
    rows_with_future,
)
from analysis.maps.simulated_state_maps import Points, StepSelection, run_map_step
from analysis.maps.simulated_state_steps import COMBINED
from analysis.maps.step_fields import direction_scores
from common.runs import UsageError


def main(args: Args) -> None:
    if args.steps_per_episode < 1:
        raise UsageError(f"--steps_per_episode is {args.steps_per_episode}: give 1 or more")
    if not args.change_lags or min(args.change_lags) < 1:
        raise UsageError("--change_lags needs one lag or more, each of 1 or more steps")
    ahead = max(args.change_lags)

    def make_points(args, run, rollouts, mask, states) -> Points:
        axes, numbers = environment_axes(run, rollouts, mask, args.start_step, args.env_components, args.seed)
        rows = rows_with_future(states, args.start_step, ahead, args.steps_per_episode)
        environment = direction_scores(rollouts, "env_state", axes, mask)
        vectors = joint_vectors({"agent": states.x, "environment": environment}, rows, args.change_lags)
        points, variance = principal_scores(run, "joint_axes", vectors, args.components)
        return Points(points, rows, vectors, numbers | variance)

    selection = StepSelection(ahead, args.steps_per_episode, ("env_components", "components"))
    run_map_step(COMBINED, args, make_points, selection)


if __name__ == "__main__":
    run_main(main, ARGS)
