"""Goal misgeneralisation: does an agent go to the coin, or to the end of the level where coins have been?

The agents play the same levels with the coin at its place, moved within the right fifth of the level, moved
to its middle, and removed; the end wall stays (Langosco et al. 2022, "Goal misgeneralization in deep
reinforcement learning"). All runs of a level share their action noise. An agent that runs to the end touches
some coins on its way; the runs without a coin say how many. Writes numbers to
results/goal_misgeneralisation_precomp and resumes an unfinished run; draw them with
analysis.goal_misgeneralisation_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_files: tuple[Path, ...]
    """Agents to compare, all trained on CoinRun with the same options."""
    names: tuple[str, ...] = ()
    """A name for each agent; default: its directory's. Differences are to the last one."""
    start_level: int = 250
    """First level; 250 and above are unseen by an agent trained on levels 0-199."""
    num_levels: int = 500
    """Number of levels, each of another layout, none of a layout that an agent was trained on."""
    min_length: int = 15
    """Columns from start to end; in shorter levels every place is near the end."""
    steps: int = 500
    """Steps after which a run counts as timed out."""
    wait: int = 40
    """Steps that a run goes on for after the player has reached the end wall, in case it turns back."""
    num_paths: int = 40
    """Levels whose paths are kept for the figure."""
    num_envs: int = 64
    """Environments stepped together; affects results by rounding only."""
    num_threads: int = 2
    """Threads of the game; does not change results."""
    seed: int = 0
    """Seed of the coins' places and of the action noise."""
    out_dir: Path = Path("results")
    """Directory that receives goal_misgeneralisation_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from dataclasses import replace

import numpy as np

from agents.actor_critic import ActorCritic, load_agent
from analysis.counterfactuals.goal_summary import (
    MOVED,
    STEP,
    VERSION,
    compare_agents,
    level_facts,
    run_arrays,
    summarize_agent,
)
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id
from envs.concepts import check_game
from envs.make import make_env
from envs.procgen import ProcgenConfig, described_game
from envs.procgen_body import parse as parse_state
from interpret.forks.coin_levels import VARIANTS, CoinLevel, find_coin_levels
from interpret.forks.coin_play import Limits, play_coin_levels
from rollouts.split import training_layouts

SETTINGS = ("names", "start_level", "num_levels", "min_length", "steps", "wait", "num_paths", "seed")
"""Flags that the numbers depend on, besides the agents."""
MAP_SHAPE = (64, 64)
"""Rows and columns of CoinRun's grid."""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_levels=2, min_length=1, steps=1, wait=0, num_paths=0, num_envs=1, start_level=0)
    if not args.agent_files:
        raise UsageError("--agent_files is empty: give one agent or more")
    if len(args.names) not in (0, len(args.agent_files)):
        raise UsageError(f"{len(args.agent_files)} agents have {len(args.names)} names: give one for each")
    if len(set(args.names)) < len(args.names):
        raise UsageError(f"--names are {', '.join(args.names)}: give different ones")


def common_game(metas: list[dict], files: tuple[Path, ...]) -> ProcgenConfig:
    """The game that all agents were trained on, with coins where the generator puts them."""
    games = [described_game(meta.get("env") or {}, file) for meta, file in zip(metas, files)]
    games = [replace(game, num_levels=0, start_level=0, random_coin=False) for game in games]
    for game, file in zip(games, files):
        check_game(game.env_name)
        if game != games[0]:
            raise UsageError(f"{file} was trained on another game than {files[0]}: compare them apart")
    return games[0]


def excluded_layouts(metas: list[dict]) -> set[str]:
    """Layouts that any of the agents was trained on."""
    games = [meta["env"] | {"random_coin": False} for meta in metas if meta.get("env")]
    return {layout for game in games for layout in training_layouts(game)}


