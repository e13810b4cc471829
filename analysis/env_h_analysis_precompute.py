"""The structure of a simulator's environment states: principal axes, clusters and flat maps, with what
happened at each step.

Reads a store of simulated rollouts, however wide its states, in pieces. Draw the artefacts with
analysis/env_h_analysis_plotting.py.
"""

from dataclasses import dataclass

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main


@dataclass
class Args(MapArgs):
    clusters: int = 128
    """How many clusters."""
    components: int = 128
    """Principal components on which states are clustered and mapped, at most."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.maps.joint_states import environment_axes, moments_with, some_features
from analysis.maps.simulated_state_maps import Points, map_step
from analysis.maps.simulated_state_steps import ENV_H
from analysis.maps.step_fields import scores


def main(args: Args) -> None:
    def make(args, run, rollouts, kept, states):
        axes, numbers = environment_axes(run, rollouts, kept, args.begin, args.components, args.seed)
        rows = moments_with(states, args.begin)
        return Points(
            scores(rollouts, "env_state", axes, kept)[rows],
            rows,
            some_features(rollouts, kept, args.seed)[rows],
            numbers,
        )

    map_step(ENV_H, args, make, components=("components",))


if __name__ == "__main__":
    run_main(main, ARGS)
