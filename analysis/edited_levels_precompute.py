"""Edited levels: what responds when a saw is removed, the coin moved, or a crate added?

At recorded steps the state of the real game is edited. The agent sees the edited frame with the same memory,
and plays on with the same noise: directions of its state, its actions and what happens are compared. The
control edit puts an object of the same size behind the player, where it should not matter. Writes numbers to
results/edited_levels_precomp and resumes an unfinished run; draw them with analysis.edited_levels_plotting.
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
    """The agent that recorded the store."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    direction_files: tuple[Path, ...] = ()
    """Directions of the agent's hidden state: one file, or none."""
    level_edits: tuple[str, ...] = ("saw_removed", "coin_moved", "crate_added")
    """Edits: saw_removed, coin_moved, crate_added."""
    part: Literal["test", "train", "all"] = "all"
    """Split of the world models that states are from; the agent was trained on none of it."""
    num_states: int = 200
    """States of each edit, at most, each on its own layout."""
    steps: int = 24
    """Steps that the agent plays on."""
    draws: int = 2
    """Noise draws of each run, the same with and without the edit."""
    num_envs: int = 64
    """Environments stepped together; affects results by rounding only."""
    seed: int = 0
    """Seed of the choice of states."""
    out_dir: Path = Path("results")
    """Directory that receives edited_levels_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import ActorCritic
from analysis.counterfactuals.edit_summary import STEP, VERSION, responding, summarize_changes
from analysis.io.artefacts import cached_part, fork_point_columns
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from envs.concepts import check_game
from envs.layouts import first_states
from envs.procgen import action_space
from envs.procgen_body import parse as parse_state
from envs.scenes import templates
from generative.compatibility import env_name_of, load_recorder
from interpret.directions.by_kind import load_one
from interpret.directions.directions import Directions
from interpret.forks.edit_responses import fork_responses, frame_responses, with_snapshots
from interpret.forks.fork_points import PARTS, ForkPointSampler, fork_points_at, recording_seed
from interpret.forks.level_edits import EDITS, edit_level
from interpret.forks.paired_outcomes import OUTCOMES
from rollouts.states import replay_env
from rollouts.store import Rollouts

SETTINGS = ("level_edits", "part", "num_states", "steps", "draws", "seed")
"""Flags that the numbers depend on, besides the files."""
LOOKS = range(200)
"""Levels in which every kind of object occurs, to copy from."""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_states=2, steps=1, draws=1, num_envs=1)
    unknown = [name for name in args.level_edits if name not in EDITS]
    if unknown or not args.level_edits:
        raise UsageError(f"no edit {unknown[0] if unknown else ''!r}: choose from {', '.join(EDITS)}")


def responses(args: Args, rollouts: Rollouts, agent, directions, env, looks, name: str) -> dict:
    """Responses [3, B, M] to one edit, in intact, edited and control states: `frame` and `fork`; columns [B];
    and the changed pixels [2, B] of the edit and its control.
    """
    sampler = ForkPointSampler(rollouts, 1, PARTS[args.part], args.seed)
    pairs, edits = sampler.search(
        lambda snapshot: edit_level(name, parse_state(snapshot.data), looks),
        args.num_states,
        f"state with room for the edit {name!r}",
        stream=5 + EDITS.index(name),
    )
    points = fork_points_at(rollouts, *pairs.T, 1, sampler.layouts)
    versions = [points] + [
        with_snapshots(env, points, [getattr(one, which) for one in edits]) for which in ("edited", "control")
    ]
    actions = action_space(env_name_of(rollouts.manifest))
    seed = recording_seed(rollouts)
    with progress_bar(total=len(versions) * len(points) * args.draws, unit="run", desc=name) as bar:
        frame = [frame_responses(agent, one, directions, actions) for one in versions]
        played = [
            fork_responses(env, agent, one, args.steps, args.draws, seed, actions, bar) for one in versions
        ]
    pixels = [(one.frames[-1] != points.frames[-1]).any(-1).sum((1, 2)) for one in versions[1:]]
    return fork_point_columns(points) | {
        "frame": np.stack([np.stack(list(one.values()), 1) for one in frame]),
        "fork": np.stack([np.stack(list(one.values()), 1) for one in played]),
        "distance": np.array([one.distance for one in edits]),
        "pixels": np.stack(pixels),
    }


def edit_numbers(found: dict[str, np.ndarray], directions: Directions | None, groups: list[str]) -> dict:
    """Numbers of one edit. Scores are in standard deviations over the intact states."""
    scores = list(directions.names) if directions else []
    names = {"frame": [*scores, *groups, "value"], "fork": [*OUTCOMES, *groups]}
    scale = np.ones(len(names["frame"]))
    scale[: len(scores)] = found["frame"][0, :, : len(scores)].std(0)
    change = {
        "frame": (found["frame"][1:] - found["frame"][0]) / scale,
        "fork": found["fork"][1:] - found["fork"][0],
    }
    level = found["level"]
    return {
        "states": len(level),
        "layouts": len(np.unique(found["layout"])),
        "level_range": [int(level.min()), int(level.max())],
        "distance": float(found["distance"].mean()),
        "pixels": {name: float(found["pixels"][i].mean()) for i, name in enumerate(("edit", "control"))},
        **{
            when: summarize_changes(*change[when], names[when], found["layout"]) for when in ("frame", "fork")
        },
    }


def compute(args: Args, run: Run, rollouts: Rollouts, agent: ActorCritic, directions) -> dict:
    """The numbers of every edit."""
    env = replay_env(rollouts, args.num_envs)
    looks = templates(first_states(env, LOOKS))
    groups = list(action_space(env_name_of(rollouts.manifest)).groups)
    edits = {}
    for name in args.level_edits:
        found = cached_part(
            run,
            name,
            lambda name=name: responses(args, rollouts, agent, directions, env, looks, name),
        )
        edits[name] = edit_numbers(found, directions, groups)
    env.close()
    return {"directions": list(directions.names) if directions else [], "groups": groups, "edits": edits}


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, _ = load_recorder(rollouts, args.agent_file, device)
    agent_id = file_id(args.agent_file)
    check_game(env_name_of(rollouts.manifest))
    directions = load_one(args.direction_files, agent.core.state_size, agent_id)
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id}
    inputs |= {"directions": directions.id} if directions else {}
    settings = {name: getattr(args, name) for name in SETTINGS}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    set_precision(run.precision, agent)
    if not run.done:
        numbers = compute(args, run, rollouts, agent, directions)
        finish_step(run, {"inputs": inputs, "asked": settings} | numbers)
    point_latest(run)
    for name, one in read_numbers(run.dir)["edits"].items():
        for when in ("frame", "fork"):
            found = ", ".join(responding(one[when])) or "nothing"
            logging.info("%s (%d states), %s: %s responds", name, one["states"], when, found)
    logging.info("numbers: %s", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
