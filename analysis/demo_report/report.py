"""The demo's report: what the line made, from its artefacts alone, as one self-contained page."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from analysis.demo_report.clips import (
    LONGEST,
    source,
    write_agents,
    write_random,
    write_worlds,
)
from analysis.demo_report.deletion import deletions
from analysis.demo_report.demo_results import Artefacts, score_in_words
from analysis.demo_report.figures import draw_psnr, psnr_limits
from analysis.demo_report.sections import gradients, hidden_map, probes
from analysis.io.artefacts import part
from analysis.model_eval.eval_windows import draw_windows
from analysis.model_eval.frame_scores import (
    BASELINES,
    compute_mean_frame,
    frame_errors,
    frame_scores,
    replay_cameras,
)
from analysis.plotting.page import Page
from analysis.plotting.style import save_figure
from analysis.training_curves.curves import find_runs, joined, load_run
from analysis.training_curves.figures import draw_returns
from common.checkpoints import load_checkpoint
from common.progress import progress_bar
from common.runs import Run, file_id, key_of
from generative.simulator import load_simulator
from rollouts.store import Rollouts

STEPS = 12
SHOWN_STEPS = (0, 1, 5, 10)
SHOWN_CLIPS = 3
FIRST_LEVELS = (250, 251, 252)
"""Of the clips of agents: unseen by agents trained on the levels 0-199."""


def build(made: Artefacts, out: Path) -> Path:
    """Draws the figures and clips into `out/report` and writes `out/report.html`. Returns its path."""
    page = Page(f"Worldlens: {made.env_name}, end to end")
    figures = out / "report"
    figures.mkdir(parents=True, exist_ok=True)
    page.text(
        "An agent, its recordings, a world model with the agent inside, simulated rollouts, and four "
        "looks inside. Every number has its n; "
        "brackets and bands are 95% intervals, bootstrapped by level. Real is solid blue, simulated "
        "dashed orange, baselines are grey."
    )
    for name, section in progress_bar(SECTIONS.items(), unit="section", desc="report"):
        logging.info("report: %s", name)
        page.heading(name)
        section(page, made, figures)
    page.write(out / "report.html")
    return out / "report.html"


def _agents(page: Page, made: Artefacts, out: Path) -> None:
    paths = [made.own_agent.parent] + ([made.agent_file.parent.parent] if made.shipped else [])
    runs = joined([load_run(directory) for directory in find_runs(paths)])
    picture = save_figure(draw_returns(runs, max(run.last_step for run in runs) / 30), out / "curves")[0]
    steps = load_checkpoint(made.own_agent)[1]["timesteps"]
    page.text(
        f"The demo's agent has trained for {steps:,} steps: it shows that training runs, not what "
        f"training reaches."
    )
    if made.shipped:
        longest = max(run.last_step for run in runs) / 1e6
        page.text(
            f"All that follows is about the shipped agent, trained by the same script for {longest:.1f} "
            f"million steps."
        )
    page.picture(
        picture,
        "Return against environment steps, with the published feed-forward curve behind where one is known.",
    )
    rows = []
    for who, scores in made.scores.items():
        for levels, path in scores.items():
            group = json.loads(path.read_text())["groups"]["all"]
            shares = (
                f"{group[outcome][0]:.0%} [{group[outcome][1]:.0%}, {group[outcome][2]:.0%}]"
                for outcome in ("solved", "died", "timed out")
            )
            value, low, high = group["return"]
            rows.append(
                [
                    who,
                    levels,
                    f"{value:.2f} [{low:.2f}, {high:.2f}]",
                    *shares,
                    f"{group['episodes']} episodes, {group['levels']} levels",
                ]
            )
    page.table(["agent", "levels", "mean return", "solved", "died", "timed out", "n"], rows)
    agents = {"the demo's agent": made.own_agent} | (
        {"shipped agent": made.agent_file} if made.shipped else {}
    )
    clips = [
        write_agents(agents, made.env_name, level, out / f"agents_{level}.mp4") for level in FIRST_LEVELS
    ]
    page.clips(
        [
            (clip, f"Unseen level {level}, the first {LONGEST} steps at most; dark: the episode is over.")
            for clip, level in zip(clips, FIRST_LEVELS)
        ]
    )


def _recording(page: Page, made: Artefacts, out: Path) -> None:
    real = Rollouts.open(made.recording)
    size = sum(path.stat().st_size for path in real.path.iterdir())
    levels = real.episodes["level_seed"]
    page.text(
        "The agent plays levels that it was not trained on; all of the following is made from this store."
    )
    head = ["episodes", "levels", "steps", "mean length", "bytes per step", "id"]
    row = [
        len(real),
        f"{levels.min():,}-{levels.max():,}",
        f"{real.num_steps:,}",
        f"{real.episodes['length'].mean():.0f}",
        f"{size / real.num_steps:.0f}",
    ]
    page.table(head, [[*row, real.id]])


def _world_models(page: Page, made: Artefacts, out: Path) -> None:
    found, metas = scored(made)
    scores = frame_scores(found, found["layout"])
    levels = f"levels {found['level'].min():,}-{found['level'].max():,}"
    n = f"n = {len(found['level'])} windows on {len(np.unique(found['layout']))} layouts, {levels}"
    page.text(
        f"A world model is given three frames and the recorded actions, and draws what follows. Scored on "
        f"layouts that the demo's was not trained on; {n}. "
        f"{'The shipped one was trained on levels 10,000-99,999. ' if made.shipped else ''}The strong "
        f"baseline is the given frames, shifted by the true camera: it has every pixel that they showed, "
        f"and lacks what moves."
    )
    for kind, words in (("seen", "pixels whose place a given frame had shown"), ("whole", "whole frames")):
        limits = psnr_limits(scores[kind])
        drawn = [
            draw_psnr(
                scores[kind],
                name,
                out / f"psnr_{kind}_{i}",
                f"{name} model: {kind} {'pixels' if kind == 'seen' else 'frames'}",
                limits,
            )
            for i, name in enumerate(made.models)
        ]
        page.row(
            [(path, _model_caption(name, metas[name], words, n)) for path, name in zip(drawn, made.models)]
        )
    names = [f"{name}/{protocol}" for name in made.models for protocol in ("open_loop", "posterior")] + list(
        BASELINES
    )
    rows = [
        [
            name.replace("_", " ").replace("/", ": "),
            *(score_in_words(scores["seen"][name][s], 1) for s in SHOWN_STEPS),
        ]
        for name in names
    ]
    page.table(
        [
            "PSNR in dB, seen pixels",
            *(f"step {s} (n = {scores['seen']['copy'][s]['n']})" for s in SHOWN_STEPS),
        ],
        rows,
    )
    page.text(
        "A dash: exact. The demo's model is a check of the line, and no simulator to draw conclusions from.",
        note=True,
    )


def _model_caption(name: str, meta: dict, words: str, n: str) -> str:
    trained = (
        f"{meta['batches']:,} batches in its last run" if "batches" in meta else "a run of unknown length"
    )
    return f"{name[0].upper()}{name[1:]} world model, after {trained}: {words}. {n}."


def scored(made: Artefacts) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """The squared errors of every world model on the same held-out windows, made once; and what the model
    files say."""
    loaded = {name: load_simulator(path, made.agent_file) for name, path in made.models.items()}
    simulators = {name: simulator for name, (simulator, _) in loaded.items()}
    real = Rollouts.open(made.recording)
    inputs = {"data_dir": real.id} | {name: file_id(path) for name, path in made.models.items()}
    key = key_of({"version": 1, "num_windows": made.num_windows, "inputs": inputs})
    run = Run(made.results / "demo_frames_precomp" / key, resumed=True)
    run.dir.mkdir(parents=True, exist_ok=True)

    def compute() -> dict[str, np.ndarray]:
        k = next(iter(simulators.values())).model.config.num_initializing_steps
        test, train = draw_windows(real, ("test", "train"), k + STEPS, k, (made.num_windows, 64), 0)
        numbers = np.arange(len(test.table))
        segment = test.windows.batch(numbers)
        training = train.windows.batch(np.arange(len(train.table)))
        errors = frame_errors(
            simulators, segment, replay_cameras(real, segment), compute_mean_frame(training)
        )
        return errors | {"layout": test.clusters, "level": real.episodes["level_seed"][test.table[:, 0]]}

    return part(run, "errors", compute), {name: meta for name, (_, meta) in loaded.items()}


def _clips(page: Page, made: Artefacts, out: Path) -> None:
    real = Rollouts.open(made.recording)
    informed = {"shipped model" if made.shipped else "the demo's model": Rollouts.open(made.informed)}
    if made.shipped:
        informed["the demo's model"] = Rollouts.open(made.own_informed)
    page.text(
        "Both begin from the same recorded frames. From there on the agent acts in each; a simulation is "
        "free to go another way."
    )
    first = next(iter(informed.values()))
    longest = np.argsort(-first.episodes["length"], kind="stable")[:SHOWN_CLIPS]
    clips = [
        (write_worlds(real, informed, int(i), out / f"worlds_{rank}.mp4"), source(first, int(i)))
        for rank, i in enumerate(longest)
    ]
    page.clips(
        [
            (
                path,
                f"Level {real.episodes['level_seed'][episode]:,}, from step {step}. Chosen by rule: the "
                f"longest simulations.",
            )
            for path, (episode, step) in clips
        ]
    )
    random = Rollouts.open(made.random)
    which = "shipped" if made.shipped else "demo's"
    page.clips(
        [
            (
                write_random(random, 4, out / "random.mp4"),
                f"The {which} model from random latents: the first 4 of n = {len(random)} samples, no level.",
            )
        ]
    )


SECTIONS: dict[str, Callable[[Page, Artefacts, Path], None]] = {
    "The agents": _agents,
    "The recording": _recording,
    "The world models": _world_models,
    "Game and simulation, side by side": _clips,
    "A map of the agent's hidden states": hidden_map,
    "What the hidden states carry": probes,
    "What the value depends on": gradients,
    "One object deleted, in the game and in the simulator": deletions,
}
