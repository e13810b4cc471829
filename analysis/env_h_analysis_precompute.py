"""Principal components, clusters and maps of a world model's environment states.

Reads a store of simulated rollouts in chunks, so that states of any width fit in memory. Draw the artefacts
with analysis/env_h_analysis_plotting.py.
"""

from dataclasses import dataclass

from analysis.io.shared_args import MapArgs
from common.cli import parse, run_main


@dataclass
class Args(MapArgs):
    clusters: int = 128
    """Number of k-means clusters."""
    components: int = 128
    """Largest number of principal components that clusters and maps are fit on."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.maps.joint_states import environment_axes, random_features, rows_with_future
from analysis.maps.simulated_state_maps import Points, StepSelection, run_map_step
from analysis.maps.simulated_state_steps import ENV_H
from analysis.maps.step_fields import direction_scores


def main(args: Args) -> None:
    def make_points(args, run, rollouts, mask, states) -> Points:
        axes, numbers = environment_axes(run, rollouts, mask, args.start_step, args.components, args.seed)
        rows = rows_with_future(states, args.start_step)
        scores = direction_scores(rollouts, "env_state", axes, mask)[rows]
        return Points(scores, rows, random_features(rollouts, mask, args.seed)[rows], numbers)

    run_map_step(ENV_H, args, make_points, StepSelection(components=("components",)))


if __name__ == "__main__":
    run_main(main, ARGS)
