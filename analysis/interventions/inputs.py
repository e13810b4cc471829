"""What experiments on forks read: a recording, the agent that made it and, if one is given, its simulator."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from agents.actor_critic import ActorCritic
from common.policy import Policy
from common.runs import file_id
from generative.compatibility import load_recorder
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from interpret.forks.worlds import RealWorld, SimulatedWorld
from rollouts.store import Rollouts


class Recorded(NamedTuple):
    """ids: of what was read, by the name of its flag. simulator: None for the real game alone."""

    rollouts: Rollouts
    agent: ActorCritic
    simulator: Simulator | None
    ids: dict[str, str]

    @property
    def networks(self) -> list[torch.nn.Module]:
        """All networks, for `set_precision`."""
        return [self.agent, *([self.simulator.model] if self.simulator else [])]

    @property
    def num_frames(self) -> int:
        """Frames that a fork point needs: those that a simulation starts from, or one."""
        return self.simulator.model.config.num_initializing_steps if self.simulator else 1

    def worlds(self, env, device: torch.device | str) -> dict[str, Callable[[Policy], object]]:
        """By name, functions that give the world in which a policy plays; `env` replays the recording."""
        found: dict = {"real": lambda policy: RealWorld(env, policy, device)}
        if self.simulator:
            found["simulator"] = lambda policy: SimulatedWorld(self.simulator, policy)
        return found


def load_recorded(
    data_dir: Path, agent_file: Path, world_model_file: Path | None, device: torch.device | str
) -> Recorded:
    """Reads a store, the agent that recorded all of it, and its simulator if a file is given.

    Raises:
        BadCheckpoint: a file holds something else.
        UsageError: they do not belong together.
    """
    rollouts = Rollouts.open(data_dir)
    agent, _ = load_recorder(rollouts, agent_file, device)
    ids = {"agent_file": file_id(agent_file), "data_dir": rollouts.id}
    simulator = None
    if world_model_file:
        simulator, _ = load_simulator(world_model_file, agent_file, device=device)
        agent = simulator.agent
        ids["world_model_file"] = file_id(world_model_file)
    return Recorded(rollouts, agent, simulator, ids)
