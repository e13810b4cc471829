"""Optimisers with decay groups, and learning-rate schedules as functions of the batch."""

import math

import torch
from torch import nn

from decision.config import TrainConfig

BETAS = (0.9, 0.95)  # as GPT-3 (Brown et al. 2020)
MOMENTUM = 0.9


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups: weights of linear maps and convolutions decay; biases, embeddings and layer
    normalisation do not. Frozen parameters are in neither.
    """
    decayed = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    groups = decay_groups(model, config.weight_decay)
    if config.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM)
    kind = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}[config.optimizer]
    return kind(groups, lr=config.lr, betas=BETAS, fused=True)


def learning_rate(config: TrainConfig, batch: int) -> float:
    """Of a batch, counted from 0: a linear warm-up from 0 where the schedule has one, then constant, or a
    decay to lr_end, linear or by (restarted) cosines.
    """
    warmup = config.warmup_steps if config.scheduler not in ("constant", "cosine") else 0
    if batch < warmup:
        return config.lr * (batch + 1) / warmup
    if config.scheduler.startswith("constant"):
        return config.lr
    done = min((batch - warmup) / max(config.num_batches - 1 - warmup, 1), 1.0)
    if config.scheduler == "cosine_with_restarts":
        done = done * config.num_cycles % 1.0 if done < 1 else 1.0
    left = 1 - done if config.scheduler == "linear_with_warmup" else (1 + math.cos(math.pi * done)) / 2
    return config.lr_end + (config.lr - config.lr_end) * left
