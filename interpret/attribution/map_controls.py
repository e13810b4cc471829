"""Controls for attribution maps: maps that do not look at the agent, and agents that have unlearned."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F

from agents.actor_critic import ActorCritic
from interpret.attribution.frame_gradients import randomised_agent, rank_correlation

LUMINANCE = (0.299, 0.587, 0.114)
PRIOR_STD = 0.25
"""Standard deviation of the centre prior, as a share of the frame's height."""


def centre_prior(player: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps [B, H, W] that fall off with the distance from the player, at pixels [B, 2] (row, column)."""
    rows, columns = (np.arange(length) + 0.5 for length in size)
    away = (rows[:, None] - player[:, :1, None]) ** 2 + (columns - player[:, 1:, None]) ** 2
    return np.exp(-0.5 * away / (PRIOR_STD * size[0]) ** 2).astype(np.float32)


def edge_maps(frames: torch.Tensor) -> torch.Tensor:
    """Strength of the edges [B, H, W] of frames [B, H, W, 3]: the length of Sobel's gradient of luminance."""
    grey = (frames * torch.tensor(LUMINANCE)).sum(-1, keepdim=True).movedim(-1, 1)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernels = torch.stack([across, across.T])[:, None]
    return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels).norm(dim=1)


def cascading_randomisation(agent: ActorCritic, seed: int) -> Iterator[tuple[str, ActorCritic]]:
    """Copies of the agent with fresh weights in more and more layers, from the heads down to the first
    convolution (Adebayo et al. 2018): (lowest fresh layer, copy).
    """
    fresh = randomised_agent(agent, seed)
    current = copy.deepcopy(agent)
    for name, modules in _layers(current):
        for path in modules:
            current.get_submodule(path).load_state_dict(fresh.get_submodule(path).state_dict())
        yield name, copy.deepcopy(current)


def _layers(agent: ActorCritic) -> list[tuple[str, list[str]]]:
    """Layers with weights from top to bottom: name, and paths of their modules."""
    stages = [
        (f"encoder stage {i + 1}", [f"encoder.stages.{place}"])
        for i, place in enumerate(
            place for place, stage in enumerate(agent.encoder.stages) if any(True for _ in stage.parameters())
        )
    ]
    top = [("heads", ["policy_head", "value_head"]), ("core", ["core"])]
    return [*top, ("encoder output", ["encoder.out", "encoder.norm"]), *reversed(stages)]


def map_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation [B] over pixels of the absolute values of two sets of maps [B, H, W]."""
    flat = [np.abs(x).reshape(len(x), -1) for x in (a, b)]
    return rank_correlation(*flat)
