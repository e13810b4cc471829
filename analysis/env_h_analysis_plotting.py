"""Draws the map of the world model's environment states: colourings, episode paths, clusters and numbers.

Reads only what analysis/env_h_analysis_precompute.py wrote.
"""

from analysis.io.shared_args import MapPlotArgs
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(MapPlotArgs, __doc__)

from analysis.maps.simulated_state_pages import draw_page
from analysis.maps.simulated_state_steps import ENV_H

if __name__ == "__main__":
    run_main(lambda args: draw_page(ENV_H, args), ARGS)
