"""The demo's report: one self-contained page, drawn from the demo's artefacts."""

import logging
from collections.abc import Callable
from pathlib import Path

from analysis.demo_report.agent_section import add_agents, add_recording
from analysis.demo_report.decision_section import add_decision
from analysis.demo_report.deletion_section import add_deletions
from analysis.demo_report.demo_results import DemoResults
from analysis.demo_report.gradient_section import add_gradients
from analysis.demo_report.map_section import add_hidden_map
from analysis.demo_report.model_section import add_clips, add_world_models
from analysis.demo_report.probe_section import add_probes
from analysis.demo_report.push_section import add_push
from analysis.demo_report.saliency_section import add_saliency
from analysis.demo_report.target_section import add_targets
from analysis.demo_report.truth_section import add_saliency_truth
from analysis.plotting.page import Page
from common.progress import progress_bar

SECTIONS: dict[str, Callable[[Page, DemoResults, Path], None]] = {
    "The agents": add_agents,
    "The recording": add_recording,
    "The world models": add_world_models,
    "Game and simulation, side by side": add_clips,
    "A map of the agent's hidden states": add_hidden_map,
    "Concepts decoded from hidden states": add_probes,
    "Gradients of the value": add_gradients,
    "Saliency maps through the simulator": add_saliency,
    "Saliency maps and objects deleted in the game": add_saliency_truth,
    "Latents optimised for what the agent does": add_targets,
    "A direction pushed in the game and in the simulator": add_push,
    "A Decision Transformer on the agent's levels": add_decision,
    "Hazards deleted in the game and in the simulator": add_deletions,
}
SMALL_N = (
    "Small n: in the time that it was given this machine computes little, so that intervals are wide, means "
    "over fewer than five levels have none, and rare cases are missing. Raise --minutes, and give another "
    "--out_dir, for more."
)


def write_report(results: DemoResults, out: Path) -> Path:
    """Draws figures and clips into `out/report` and writes `out/report.html`. Returns its path."""
    page = Page(f"Worldlens: {results.env_name}, end to end")
    figures = out / "report"
    figures.mkdir(parents=True, exist_ok=True)
    page.text(
        "An agent, its recordings, a world model with the agent in the loop, simulated rollouts, and nine "
        "analyses. Every number has its n; brackets and bands are 95% intervals, bootstrapped by level. Real "
        "is solid blue, simulated dashed orange, baselines are grey."
    )
    if results.small_n:
        page.text(SMALL_N, note=True)
    for name, add_section in progress_bar(SECTIONS.items(), unit="section", desc="report"):
        logging.info("report: %s", name)
        page.heading(name)
        add_section(page, results, figures)
    page.write(out / "report.html")
    return out / "report.html"
