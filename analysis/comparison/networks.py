"""What networks compute at the same recorded steps: recurrent agents, Decision Transformers and clones."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.probing.dataset import ProbeDataset, check_finite
from decision.model import DecisionTransformer
from decision.windows import DTBatch
from interpret.hooks import run_with_cache
from interpret.probing.recurrence import rerun_core

_FRAMES_PER_CALL = 512
MODALITIES = {3: ("return", "state", "action"), 2: ("state", "action")}
"""Names of the tokens of a step, by their number."""


class Activations(NamedTuple):
    """What a network computed at n steps; sites of a transformer are named like `block 1 action`."""

    sites: dict[str, np.ndarray]
    """{site: [n, D]}."""
    logits: np.ndarray
    """[n, A]."""


def encode_frames(
    encoder: torch.nn.Module, dataset: ProbeDataset, device, advance: Callable[[int], object] = lambda n: None
) -> np.ndarray:
    """Features [n, F] of the frames of every step, in the encoder's own precision."""
    parts = []
    with torch.inference_mode():
        for chunk in dataset.chunks("obs"):
            for begin in range(0, len(chunk), _FRAMES_PER_CALL):
                frames = torch.from_numpy(chunk[begin : begin + _FRAMES_PER_CALL]).to(device)
                parts.append(encoder(frames).float().cpu().numpy())
                advance(len(frames))
    features = np.concatenate(parts)
    check_finite(features, "the output of an encoder")
    return features


def agent_activations(agent: ActorCritic, features: np.ndarray, dataset: ProbeDataset, device) -> Activations:
    """The hidden state after every step, and the logits, of a recurrent agent that watches the episodes.

    features [n, F]: what its encoder makes of the frames.
    """
    states = rerun_core(agent.core, features, dataset.first_step, dataset.length, device)
    with torch.inference_mode():
        logits = agent.heads(torch.from_numpy(states).to(device))[0].float().cpu().numpy()
    return Activations({"hidden": states}, logits)


def asked_returns(reward: np.ndarray, target: float, gamma: float) -> np.ndarray:
    """The return that is still asked for at each step [T] of an episode with rewards [T], as it is while
    acting: nothing about the future is in it.
    """
    asked = np.empty(len(reward))
    left = target
    for t, received in enumerate(reward):
        asked[t] = left
        left = (left - received) / gamma
    return asked.astype(np.float32)


def sites_of(model: DecisionTransformer) -> dict[str, str]:
    """{hook name: layer} of the residual stream: the embedding and the output of every block."""
    blocks = {f"blocks.{i}.hook_resid_post": f"block {i + 1}" for i in range(model.config.n_layers)}
    return {"hook_embed": "embedding"} | blocks


def transformer_activations(
    model: DecisionTransformer,
    features: np.ndarray,
    dataset: ProbeDataset,
    target: float,
    device,
    advance: Callable[[int], object] = lambda n: None,
) -> Activations:
    """The residual stream at every token, and the logits, of a transformer that watches whole episodes.

    Args:
        model: a Decision Transformer or clone.
        features: [n, F], what its encoder makes of the frames.
        dataset: the steps.
        target: the return asked for at the beginning of every episode; a clone ignores it.
        device: where the model is.
        advance: called with the number of steps done.
    """
    layers = sites_of(model)
    tokens = MODALITIES[model.config.tokens_per_step]
    width = model.config.d_model
    sites = {
        f"{layer} {token}": np.empty((len(features), width), np.float32)
        for layer in layers.values()
        for token in tokens
    }
    logits = np.empty((len(features), model.config.num_actions), np.float32)
    for rows, batch in episode_batches(model, features, dataset, target):
        with torch.inference_mode():
            residual, kept = run_with_cache(model, list(layers), model.residual, batch.to(device))
            logits[rows] = model.logits(residual[0, model.config.state_token :: len(tokens)]).cpu().numpy()
        for hook, layer in layers.items():
            for i, token in enumerate(tokens):
                sites[f"{layer} {token}"][rows] = kept[hook][0, i :: len(tokens)].cpu().numpy()
        advance(len(rows))
    return Activations(sites, logits)


def episode_batches(
    model: DecisionTransformer, features: np.ndarray, dataset: ProbeDataset, target: float
) -> Iterator[tuple[np.ndarray, DTBatch]]:
    """Every episode as rows of the dataset and one window that holds all of it."""
    action = dataset.column("action").astype(np.int64)
    reward = dataset.column("reward")
    for first, length in zip(dataset.first_step, dataset.length):
        rows = np.arange(first, first + length)
        columns = (
            features[rows],
            action[rows],
            asked_returns(reward[rows], target, model.config.gamma),
            np.arange(length),
            np.ones(length, bool),
        )
        yield rows, DTBatch(*(torch.from_numpy(column)[None] for column in columns))


def untrained_transformer(model: DecisionTransformer, seed: int) -> DecisionTransformer:
    """A transformer of the same configuration with fresh weights; the encoder and the standardisation of its
    output are the trained one's.
    """
    torch.manual_seed(seed)
    fresh = DecisionTransformer(model.config).to(next(model.parameters()).device).eval()
    encoder = {name: x for name, x in model.state_dict().items() if name.startswith("embed.state.encoder.")}
    fresh.load_state_dict(encoder, strict=False)
    fresh.embed.state.mean.copy_(model.embed.state.mean)
    fresh.embed.state.std.copy_(model.embed.state.std)
    return fresh


def untrained_agent(agent: ActorCritic, seed: int) -> ActorCritic:
    """An agent of the same configuration with fresh weights, encoder included."""
    torch.manual_seed(seed)
    return ActorCritic(agent.config).to(next(agent.parameters()).device).eval()
