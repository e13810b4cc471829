"""Behaviours: clusters of moments by the states of agent and environment and by how both change over the next
steps.

The commonest cluster of an episode's first moments is its behaviour. Draw the artefacts with
analysis/combined_agent_env_hx_analysis_plotting.py.
"""

from dataclasses import dataclass

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main


@dataclass
class Args(MapArgs):
    moments: int = 4
    """Moments of each episode, from step --begin on."""
    ahead: tuple[int, ...] = (2, 4, 6)
    """The changes that count are those over so many steps."""
    env_components: int = 16
    """Principal components of the environment's state that stand for it."""
    components: int = 64
    """Principal components of all of it on which moments are clustered and mapped, at most."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.maps.joint_states import environment_axes, joined, moments_with, principal_scores
from analysis.maps.simulated_state_maps import Points, map_step
from analysis.maps.simulated_state_steps import COMBINED
from analysis.maps.step_fields import scores
from common.runs import UsageError


def main(args: Args) -> None:
    if args.moments < 1 or not args.ahead or min(args.ahead) < 1:
        raise UsageError("behaviours need --moments 1 and --ahead 1, or more of each")

    def make(args, run, rollouts, kept, states):
        axes, numbers = environment_axes(run, rollouts, kept, args.begin, args.env_components, args.seed)
        rows = moments_with(states, args.begin, max(args.ahead), args.moments)
        blocks = {"agent": states.x, "environment": scores(rollouts, "env_state", axes, kept)}
        vectors = joined(blocks, rows, args.ahead)
        points, held = principal_scores(run, "joint_axes", vectors, args.components)
        return Points(points, rows, vectors, numbers | held)

    map_step(
        COMBINED,
        args,
        make,
        ahead=max(args.ahead),
        most=args.moments,
        components=("env_components", "components"),
    )


if __name__ == "__main__":
    run_main(main, ARGS)
