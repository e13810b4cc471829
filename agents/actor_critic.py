"""The agent's network: frames through an encoder and a recurrent core to action logits and a value."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from agents.cores import CORES
from agents.encoders import ARCHITECTURES, Encoder, check_frames
from common.checkpoints import BadCheckpoint, build, load_checkpoint, load_module, save_checkpoint, with_prefix, without_prefix
from common.descriptions import check_entries, check_values, described
from common.policy import categorical_log_prob, sample
from common.precision import PRECISIONS, set_precision
from common.runs import UsageError
from common.words import counted


_ENTRIES = {"env": dict | None, "action_names": list[str], "timesteps": int, "param_name": str, "seed": int, "gamma": float, "reward_scale": float}
"""What an agent's description may say beside its network, and of what kind that is."""


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of an agent's network."""

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
    """bf16 or fp32 for the encoder, or auto: whichever is faster on the machine at hand. A checkpoint says which it was trained in. Core and
    heads are always float32."""
    normalize_features: bool = False
    """Layer normalisation before the encoder's last ReLU: keeps what enters a recurrent core on one scale, so that it does not saturate."""
    keep_bias: float = 0.0
    """Added to the initial bias of a GRU's update gate, or an LSTM's forget gate: below zero, the untrained core keeps little of its past."""
    value_scale: float = 1.0
    """The value head's output is multiplied by this (and its initial weights divided): a bounded hidden state can then say large values."""

    def __post_init__(self):
        if isinstance(self.obs_shape, list):  # from a file
            object.__setattr__(self, "obs_shape", tuple(self.obs_shape))
        check_values(self, sizes=("num_actions", "obs_shape", "feature_size", "hidden_size"))
        for value, known in ((self.architecture, ARCHITECTURES), (self.core, CORES), (self.precision, PRECISIONS)):
            if value not in known:
                raise ValueError(f"unknown {value!r}; choose one of: {', '.join(known)}")
        check_frames(self.architecture, self.obs_shape)


class ActorCritic(nn.Module):
    """A Policy (common/policy.py) with weights. Its state is one [N, S] tensor; zeros before an episode's first frame."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config, self.num_actions = config, config.num_actions
        self.encoder = Encoder(config.architecture, config.obs_shape, config.feature_size, config.precision, config.normalize_features)
        self.core = CORES[config.core](config.feature_size, config.hidden_size, config.keep_bias)
        self.policy_head = nn.Linear(self.core.output_size, config.num_actions)
        self.value_head = nn.Linear(self.core.output_size, 1)
        for head, gain in ((self.policy_head, 0.01), (self.value_head, 1.0 / config.value_scale)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(head.bias)

    def initial_state(self, n: int, target_return: float | None = None) -> torch.Tensor:
        return self.value_head.weight.new_zeros(n, self.core.state_size)

    def advance(self, obs, state, first, reward):
        return self.core.step(self.encoder(obs), state, first)

    def heads(self, state):
        output = self.core.output(state)
        return self.policy_head(output), self.config.value_scale * self.value_head(output).squeeze(-1)

    def choose(self, logits, noise):
        return sample(logits, noise)

    def log_prob(self, logits, action):
        return categorical_log_prob(logits, action)

    def hidden(self, state):
        return state

    def unroll(self, obs, state, first):
        """`advance` over whole sequences, frames encoded together.

        obs [T, N, H, W, C], state [N, S] before obs[0], first [T, N] -> states after each observation, [T, N, S].
        """
        return self.core.unroll(self.encoder(obs), state, first)


def check_fits(agent: ActorCritic, num_actions: int, obs_shape: tuple[int, int, int], game: str) -> None:
    """Raises UsageError unless the agent has the game's number of actions and sees frames of its shape."""
    if agent.num_actions != num_actions:
        raise UsageError(f"the agent has {counted(agent.num_actions, 'action')} and {game} {num_actions}: take the game it was trained on")
    if agent.config.obs_shape != tuple(obs_shape):
        raise UsageError(f"the agent sees frames of {agent.config.obs_shape} and {game} shows {tuple(obs_shape)}: take another agent")


def save_agent(path: Path, agent: ActorCritic, meta: dict) -> None:
    """Writes weights and description: `network` is the NetworkConfig; `meta` says where the agent comes from."""
    save_checkpoint(path, with_prefix("agent", agent.state_dict()), {"kind": "agent", "network": asdict(agent.config), **meta})


def load_agent(path: Path, device: torch.device | str = "cpu") -> tuple[ActorCritic, dict]:
    """Reads what `save_agent` wrote. Raises BadCheckpoint for anything else.

    The agent runs in the precision of this machine (`set_precision` changes it); its config says what it was trained in.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "agent":
        raise BadCheckpoint(f"{path} holds {described(meta.get('kind', 'something unnamed'))}, not an agent")
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("agent", tensors)
    agent = build(lambda: ActorCritic(NetworkConfig(**meta["network"])), weights, path)
    load_module(agent, weights, str(path))
    set_precision("auto", agent)
    return agent.to(device).eval(), meta
