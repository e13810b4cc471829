"""Sections of the demo's report on the world models: frame errors, and clips next to the game."""

from pathlib import Path

import numpy as np

from analysis.demo_report.clips import source, write_random_clip, write_simulation_clip
from analysis.demo_report.demo_results import DemoResults, score_in_words
from analysis.demo_report.figures import draw_psnr, psnr_limits
from analysis.io.artefacts import cached_part
from analysis.model_eval.eval_windows import draw_windows
from analysis.model_eval.frame_scores import (
    BASELINES,
    compute_mean_frame,
    frame_errors,
    frame_scores,
    replay_cameras,
)
from analysis.plotting.page import Page
from common.runs import Run, file_id, key_of
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from rollouts.store import Rollouts

STEPS = 12
TABLE_STEPS = (0, 1, 5, 10)
NUM_CLIPS = 3
PIXELS = {"seen": "pixels that a given frame shows", "whole": "whole frames"}


def add_world_models(page: Page, results: DemoResults, out: Path) -> None:
    """PSNR of every world model and baseline on held-out windows."""
    errors, metas = score_models(results)
    scores = frame_scores(errors, errors["layout"])
    n = (
        f"n = {len(errors['level'])} windows on {len(np.unique(errors['layout']))} layouts, levels "
        f"{errors['level'].min():,}-{errors['level'].max():,}"
    )
    page.text(_explanation(results, n))
    for kind, words in PIXELS.items():
        limits = psnr_limits(scores[kind])
        figures = []
        for i, name in enumerate(results.models):
            title = f"{name} model: {'seen pixels' if kind == 'seen' else words}"
            path = draw_psnr(scores[kind], name, out / f"psnr_{kind}_{i}", title, limits)
            figures.append((path, _caption(name, metas[name], words, n)))
        page.row(figures)
    _add_psnr(page, scores["seen"], list(results.models))


def _explanation(results: DemoResults, n: str) -> str:
    shipped = "The shipped model was trained on levels 10,000-99,999. " if results.shipped else ""
    return (
        "A world model receives three frames and the recorded actions, and predicts the following frames. It "
        f"is scored on layouts that the demo's model was not trained on; {n}. {shipped}The strong baseline "
        "shifts the given frames by the true camera motion: it has every pixel they show, and lacks moving "
        "objects."
    )


def _caption(name: str, meta: dict, words: str, n: str) -> str:
    batches = f"{meta['batches']:,} batches in its last run" if "batches" in meta else "an unknown run"
    return f"{name[0].upper()}{name[1:]} world model, after {batches}: {words}. {n}."


def _add_psnr(page: Page, scores: dict[str, list[dict]], models: list[str]) -> None:
    names = [f"{name}/{protocol}" for name in models for protocol in ("open_loop", "posterior")]
    rows = []
    for name in [*names, *BASELINES]:
        words = name.replace("_", " ").replace("/", ": ")
        rows.append([words, *(score_in_words(scores[name][step], 1) for step in TABLE_STEPS)])
    header = [f"step {step} (n = {scores['copy'][step]['n']})" for step in TABLE_STEPS]
    page.table(["PSNR in dB, seen pixels", *header], rows)
    page.text(
        "A dash: exact. The demo's model shows that training runs; draw no conclusions from its simulations.",
        note=True,
    )


def score_models(results: DemoResults) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Squared errors of every world model on the same held-out windows, and the files' metadata."""
    loaded = {name: load_simulator(path, results.agent_file) for name, path in results.models.items()}
    simulators = {name: simulator for name, (simulator, _) in loaded.items()}
    real = Rollouts.open(results.recording)
    inputs = {"data_dir": real.id} | {name: file_id(path) for name, path in results.models.items()}
    key = key_of({"version": 1, "num_windows": results.num_windows, "inputs": inputs})
    run = Run(results.artefacts / "demo_frames_precomp" / key, resumed=True)
    run.dir.mkdir(parents=True, exist_ok=True)
    errors = cached_part(run, "errors", lambda: _errors(simulators, real, results.num_windows))
    return errors, {name: meta for name, (_, meta) in loaded.items()}


def _errors(simulators: dict[str, Simulator], real: Rollouts, num_windows: int) -> dict[str, np.ndarray]:
    k = next(iter(simulators.values())).model.config.num_initializing_steps
    test, train = draw_windows(real, ("test", "train"), k + STEPS, k, (num_windows, 64), 0)
    segment = test.windows.batch(np.arange(len(test.table)))
    mean_frame = compute_mean_frame(train.windows.batch(np.arange(len(train.table))))
    errors = frame_errors(simulators, segment, replay_cameras(real, segment), mean_frame)
    return errors | {"layout": test.layout, "level": real.episodes["level_seed"][test.table[:, 0]]}


def add_clips(page: Page, results: DemoResults, out: Path) -> None:
    """The longest simulations next to the recorded episodes they start from, and random latents."""
    real = Rollouts.open(results.recording)
    simulated = {
        "shipped model" if results.shipped else "the demo's model": Rollouts.open(results.simulations)
    }
    if results.shipped:
        simulated["the demo's model"] = Rollouts.open(results.own_simulations)
    page.text(
        "Game and simulation start from the same recorded frames. The agent then acts in each, so they may "
        "diverge."
    )
    first = next(iter(simulated.values()))
    clips = []
    for rank, i in enumerate(np.argsort(-first.episodes["length"], kind="stable")[:NUM_CLIPS]):
        path = write_simulation_clip(real, simulated, int(i), out / f"worlds_{rank}.mp4")
        episode, step = source(first, int(i))
        level = real.episodes["level_seed"][episode]
        clips.append((path, f"Level {level:,}, from step {step}. By rule: the longest simulations."))
    page.clips(clips)
    random = Rollouts.open(results.random_simulations)
    which = "shipped" if results.shipped else "demo's"
    caption = f"The {which} model from random latents: the first 4 of n = {len(random)} samples, no level."
    page.clips([(write_random_clip(random, 4, out / "random.mp4"), caption)])
