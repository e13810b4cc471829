"""The actor-critic network: encoder, recurrent core, policy head and value head."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from agents.cores import CORES
from agents.encoders import ARCHITECTURES, Encoder, check_frames
from common.checkpoints import (
    BadCheckpoint,
    build,
    load_checkpoint,
    load_module,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.descriptions import check_entries, check_values, described
from common.policy import CategoricalPolicy
from common.precision import PRECISIONS, set_precision
from common.runs import UsageError
from common.words import counted

_ENTRIES = {
    "env": dict | None,
    "action_names": list[str],
    "timesteps": int,
    "param_name": str,
    "seed": int,
    "gamma": float,
    "reward_scale": float,
}
"""Types of the optional entries of an agent's description."""


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of an agent's network."""

    num_actions: int
    obs_shape: tuple[int, int, int] = (64, 64, 3)
    architecture: str = "impala"
    """impala, impala-half or nature."""
    feature_size: int = 256
    """Width of the encoder's output."""
    core: str = "gru"
    """gru, lstm or none."""
    hidden_size: int = 64
    """Width of the recurrent core."""
    precision: str = "auto"
    """Precision of the encoder: bf16, fp32, or auto (the faster one on this machine). A checkpoint records
    the one it was trained in. Core and heads are always float32.
    """
    normalize_features: bool = False
    """Layer normalisation before the encoder's last ReLU, which keeps the inputs of a recurrent core on one
    scale so that it does not saturate.
    """
    keep_bias: float = 0.0
    """Added to the initial bias of a GRU's update gate or an LSTM's forget gate: below zero, the untrained
    core keeps little of its past.
    """
    value_scale: float = 1.0
    """Factor of the value head's output (its initial weights are divided by it), so that a bounded hidden
    state can express large values.
    """

    def __post_init__(self):
        if isinstance(self.obs_shape, list):  # from a file
            object.__setattr__(self, "obs_shape", tuple(self.obs_shape))
        check_values(self, sizes=("num_actions", "obs_shape", "feature_size", "hidden_size"))
        for value, known in (
            (self.architecture, ARCHITECTURES),
            (self.core, CORES),
            (self.precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown {value!r}; choose one of: {', '.join(known)}")
        check_frames(self.architecture, self.obs_shape)


class ActorCritic(CategoricalPolicy, nn.Module):
    """A Policy (common/policy.py) with weights. Its state is one tensor [N, S], zero before an episode's
    first frame.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.num_actions = config.num_actions
        self.encoder = Encoder(
            config.architecture,
            config.obs_shape,
            config.feature_size,
            config.precision,
            config.normalize_features,
        )
        self.core = CORES[config.core](config.feature_size, config.hidden_size, config.keep_bias)
        self.policy_head = nn.Linear(self.core.output_size, config.num_actions)
        self.value_head = nn.Linear(self.core.output_size, 1)
        for head, gain in ((self.policy_head, 0.01), (self.value_head, 1.0 / config.value_scale)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(head.bias)

    def __repr__(self) -> str:
        config = self.config
        count = sum(weight.numel() for weight in self.parameters())
        return (
            f"ActorCritic({config.architecture} encoder, {config.core} core of {config.hidden_size} units,"
            f" {config.num_actions} actions, {count:,} parameters)"
        )

    def initial_state(self, n: int, target_return: float | None = None) -> torch.Tensor:
        return self.value_head.weight.new_zeros(n, self.core.state_size)

    def advance(self, obs, state, first, reward):
        return self.core.step(self.encoder(obs), state, first)

    def heads(self, state):
        output = self.core.output(state)
        return self.policy_head(output), self.config.value_scale * self.value_head(output).squeeze(-1)

    def unroll(self, obs, state, first):
        """`advance` over sequences, with all frames encoded together.

        Args:
            obs: [T, N, H, W, C].
            state: [N, S] before obs[0].
            first: [T, N] bool, True where obs[t] opens an episode.

        Returns:
            States after each observation, [T, N, S].
        """
        return self.core.unroll(self.encoder(obs), state, first)


def check_fits(agent: ActorCritic, num_actions: int, obs_shape: tuple[int, int, int], game: str) -> None:
    """Raises UsageError unless the agent fits the game's number of actions and frame shape."""
    if agent.num_actions != num_actions:
        raise UsageError(
            f"the agent has {counted(agent.num_actions, 'action')} and {game} {num_actions}: take"
            " the game it was trained on"
        )
    if agent.config.obs_shape != tuple(obs_shape):
        raise UsageError(
            f"the agent sees frames of {agent.config.obs_shape} and {game} shows"
            f" {tuple(obs_shape)}: take another agent"
        )


def save_agent(path: Path, agent: ActorCritic, meta: dict) -> None:
    """Writes weights and description; `meta` adds to the NetworkConfig where the agent comes from."""
    save_checkpoint(
        path,
        with_prefix("agent", agent.state_dict()),
        {"kind": "agent", "network": asdict(agent.config), **meta},
    )


def load_agent(path: Path, device: torch.device | str = "cpu") -> tuple[ActorCritic, dict]:
    """Reads an agent and its description.

    The agent runs in this machine's faster precision (`set_precision` changes it); its config records the one
    it was trained in.

    Raises:
        BadCheckpoint: the file is no agent of `save_agent`.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "agent":
        fix = ": give it as --world_model_file" if meta.get("kind") == "world model" else ""
        held = described(meta.get("kind", "something unnamed"))
        raise BadCheckpoint(f"{path} holds {held}, not an agent{fix}")
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("agent", tensors)
    agent = build(lambda: ActorCritic(NetworkConfig(**meta["network"])), weights, path)
    load_module(agent, weights, str(path))
    set_precision("auto", agent)
    return agent.to(device).eval(), meta
