"""Sections of the demo's report on the agents and the recording."""

import json
from pathlib import Path

from analysis.demo_report.clips import MAX_STEPS, write_agents_clip
from analysis.demo_report.demo_results import DemoResults
from analysis.plotting.page import Page
from analysis.plotting.style import save_figure
from analysis.training_curves.curves import find_runs, join_runs, load_run
from analysis.training_curves.figures import draw_returns
from common.checkpoints import load_checkpoint
from common.words import with_interval
from rollouts.store import Rollouts

CLIP_LEVELS = (250, 251, 252)
"""Levels of the agents' clips: unseen by agents trained on the levels 0-199."""
OUTCOMES = ("solved", "died", "timed out")


def add_agents(page: Page, results: DemoResults, out: Path) -> None:
    """Training curves, scores and clips of the agents."""
    paths = [results.own_agent.parent] + ([results.agent_file.parent.parent] if results.shipped else [])
    runs = join_runs([load_run(directory) for directory in find_runs(paths)])
    longest = max(run.last_step for run in runs)
    steps = load_checkpoint(results.own_agent)[1]["timesteps"]
    page.text(f"The demo's agent has trained for {steps:,} steps: enough to show that training runs.")
    if results.shipped:
        page.text(
            "All further results are about the shipped agent, trained with the same script for "
            f"{longest / 1e6:.1f} million steps."
        )
    page.picture(
        save_figure(draw_returns(runs, longest / 30), out / "curves")[0],
        "Return against environment steps, with the published feed-forward curve if there is one.",
    )
    page.table(["agent", "levels", "mean return", *OUTCOMES, "n"], score_rows(results))
    page.clips(_clips(results, out))


def score_rows(results: DemoResults) -> list[list[str]]:
    """One row per agent and range of levels."""
    rows = []
    for agent, scores in results.scores.items():
        for levels, path in scores.items():
            group = json.loads(path.read_text())["groups"]["all"]
            outcomes = (with_interval(*group[outcome], ".0%") for outcome in OUTCOMES)
            n = f"{group['episodes']} episodes, {group['levels']} levels"
            rows.append([agent, levels, with_interval(*group["return"]), *outcomes, n])
    return rows


def _clips(results: DemoResults, out: Path) -> list[tuple[Path, str]]:
    agents = {"the demo's agent": results.own_agent}
    if results.shipped:
        agents["shipped agent"] = results.agent_file
    clips = []
    for level in CLIP_LEVELS:
        path = write_agents_clip(agents, results.env_name, level, out / f"agents_{level}.mp4")
        clips.append((path, f"Unseen level {level}, at most {MAX_STEPS} steps; dark: the episode has ended."))
    return clips


def add_recording(page: Page, results: DemoResults, out: Path) -> None:
    """Size and levels of the store of real rollouts."""
    real = Rollouts.open(results.recording)
    size = sum(path.stat().st_size for path in real.path.iterdir())
    levels = real.episodes["level_seed"]
    page.text(
        "The agent plays levels it was not trained on. All further results are computed from this store."
    )
    header = ["episodes", "levels", "steps", "mean length", "bytes per step", "id"]
    row = [
        len(real),
        f"{levels.min():,}-{levels.max():,}",
        f"{real.num_steps:,}",
        f"{real.episodes['length'].mean():.0f}",
        f"{size / real.num_steps:.0f}",
        real.id,
    ]
    page.table(header, [row])