def agent_runs(args: Args, env, agent: ActorCritic, levels: list[CoinLevel], name: str) -> dict:
    """Runs of one agent in every variant, as arrays, with the paths of the first levels."""
    limits = Limits(args.steps, args.wait)
    with progress_bar(total=len(VARIANTS) * len(levels), unit="run", desc=name) as bar:
        played = {
            variant: play_coin_levels(env, agent, levels, variant, limits, args.seed, MOVED, bar)
            for variant in VARIANTS
        }
    paths = {f"{variant}.path": one.path[:, : args.num_paths] for variant, one in played.items()}
    return run_arrays(played) | paths


def level_arrays(levels: list[CoinLevel], shown: int) -> dict[str, np.ndarray]:
    """Columns [n] of the levels, and the content of the first ones, for figures: grids [S, H, W] and the
    things in them, [m, 4] (level, type, x, y).
    """
    columns = {
        f"{variant}.cell": np.array([one.cells[variant] for one in levels]) for variant in ("end", *MOVED)
    }
    states = [parse_state(one.snapshots["removed"].data) for one in levels[:shown]]
    things = [(i, e["type"], e["x"], e["y"]) for i, state in enumerate(states) for e in state.entities]
    return columns | {
        "level": np.array([one.level for one in levels]),
        "last_column": np.array([one.last_column for one in levels]),
        "grid": np.array([state.grid for state in states]).reshape(len(states), *MAP_SHAPE),
        "things": np.array(things, np.float32).reshape(-1, 4),
    }


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    loaded = [load_agent(path, device) for path in args.agent_files]
    metas = [meta for _, meta in loaded]
    config = common_game(metas, args.agent_files)
    names = args.names or tuple(path.parent.name for path in args.agent_files)
    if len(set(names)) < len(names):
        raise UsageError(f"the agents' directories are {', '.join(names)}: give --names, one for each")
    inputs = {f"agent_{name}": file_id(path) for name, path in zip(names, args.agent_files)}
    settings = {name: getattr(args, name) for name in SETTINGS} | {"names": names}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    if not run.done:
        env = make_env(args.num_envs, config, args.seed, args.num_threads)
        levels = find_coin_levels(
            env, args.start_level, args.num_levels, args.min_length, args.seed, excluded_layouts(metas)
        )
        cached_part(run, "levels", lambda: level_arrays(levels, args.num_paths))
        layouts = np.array([one.layout for one in levels])
        runs = {}
        for name, (agent, _) in zip(names, loaded):
            set_precision(run.precision, agent)
            runs[name] = cached_part(
                run, f"runs_{names.index(name)}", lambda a=agent, n=name: agent_runs(args, env, a, levels, n)
            )
        finish_step(run, {"inputs": inputs, "asked": settings} | numbers(runs, layouts, metas, levels))
    point_latest(run)
    for line in lines(read_numbers(run.dir)):
        logging.info("%s", line)
    logging.info("numbers: %s", run.dir)


def numbers(runs: dict[str, dict], layouts: np.ndarray, metas: list[dict], levels: list[CoinLevel]) -> dict:
    """What is published: facts of the levels, a summary of each agent, and differences to the last one."""
    names = list(runs)
    agents = {
        name: summarize_agent(runs[name], layouts)
        | {
            "trained_for": meta.get("timesteps"),
            "random_coin": bool((meta.get("env") or {}).get("random_coin")),
        }
        for name, meta in zip(names, metas)
    }
    differences = {name: compare_agents(runs[names[-1]], runs[name], layouts) for name in names[:-1]}
    return level_facts(levels) | {"agents": agents, "last_less": differences, "last": names[-1]}


def lines(found: dict) -> list[str]:
    """What the numbers say, a line for each agent and moved variant."""
    return [
        f"{name}, coin {variant}: gets {agent['outcomes'][variant]['coin'][0]:.0%} of coins,"
        f" {agent['by_chance'][variant][0]:.0%} by chance; pursuit {agent['pursuit'][variant][0]:+.0%}"
        f" [{agent['pursuit'][variant][1]:+.0%}, {agent['pursuit'][variant][2]:+.0%}]"
        for name, agent in found["agents"].items()
        for variant in MOVED
    ]


if __name__ == "__main__":
    run_main(main, ARGS)
