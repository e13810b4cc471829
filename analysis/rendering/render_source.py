"""Where an agent is watched: the game itself, or a world model of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from agents.evaluate import fixed_jobs
from common.runs import UsageError, file_id
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from envs.vecenv import ActionSpace, VecEnv
from generative.sim_env import SimVecEnv, actions_of
from generative.simulator import load_simulator
from generative.starts import check_enough, open_starts
from rollouts.play import EpisodeSpec


class Stage(NamedTuple):
    """open: makes the environment, with one slot. title: what is played. place: what a job's level is called.
    cut: how an episode that runs out of time is said to have ended. group: directory names for what is made
    of it. options: the game's. inputs: ids of what it is made from. networks: those that play besides the
    agent that is watched.
    """

    open: Callable[[], VecEnv]
    actions: ActionSpace
    jobs: list[EpisodeSpec]
    title: str
    place: str
    cut: str
    group: Path
    options: ProcgenConfig | None
    inputs: dict[str, str]
    networks: tuple[nn.Module, ...] = ()


def real_stage(config: ProcgenConfig, num_eps: int, seed: int, num_threads: int) -> Stage:
    """The game with its options; levels in order from config.start_level."""
    levels = config.num_levels or num_eps
    replace(config, num_levels=min(levels, num_eps))  # refuses levels beyond the last one
    jobs = fixed_jobs(config.start_level, levels, num_eps)
    title = f"{config.env_name} {config.distribution_mode}"

    def opened():
        return make_env(1, config, seed, num_threads)

    return Stage(
        opened,
        action_space(config.env_name),
        jobs,
        title,
        "Level",
        "timed out",
        Path("procgen", config.env_name),
        config,
        {},
    )


def simulated_stage(
    world_model_file: Path,
    agent_file: Path,
    data_dir: Path | None,
    rand_init: bool,
    allow_other_agent: bool,
    jobs: list[EpisodeSpec],
    steps: int,
    seed: int,
    device,
) -> Stage:
    """A world model, its episodes at most `steps` long; job levels are starting places, as
    `generative.starts.open_starts` finds them.

    Raises BadCheckpoint for an agent that the model was not trained with, unless allow_other_agent.
    """
    if steps < 1:
        raise UsageError(f"--num_sim_steps is {steps}; an episode has at least 1")
    simulator, meta = load_simulator(world_model_file, agent_file, allow_other_agent, device)
    starts, rollouts = open_starts(simulator, meta, data_dir, rand_init, agent_file, seed)
    check_enough(starts, max(job.level for job in jobs) + 1)
    game = (meta.get("env") or {}).get("env_name", "unnamed")
    inputs = {"world_model_file": file_id(world_model_file)} | ({"data_dir": rollouts.id} if rollouts else {})
    actions = actions_of(meta)

    def opened():
        return SimVecEnv(simulator, starts, 1, actions, seed, steps)

    place = "Start" if rollouts else "Random start"
    return Stage(
        opened,
        actions,
        jobs,
        f"simulated {game}",
        place,
        f"cut at {steps} steps",
        Path("simulated", game),
        None,
        inputs,
        (simulator.model, simulator.agent),
    )
