"""Draws the map of the sensorimotor loop: colourings, paths, clusters and numbers.

Reads what analysis/sml_analysis_precompute.py wrote, and nothing else.
"""

from analysis.state_map_plots import PlotArgs, draw_step
from analysis.state_steps import SML
from common.cli import run_script

if __name__ == "__main__":
    run_script(lambda args: draw_step(SML, args), PlotArgs, __doc__)
