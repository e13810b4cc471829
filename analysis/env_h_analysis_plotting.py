"""Draws the map of a simulator's environment states: colourings, paths, clusters and numbers.

Reads what analysis/env_h_analysis_precompute.py wrote, and nothing else.
"""

from analysis.state_map_plots import PlotArgs, draw_step
from analysis.state_steps import ENV_H
from common.cli import run_script

if __name__ == "__main__":
    run_script(lambda args: draw_step(ENV_H, args), PlotArgs, __doc__)
