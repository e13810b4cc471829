"""What render.py plays in: the game, or a world model of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from agents.evaluate import fixed_jobs
from common.runs import UsageError, file_id
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from envs.vecenv import ActionSpace, VecEnv
from generative.action_space import action_space_of
from generative.sim_env import SimVecEnv
from generative.simulator_file import load_simulator
from generative.starts import check_start_count, open_starts
from rollouts.play import EpisodeSpec


@dataclass(frozen=True)
class RenderSource:
    """An environment to render.

    Args:
        open: makes the environment, with one slot.
        actions: names and effect classes.
        specs: episodes to play.
        title: first line of the overlay.
        place: word for a level, in the overlay and in file names.
        truncated: outcome of a truncated episode, in words.
        group: directories, below the output directory, of the videos.
        options: of the game; None for a world model.
        inputs: ids of what is read.
        networks: that run besides the rendered agent.
    """

    open: Callable[[], VecEnv]
    actions: ActionSpace
    specs: list[EpisodeSpec]
    title: str
    place: str
    truncated: str
    group: Path
    options: ProcgenConfig | None
    inputs: dict[str, str]
    networks: tuple[nn.Module, ...] = ()


def game_source(config: ProcgenConfig, num_eps: int, seed: int, num_threads: int) -> RenderSource:
    """The game with its options; levels in order from config.start_level."""
    levels = config.num_levels or num_eps
    replace(config, num_levels=min(levels, num_eps))  # refuses levels beyond the last one
    return RenderSource(
        open=lambda: make_env(1, config, seed, num_threads),
        actions=action_space(config.env_name),
        specs=fixed_jobs(config.start_level, levels, num_eps),
        title=f"{config.env_name} {config.distribution_mode}",
        place="Level",
        truncated="timed out",
        group=Path("procgen", config.env_name),
        options=config,
        inputs={},
    )


@dataclass(frozen=True)
class WorldModelOptions:
    """Flags of a rendered world model; see `Args` of render.py."""

    world_model_file: Path
    agent_file: Path
    data_dir: Path | None
    rand_init: bool
    allow_other_agent: bool
    max_steps: int


def world_model_source(
    options: WorldModelOptions, specs: list[EpisodeSpec], seed: int, device
) -> RenderSource:
    """A world model; the level of an episode is the index of its start state.

    Args:
        options: files and start states.
        specs: episodes to play.
        seed: of starts and action noise.
        device: of the networks.

    Raises:
        BadCheckpoint: the model was trained with another agent, and allow_other_agent is not set.
        UsageError: max_steps is below 1, or there are too few start states.
    """
    if options.max_steps < 1:
        raise UsageError(f"--num_sim_steps is {options.max_steps}: give 1 or more")
    simulator, meta = load_simulator(
        options.world_model_file, options.agent_file, options.allow_other_agent, device
    )
    starts, rollouts = open_starts(
        simulator, meta, options.data_dir, options.rand_init, options.agent_file, seed
    )
    check_start_count(starts, max(spec.level for spec in specs) + 1)
    game = (meta.get("env") or {}).get("env_name", "unnamed")
    inputs = {"world_model_file": file_id(options.world_model_file)}
    if rollouts:
        inputs["data_dir"] = rollouts.id
    actions = action_space_of(meta)
    return RenderSource(
        open=lambda: SimVecEnv(simulator, starts, 1, actions, seed, options.max_steps),
        actions=actions,
        specs=specs,
        title=f"simulated {game}",
        place="Start" if rollouts else "Random start",
        truncated=f"cut at {options.max_steps} steps",
        group=Path("simulated", game),
        options=None,
        inputs=inputs,
        networks=(simulator.model, simulator.agent),
    )
