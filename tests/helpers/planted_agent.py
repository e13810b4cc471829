"""A CoinRun agent of which one direction of the hidden state is known to keep it from jumping.

The direction is the one that the agent's own policy head reads least. The head is changed so that a score of
one standard deviation takes GAIN off the logits of the actions that go up, and moves no other logit.
"""

import copy

import torch

from agents.actor_critic import ActorCritic
from envs.procgen import action_space
from interpret.directions.directions import Directions

GAIN = 1.0
CALM = 0
"""Number of the planted direction; the others are orthogonal to it."""
UP = [i for i, name in enumerate(action_space("coinrun").names) if "up" in name.split("-")]


def plant(agent: ActorCritic, states: torch.Tensor) -> tuple[ActorCritic, Directions]:
    """The agent with a planted direction, and orthogonal directions of which CALM is that one.

    states: [n, D] hidden states of the agent; scores are in their standard deviations and 0 at their mean.
    """
    planted = copy.deepcopy(agent)
    head = planted.policy_head
    axes = torch.linalg.svd(head.weight.detach().double())[2].flip(0)  # the least read one first
    mean, std = states.double().mean(0), (states.double() @ axes.T).std(0)
    read = axes / std[:, None]
    with torch.no_grad():
        along = head.weight.double() @ axes[CALM]
        change = -torch.outer(along, axes[CALM])
        change[UP] -= GAIN * read[CALM]
        head.bias -= (change @ mean).float()
        head.weight += change.float()
    names = ["calm", *(f"other_{i}" for i in range(1, len(axes)))]
    return planted, Directions(
        read, -read @ mean, (axes * std[:, None]).T, mean, names, {"method": "planted"}
    )
