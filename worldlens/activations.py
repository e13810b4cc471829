"""Read and edit activations while an agent watches frames: `run_with_cache` and `run_with_hooks`.

The verbs are those of TransformerLens (Nanda & Bloom 2022); `interpret.hooks` does the same for any module.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from agents.actor_critic import ActorCritic
from interpret import hooks
from interpret.hooks import Edit, sites, unroll

__all__ = ["AgentOutput", "run_with_cache", "run_with_hooks", "sites"]


class AgentOutput(NamedTuple):
    """What an agent computes from T frames of N environments.

    hidden [T, N, D]: its recurrent state after each frame. logits [T, N, A]. value [T, N].
    """

    hidden: torch.Tensor
    logits: torch.Tensor
    value: torch.Tensor


def run_with_cache(
    agent: ActorCritic,
    obs: torch.Tensor,
    names: Sequence[str],
    first: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
) -> tuple[AgentOutput, dict[str, torch.Tensor]]:
    """Show frames to an agent and keep the activations of named sites.

    Args:
        agent: The agent; nothing of it changes.
        obs: Frames [T, N, H, W, C], uint8 or float in [0, 1].
        names: Sites to keep; `sites(agent)` lists them (`core.cell`, `core.cell.update`, `policy_head`, ...).
        first: [T, N] bool, where a frame opens an episode and resets the state. Default: nowhere after t = 0.
        state: [N, D] before obs[0]. Default: the initial state.

    Returns:
        The agent's output, and {name: [T, N, ...]}.

    Raises:
        UsageError: An unknown site, or one that was not computed.
    """
    output, cache = hooks.run_with_cache(agent, names, unroll, agent, obs, _first(obs, first), state)
    return AgentOutput(*output), {name: value.unflatten(0, obs.shape[:2]) for name, value in cache.items()}


def run_with_hooks(
    agent: ActorCritic,
    obs: torch.Tensor,
    edits: Mapping[str, Edit],
    first: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
) -> AgentOutput:
    """Show frames to an agent whose activations go through edits.

    Args:
        agent: The agent; its weights stay as they are.
        obs: Frames [T, N, H, W, C].
        edits: {site: edit}; edit(value [n, ...], rows) returns the value to continue with. Row t * N + i is
            environment i at step t. `interpret.hooks.at_steps` limits an edit to some steps.
        first: As for `run_with_cache`.
        state: As for `run_with_cache`.

    Raises:
        UsageError: An unknown site, or one that was not computed.
    """
    return AgentOutput(*hooks.run_with_hooks(agent, edits, unroll, agent, obs, _first(obs, first), state))


def _first(obs: torch.Tensor, first: torch.Tensor | None) -> torch.Tensor:
    if first is not None:
        return first
    return torch.zeros(obs.shape[:2], dtype=torch.bool, device=obs.device)
