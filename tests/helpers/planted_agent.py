"""A CoinRun agent of which one direction of the hidden state is known to keep it from jumping.

The direction is the one that the agent's own policy head reads least. The head is changed so that a score of
one standard deviation takes a gain off the logits of the actions that go up, and moves no other logit.
"""

import copy

import torch

from agents.actor_critic import ActorCritic
from envs.procgen import action_space
from interpret.directions.directions import Directions

GAIN = 1.0
NEVER = -30.0
"""Logit of actions that are not taken."""
CALM = 0
"""Number of the planted direction; the others are orthogonal to it."""
NAMES = action_space("coinrun").names
UP = [i for i, name in enumerate(NAMES) if "up" in name.split("-")]
LEVEL = [NAMES.index({"up": "none", "up-left": "left", "up-right": "right"}[NAMES[i]]) for i in UP]
"""For each of UP, the action that goes the same way without up."""


def plant(
    agent: ActorCritic, states: torch.Tensor, alone: bool = False, gain: float = GAIN
) -> tuple[ActorCritic, Directions]:
    """The agent with a planted direction, and orthogonal directions of which CALM is that one.

    Args:
        agent: of CoinRun.
        states: [n, D] its hidden states; scores are in their standard deviations and 0 at their mean.
        alone: whether the score of CALM alone decides about jumps: each action that goes up takes the logit
            of the one without up, less the score, and actions without such a partner are never taken.
        gain: with a small one, pushes along other directions, which reach the score of CALM a step later
            through the recurrence, hardly change jumps.
    """
    planted = copy.deepcopy(agent)
    head = planted.policy_head
    axes = torch.linalg.svd(head.weight.detach().double())[2].flip(0)  # the least read one first
    mean, std = states.double().mean(0), (states.double() @ axes.T).std(0)
    read = axes / std[:, None]
    with torch.no_grad():
        if alone:
            others = [i for i in range(len(NAMES)) if i not in (*UP, *LEVEL)]
            head.weight[UP], head.bias[UP] = head.weight[LEVEL], head.bias[LEVEL]
            head.weight[others], head.bias[others] = 0.0, NEVER
        along = head.weight.double() @ axes[CALM]
        change = -torch.outer(along, axes[CALM])
        change[UP] -= gain * read[CALM]
        head.bias -= (change @ mean).float()
        head.weight += change.float()
    names = ["calm", *(f"other_{i}" for i in range(1, len(axes)))]
    return planted, Directions(
        read, -read @ mean, (axes * std[:, None]).T, mean, names, {"method": "planted"}
    )
