"""Interchange patching: through which activation, and when, does an object reach the agent's decision?

At recorded steps with a hazard 2 to 6 tiles ahead, the last frames are drawn again without the hazard, by
editing the game's states. The agent watches both versions from the same memory. One activation of the run
without the hazard is then replaced by that of the run with it: the whole state, the encoder's output, one of
its channels, or the state along one direction; at each step. Control: the same from another scene. Writes
numbers to results/interchange_precomp and resumes an unfinished run; draw them with
analysis.interchange_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store; one with an encoder (not from elsewhere)."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    direction_files: tuple[Path, ...] = ()
    """Directions of the agent's hidden state: one file, or none."""
    num_directions: int = 16
    """Directions of the file that are patched, its first ones."""
    hazard: Literal["saw", "enemy", "lava"] = "saw"
    """Kind of hazard that is removed."""
    part: Literal["test", "train", "all"] = "all"
    """Split of the world models that scenes are from; the agent was trained on none of it."""
    num_scenes: int = 256
    """Scenes, at most, each on its own layout."""
    frames: int = 8
    """Frames up to the decision, which is read after the last one."""
    seed: int = 0
    """Seed of the choice of scenes."""
    out_dir: Path = Path("results")
    """Directory that receives interchange_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.counterfactuals.interchange_summary import STEP, VERSION, patch_changes, summarize
from analysis.io.artefacts import cached_part, fork_point_columns
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id
from envs.concepts import check_game
from envs.edits import next_hazard
from envs.procgen import action_space
from envs.procgen_body import parse as parse_state
from generative.compatibility import env_name_of, load_recorder
from interpret.directions.by_kind import load_one
from interpret.directions.directions import Directions
from interpret.forks.fork_points import (
    PARTS,
    ForkPointSampler,
    fork_points_at,
    hidden_before,
    without_hazards,
)
from interpret.interventions.interchange import all_sites, record_activations
from rollouts.store import Rollouts

SETTINGS = ("num_directions", "hazard", "part", "num_scenes", "frames", "seed")
"""Flags that the numbers depend on, besides the files."""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_scenes=2, frames=1, num_directions=1)


def patched_directions(args: Args, agent: ActorCritic, agent_id: str) -> Directions | None:
    """The first directions of the file, if any. Raises as `load_one`, and UsageError for a dictionary."""
    found = load_one(args.direction_files, agent.core.state_size, agent_id)
    if found and not found.linear:
        raise UsageError(f"{args.direction_files[0]} holds nonlinear directions; linear ones can be patched")
    return found and found.first(min(args.num_directions, len(found)))


def scene_frames(args: Args, rollouts: Rollouts, agent: ActorCritic) -> dict[str, np.ndarray]:
    """Scenes with and without their hazard: frames [K, B, H, W, C], the hidden states before the first, and
    columns [B].
    """
    sampler = ForkPointSampler(rollouts, args.frames, PARTS[args.part], args.seed)

    def find(snapshot):
        ahead = next_hazard(parse_state(snapshot.data))
        return ahead if ahead is not None and ahead.kind == args.hazard else None

    pairs, ahead = sampler.search(find, args.num_scenes, f"{args.hazard} ahead", stream=4)
    points = fork_points_at(rollouts, *pairs.T, args.frames, sampler.layouts)
    bare = without_hazards(rollouts, agent, points, ahead)
    return fork_point_columns(points) | {
        "clean": points.frames,
        "corrupt": bare.frames,
        "hidden": hidden_before(rollouts, points).numpy(),
    }


def compute(args: Args, run: Run, rollouts: Rollouts, agent: ActorCritic, directions, device) -> dict:
    """The numbers."""
    scenes = cached_part(run, "scenes", lambda: scene_frames(args, rollouts, agent))
    hidden = torch.from_numpy(scenes["hidden"]).to(device)
    clean, corrupt = (
        record_activations(agent, torch.from_numpy(scenes[name]).to(device), hidden)
        for name in ("clean", "corrupt")
    )
    sites = all_sites(clean, directions)
    names = action_space(env_name_of(rollouts.manifest))
    changes = cached_part(
        run,
        "changes",
        lambda: patch_changes(agent, clean, corrupt, hidden, sites, directions, names.groups["upwards"]),
    )
    level = scenes["level"]
    about = {"hazard": args.hazard, "level_range": [int(level.min()), int(level.max())]}
    return about | summarize(changes, [site.label(directions) for site in sites], scenes["layout"])


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, _ = load_recorder(rollouts, args.agent_file, device)
    agent_id = file_id(args.agent_file)
    check_game(env_name_of(rollouts.manifest))
    directions = patched_directions(args, agent, agent_id)
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id}
    inputs |= {"directions": directions.id} if directions else {}
    settings = {name: getattr(args, name) for name in SETTINGS}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    set_precision(run.precision, agent)
    if not run.done:
        numbers = compute(args, run, rollouts, agent, directions, device)
        finish_step(run, {"inputs": inputs, "asked": settings} | numbers)
    point_latest(run)
    for line in lines(read_numbers(run.dir)):
        logging.info("%s", line)
    logging.info("numbers: %s", run.dir)


def lines(numbers: dict) -> list[str]:
    """What the numbers say, a line for each quantity and donor."""
    return [
        f"{quantity}, {donor} scene's encoder at the last frame: {value:.2f} [{low:.2f}, {high:.2f}] restored"
        for quantity, by_donor in numbers["restored"].items()
        for donor, by_site in by_donor.items()
        for value, low, high in [by_site["encoder"][-1]]
    ]


if __name__ == "__main__":
    run_main(main, ARGS)
