"""Videos of an edit: edited and unedited side by side, from the same forks with the same noise, in the real
game and in the simulator, with the direction's score over time below.

Forks are those of analysis.interventions_precompute with the same flags; which of them are shown is a rule.
Writes a video and a film strip of each, and the changes of events over all forks, to
results/interventions_clips_precomp.
"""

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName
from interpret.interventions.flags import EditFlags


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store."""
    edit: tyro.conf.OmitArgPrefixes[EditFlags] = field(default_factory=EditFlags)
    """The edits that are shown."""
    world_model_file: Path | None = None
    """Its world model, for a second row; default: the real game alone."""
    data_dir: Path = Path("data")
    """Store of real rollouts that fork points are taken from."""
    part: Literal["test", "train", "all"] = "all"
    """Split of the world models that fork points are from."""
    scenes: Literal["hazard", "any"] = "hazard"
    """States with a hazard 2 to 6 tiles ahead (CoinRun), or any."""
    num_fork_points: int = 100
    """Fork points that clips are chosen from, each on its own layout."""
    steps: int = 24
    """Horizon of a fork."""
    choices: tuple[Literal["largest", "median", "random"], ...] = ("largest", "median", "random")
    """Forks that are shown: where the edited run departs most from the unedited one in the real game (mean
    difference of their frames), as much as in half of the forks, and any."""
    score_direction: int | None = None
    """Direction of the (first) edit's set whose score is drawn; default: the first one that it touches."""
    fps: float = 6
    """Steps per second of the videos."""
    batch_size: int = 64
    """Forks that are played at a time."""
    num_threads: int = 2
    """Threads of the game; does not change results."""
    seed: int = 0
    """Seed of the choice of fork points and of the random one. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Directory that receives interventions_clips_precomp."""
    images: Path | None = None
    """Also copy the film strips to this directory, as intervention_<choice>.png."""
    results: Path | None = None
    """Also write the numbers to this JSON file, for documentation pages to quote."""
    new: bool = False
    """Play again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from matplotlib.colors import to_rgb

from analysis.interventions.clip_strip import STYLES, draw_strip
from analysis.interventions.inputs import Recorded, load_recorded
from analysis.interventions.paired_runs import ARMS, choose_forks, departures, paired_effects, play_arms
from analysis.interventions.run import Settings, choose_points
from analysis.io.publish import round_numbers
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from analysis.rendering.paired_clips import ClipRow, PairedClip, video_frames
from common.checkpoints import write_json
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device
from common.video import write_video
from common.words import counted
from interpret.directions.by_kind import kind_of
from interpret.directions.directions import Directions
from interpret.forks.fork_points import recording_seed
from interpret.interventions.from_flags import load_interventions
from interpret.interventions.interventions import Interventions
from rollouts.states import replay_env

STEP = "interventions_clips"
VERSION = 1
SETTINGS = ("part", "scenes", "num_fork_points", "steps", "choices", "score_direction", "fps", "seed")
LABELS = {"real": "real game", "simulator": "simulator"}
RULES = {
    "largest": "the one where the edited run departs most from the control run in the game",
    "median": "one where the edited run departs from the control run in the game as much as in half of them",
    "random": "chosen at random",
}


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_fork_points=1, steps=2, batch_size=1)
    if not args.choices or not args.fps > 0:
        raise UsageError("give one of --choices or more, and --fps above 0")


def scored_direction(args: Args, tested: Interventions) -> tuple[Directions, int]:
    """The directions and the number whose score is drawn. Raises UsageError for no edit or no such number."""
    if not tested:
        raise UsageError("no edit to show: give --swap_directions_from, or --edits")
    edit = tested.edits[0]
    directions = tested.sets[edit.direction_set]
    index = edit.touched[0] if args.score_direction is None else args.score_direction
    if not 0 <= index < len(directions):
        raise UsageError(
            f"--score_direction is {index}: {kind_of(directions)} has directions 0 to {len(directions) - 1}"
        )
    return directions, index


def clip_of(played: dict[str, dict], i: int, names, subtitle: str, score_name: str) -> PairedClip:
    """The clip of fork i. played: {label of the world: arms}."""
    rows = [
        ClipRow(
            label,
            tuple(round(255 * part) for part in to_rgb(style["color"])),
            [arms[arm]["obs"][:, i] for arm in ARMS],
            [arms[arm]["running"][:, i] for arm in ARMS],
            [[names[action] for action in arms[arm]["action"][:, i]] for arm in ARMS],
            [arms[arm]["score"][:, i] for arm in ARMS],
        )
        for (label, arms), style in zip(played.items(), STYLES)
    ]
    return PairedClip(rows, ARMS, "Edited and unedited", subtitle, score_name)


def play(args: Args, recorded: Recorded, tested: Interventions, device) -> tuple:
    """Fork points, the arms of every world by label, and the names of actions."""
    rollouts = recorded.rollouts
    shared = ("part", "scenes", "num_fork_points", "steps", "seed", "batch_size", "num_threads")
    points = choose_points(
        Settings(**{name: getattr(args, name) for name in shared}), rollouts, recorded.num_frames
    )
    env = replay_env(rollouts, args.batch_size, args.num_threads)
    scored, seed = scored_direction(args, tested), recording_seed(rollouts)
    common = (recorded.agent, tested, scored, points, args.steps, seed, args.batch_size)
    played = {
        LABELS[name]: play_arms(world_of, *common) for name, world_of in recorded.worlds(env, device).items()
    }
    env.close()
    return points, played, rollouts.manifest["action_names"]


def draw_clips(args: Args, directory: Path, points, played: dict, names, scored) -> dict:
    """A video and a strip of each chosen fork; returns what was chosen."""
    directions, index = scored
    departure = departures(played["real game"])
    found = {}
    for name, i in choose_forks(departure, args.choices, args.seed).items():
        subtitle = f"level {points.level[i]}, step {points.step[i]}"
        clip = clip_of(played, i, names, subtitle, f"score of {directions.names[index]}")
        write_video(directory / f"{name}.mp4", video_frames(clip), args.fps)
        rule = f"{RULES[name]}, of {counted(len(points), 'fork')}"
        draw_strip(clip, rule, f"{points.level[i]}", directory / f"intervention_{name}.png")
        rank = int((departure > departure[i]).sum()) + 1
        found[name] = {
            "level": int(points.level[i]), "episode": int(points.episode[i]), "step": int(points.step[i]),
            "departure": float(departure[i]), "rank": rank,
        }  # fmt: skip
    return {"forks": len(points), "clips": found, "departures": np.sort(departure)[::-1].tolist()}


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    recorded = load_recorded(args.data_dir, args.agent_file, args.world_model_file, device)
    tested = load_interventions(args.edit, recorded.agent, recorded.ids["agent_file"])
    scored = scored_direction(args, tested)
    settings = {name: getattr(args, name) for name in SETTINGS} | {"interventions": tested.description()}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, recorded.ids, args.new, precision)
    set_precision(run.precision, *recorded.networks)
    if not run.done:
        points, played, names = play(args, recorded, tested, device)
        numbers = draw_clips(args, run.dir, points, played, names, scored)
        effects = {label: paired_effects(arms, points.layout, names) for label, arms in played.items()}
        levels = [int(points.level.min()), int(points.level.max())]
        numbers |= {"effects": effects, "layouts": len(np.unique(points.layout)), "levels": levels}
        finish_step(run, {"asked": settings, "inputs": recorded.ids} | numbers)
    point_latest(run)
    numbers = read_numbers(run.dir)
    if args.results:
        write_json(args.results, round_numbers(numbers))
    for name, clip in numbers["clips"].items():
        logging.info("%s: level %d, step %d: %s", name, clip["level"], clip["step"], run.dir / f"{name}.mp4")
        if args.images:
            args.images.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.dir / f"intervention_{name}.png", args.images / f"intervention_{name}.png")


if __name__ == "__main__":
    run_main(main, ARGS)
