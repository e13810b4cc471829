"""Draws the map of behaviours: colourings, paths, clusters and numbers.

Reads what analysis/combined_agent_env_hx_analysis_precompute.py wrote, and nothing else.
"""

from analysis.state_map_plots import PlotArgs, draw_step
from analysis.state_steps import COMBINED
from common.cli import run_script

if __name__ == "__main__":
    run_script(lambda args: draw_step(COMBINED, args), PlotArgs, __doc__)
