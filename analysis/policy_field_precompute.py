"""The agent at every place of a CoinRun level: what it does and expects there, as it is, with the coin moved,
and under an edit of its hidden state.

The player is put to each place in the bytes of the game's state, and the agent sees that frame some times in
a row, from a start without memory. Differences are averaged over several levels; one level is kept for
the figure. Writes numbers to results/policy_field_precomp; draw them with analysis.policy_field_plotting.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName
from interpret.interventions.flags import EditFlags


@dataclass
class Args:
    agent_file: Path
    """The agent, of CoinRun."""
    edit: tyro.conf.OmitArgPrefixes[EditFlags] = field(default_factory=EditFlags)
    """The edit; none leaves out its field."""
    data_dir: Path | None = None
    """Store of this agent's play, to compare with: how far is its policy at recorded steps from that after
    the frame alone, and are its states at these places like recorded ones?"""
    start_level: int = 100_000
    """First level; it and those after it are taken if they are wide enough."""
    num_levels: int = 16
    """Number of levels, each of another layout; the first one is drawn."""
    least_width: int = 24
    """Least width of a level in tiles."""
    coin_column: int | None = None
    """Column of the moved coin; default: halfway to the start."""
    headroom: int = 4
    """Tiles above the ground up to which the player is placed."""
    frames_shown: int = 8
    """Times that the agent sees the frame of a place; 1: once, without any memory."""
    compared_frames: tuple[int, ...] = (1, 2, 4, 16)
    """Other times, to see whether it matters."""
    num_steps: int = 500
    """Recorded steps that are compared, at most, each of another episode."""
    batch_size: int = 64
    """Places at a time."""
    seed: int = 0
    """Seed of the choice of recorded steps."""
    out_dir: Path = Path("results")
    """Directory that receives policy_field_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import load_agent
from analysis.interventions.policy_fields import (
    EDITED,
    MOVED,
    ORIGINAL,
    choose_levels,
    class_moves,
    level_fields,
    recorded_check,
    shares_beyond,
    summarize_changes,
)
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from envs.make import make_env
from envs.procgen import described_game
from envs.whole_level import draw_level, level_extent
from generative.compatibility import check_sole_recorder, check_store
from interpret.interventions.from_flags import load_interventions
from interpret.interventions.intervened import Intervened
from rollouts.store import Rollouts

STEP = "policy_field"
VERSION = 1
COMMAND = "python -m analysis.policy_field_precompute --agent_file AGENT"
SETTINGS = (
    "start_level", "num_levels", "least_width", "coin_column", "headroom", "frames_shown", "compared_frames",
    "num_steps", "seed",
)  # fmt: skip
"""Flags that the numbers depend on, besides the edit."""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(
        args,
        num_levels=1,
        least_width=4,
        headroom=1,
        frames_shown=1,
        num_steps=2,
        batch_size=1,
        start_level=0,
    )
    if min(args.compared_frames, default=1) < 1:
        raise UsageError(f"--compared_frames are {args.compared_frames}: give numbers from 1 on")


def open_game(meta: dict, path: Path, num: int):
    """The agent's game. Raises UsageError for another than CoinRun."""
    if not meta.get("env"):
        raise UsageError(f"{path} does not say which game its agent plays: give an agent that train.py made")
    game = described_game(meta["env"], path)
    if game.env_name != "coinrun":
        raise UsageError(f"{path} plays {game.env_name}: a level can be drawn and edited in coinrun only")
    return make_env(num, game)


def compute(run: Run, args: Args, agent, tested, env, rollouts: Rollouts | None) -> dict:
    """The numbers; the drawn level is a part of the run."""
    policies = {ORIGINAL: agent} | ({EDITED: Intervened(agent, tested)} if tested else {})
    times = sorted({args.frames_shown, *args.compared_frames})
    levels = choose_levels(env, args.start_level, args.num_levels, args.least_width, args.coin_column)
    fields = [
        level_fields(env, policies, level, args.headroom, times)
        for level in progress_bar(levels, desc="levels", unit="level")
    ]
    drawn = levels[0]
    extent = level_extent(drawn.state, args.headroom)
    pictures = {
        f"picture/{name}": draw_level(env, state, extent)
        for name, state in ((ORIGINAL, drawn.state), (MOVED, drawn.moved))
    }
    cached_part(run, "drawn", lambda: fields[0] | pictures)
    moves = class_moves(env)
    shown = args.frames_shown
    variants = (MOVED, *(name for name in policies if name != ORIGINAL))
    pairs = {name: ((name, shown), (ORIGINAL, shown)) for name in variants}
    times_pairs = {str(one): ((ORIGINAL, one), (ORIGINAL, shown)) for one in times if one != shown}
    recorded = beyond = None
    if rollouts:
        recorded = recorded_check(rollouts, agent, times, env.effect_classes, args.num_steps, args.seed)
        named = {name: (name, shown) for name in (ORIGINAL, *variants)}
        beyond = shares_beyond(fields, named, rollouts, args.seed)
    return {
        "levels": [level.seed for level in levels],
        "places": sum(len(one["x"]) for one in fields),
        "drawn": {
            "level": drawn.seed, "places": len(fields[0]["x"]), "extent": list(extent),
            "moves": moves.tolist(),
        },
        "changes": summarize_changes(fields, pairs, moves),
        "frames_shown": summarize_changes(fields, times_pairs, moves),
        "recorded": recorded,
        "beyond": beyond,
    }  # fmt: skip


def lines(numbers: dict) -> list[str]:
    """What the numbers say, a line for each comparison."""
    named = numbers["changes"] | {f"shown {k} times": one for k, one in numbers["frames_shown"].items()}
    found = [
        "{}: total variation {:.3f} [{:.3f}, {:.3f}]".format(name, *one["all places"]["total_variation"])
        for name, one in named.items()
    ]
    for name, one in (numbers["recorded"] or {"total_variation": {}})["total_variation"].items():
        found.append("recorded policy to {}: {:.3f} [{:.3f}, {:.3f}]".format(name, *one))
    return found


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    agent, meta = load_agent(args.agent_file, device)
    agent_id = file_id(args.agent_file)
    rollouts = None
    inputs = {"agent_file": agent_id}
    if args.data_dir:
        rollouts = Rollouts.open(args.data_dir)
        check_store(rollouts, agent, meta, args.agent_file)
        check_sole_recorder(rollouts, args.agent_file)
        inputs["data_dir"] = rollouts.id
    tested = load_interventions(args.edit, agent, agent_id)
    env = open_game(meta, args.agent_file, args.batch_size)
    settings = {name: getattr(args, name) for name in SETTINGS} | {"interventions": tested.description()}
    run = open_step(
        args.out_dir, STEP, VERSION, settings, inputs, args.new, choose_precision(args.precision, device)
    )
    set_precision(run.precision, agent)
    if not run.done:
        numbers = compute(run, args, agent, tested, env, rollouts)
        about = {"inputs": inputs, "asked": settings}
        finish_step(run, about | numbers | {"lines": lines(numbers)})
    env.close()
    point_latest(run)
    for line in read_numbers(run.dir)["lines"]:
        logging.info("%s", line)
    logging.info("numbers: %s; draw them with: python -m analysis.policy_field_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
