"""The demo's report: what the line made, from its artefacts alone, as one self-contained page."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.frame_scores import FrameScores, frame_scores
from analysis.hidden_map import hidden_map
from analysis.page import Page
from analysis.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure
from common.video import write_video
from generative.config import train_config, window_length
from generative.data import WindowSource, layouts_of
from generative.simulator import load_simulator
from rollouts.store import Rollouts

SCORED_WINDOWS = 256
SHOWN_CLIPS = 6
MAP_POINTS = 4000
HOW_FAR = (
    "A model trained for minutes is a check of the line and no simulator to draw conclusions from; how far the reference simulator of "
    "CoinRun can be trusted is said in docs/reference_simulator.md."
)


@dataclass(frozen=True)
class Artefacts:
    """Where each step of the line left its results."""

    env_name: str
    agent_file: Path
    curves: Path
    scores: dict[str, Path]
    recording: Path
    model_file: Path
    informed: Path
    random: Path


def build(artefacts: Artefacts, out: Path) -> Path:
    """Draws the figures and clips into `out` and writes `out/report.html`. Returns its path."""
    real, informed, random = (Rollouts.open(path) for path in (artefacts.recording, artefacts.informed, artefacts.random))
    page = Page(f"Worldlens: {artefacts.env_name}, end to end")
    page.text(
        "An agent, its recordings, a world model with the agent inside, and rollouts simulated by it. Every number below has its n; "
        "intervals are 95%, by level."
    )
    _agent(page, artefacts)
    _recording(page, real)
    _simulator(page, artefacts, real, out)
    _clips(page, real, informed, random, out)
    _map(page, real, informed, out)
    page.write(out / "report.html")
    return out / "report.html"


def _agent(page: Page, artefacts: Artefacts) -> None:
    page.heading("The agent")
    page.picture(artefacts.curves, "Return against environment steps; where one is known, the published feed-forward curve stands behind.")
    rows = []
    for name, path in artefacts.scores.items():
        group = json.loads(path.read_text())["groups"]["all"]
        mean, low, high = group["return"]
        outcomes = ", ".join(f"{outcome} {group[outcome][0]:.0%}" for outcome in ("solved", "died", "timed out"))
        rows.append([name, f"{mean:.2f} [{low:.2f}, {high:.2f}]", outcomes, f"{group['episodes']} episodes on {group['levels']} levels"])
    page.table(["levels", "mean return", "outcomes", "n"], rows)


def _recording(page: Page, real: Rollouts) -> None:
    page.heading("The recording")
    size = sum(path.stat().st_size for path in real.path.iterdir())
    page.table(
        ["store", "episodes", "steps", "bytes per step", "mean length"],
        [[real.id, len(real), real.num_steps, f"{size / real.num_steps:.0f}", f"{real.episodes['length'].mean():.1f}"]],
    )


def _simulator(page: Page, artefacts: Artefacts, real: Rollouts, out: Path) -> None:
    page.heading("The world model")
    simulator, meta = load_simulator(artefacts.model_file, artefacts.agent_file)
    train = train_config(meta["train"])
    config = simulator.model.config
    windows = real.windows(window_length(config, train), anchor="start", pad="right", min_steps=config.num_initializing_steps)
    source = WindowSource(windows, layouts_of(real), meta["seed"])
    scores = frame_scores(simulator, source.validation_batch(0, SCORED_WINDOWS))
    levels = np.unique(real.episodes["level_seed"][source.windows.table[source.validation, 0]])
    page.picture(draw_frame_scores(scores, levels, out / "frames"), f"{artefacts.model_file}, after {meta['batches']} batches of its last run. {HOW_FAR}")
    steps = [s for s in (0, 1, 5, 10) if s < len(scores.n)]
    rows = [[name, *("exact" if np.isinf(psnr[s]) else f"{psnr[s]:.1f}" for s in steps)] for name, psnr in scores.psnr.items()]
    page.table(["PSNR in dB, held-out levels", *(f"step {s} (n={scores.n[s]})" for s in steps)], rows)


def draw_frame_scores(scores: FrameScores, levels: np.ndarray, path: Path) -> Path:
    """PSNR against steps after the last seen frame."""
    figure, axes = new_figure(panel=(6.0, 3.2))
    looks = {
        "posterior": {"color": SIMULATED["color"], "linestyle": ":"}, "open loop": SIMULATED,
        "copy of the last seen frame": NULL, "mean frame": NULL | {"linestyle": ":"},
    }  # fmt: skip
    for name, psnr in scores.psnr.items():
        axes[0, 0].plot(psnr, label=name, **looks[name])
    axes[0, 0].set(xlabel="steps after the last seen frame", ylabel="PSNR (dB)")
    figure.legend(loc="outside upper left", ncols=4, fontsize="small")
    alive = scores.n[min(10, len(scores.n) - 1)] / scores.windows
    text = f"Held-out levels, windows from anywhere in an episode; {alive:.0%} still run after 10 steps."
    add_caption(figure, text, f"{scores.windows} windows", f"{levels.min()}-{levels.max()} ({len(levels)} of them)")
    return save_figure(figure, path)[0]


def _clips(page: Page, real: Rollouts, informed: Rollouts, random: Rollouts, out: Path) -> None:
    page.heading("Real and simulated, side by side")
    page.text(
        "Left of each pair the recorded episode, right the simulation that began from its frames. From there on the agent acts in "
        "both; the simulation is free to go another way."
    )
    longest = np.argsort(-informed.episodes["length"], kind="stable")[:SHOWN_CLIPS]
    pairs = [(i, side_by_side(real, informed, i, out / f"pair_{rank}.mp4")) for rank, i in enumerate(longest)]
    page.clips([(path, _pair_caption(real, informed, i)) for i, path in pairs])
    page.text("Simulations from latents drawn at random:")
    shown = [(i, _clip(random.episode(i)["obs"], out / f"random_{i}.mp4")) for i in range(min(SHOWN_CLIPS, len(random)))]
    page.clips([(path, f"random start {i}, {random.episodes['length'][i]} steps") for i, path in shown])


def side_by_side(real: Rollouts, simulated: Rollouts, i: int, path: Path) -> Path:
    """Simulated episode i beside the recorded one that it began from, from the same moment on."""
    episode, step = simulated.episodes["source_episode"][i], simulated.episodes["source_step"][i]
    left, right = real.episode(episode)["obs"][step:], simulated.episode(i)["obs"]
    length = min(len(left), len(right))
    gap = np.full((length, left.shape[1], 2, 3), 255, np.uint8)
    return _clip(np.concatenate([left[:length], gap, right[:length]], axis=2), path)


def _pair_caption(real: Rollouts, simulated: Rollouts, i: int) -> str:
    episode, step = (int(simulated.episodes[name][i]) for name in ("source_episode", "source_step"))
    return f"real | simulated: level {real.episodes['level_seed'][episode]}, from step {step}"


def _clip(frames: np.ndarray, path: Path) -> Path:
    write_video(path, frames, fps=10, scale=3)
    return path


def _map(page: Page, real: Rollouts, simulated: Rollouts, out: Path) -> None:
    page.heading("The agent's hidden states")
    rng = np.random.default_rng(0)
    shown = [_thinned(rollouts, rng) for rollouts in (real, simulated)]
    (real_hidden, value), (simulated_hidden, _) = shown
    points = hidden_map(real_hidden, simulated_hidden)
    figure, axes = new_figure(columns=2, panel=(4.2, 3.6))
    dots = axes[0, 0].scatter(*points.real.T, c=value, s=3, cmap="viridis", linewidths=0)
    figure.colorbar(dots, ax=axes[0, 0], label="value (the agent's units)")
    axes[0, 0].set_title("real, by value")
    axes[0, 1].scatter(*points.real.T, s=3, linewidths=0, color=REAL["color"], label="real")
    axes[0, 1].scatter(*points.simulated.T, s=3, linewidths=0, color=SIMULATED["color"], label="simulated")
    axes[0, 1].legend(markerscale=4)
    axes[0, 1].set_title("simulated, placed into the real map")
    for axis in axes[0]:
        axis.set(xlabel=f"PC 1 ({points.explained[0]:.0%} of variance)", ylabel=f"PC 2 ({points.explained[1]:.0%})")
    levels = real.episodes["level_seed"]
    n = f"{len(points.real)} real and {len(points.simulated)} simulated steps"
    text = "Hidden states after the observation, standardised; axes fit on real states only."
    add_caption(figure, text, n, f"{levels.min()}-{levels.max()}")
    note = "A map, not a test: overlap in two dimensions does not show that the distributions agree."
    page.picture(save_figure(figure, out / "hidden_map")[0], note)


def _thinned(rollouts: Rollouts, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states and values of up to MAP_POINTS steps, an equal share of every episode's."""
    table = rollouts.step_table()
    keep = rng.random(len(table)) < MAP_POINTS / len(table)
    return rollouts.hidden_after()[keep], rollouts.steps("value")[keep]
