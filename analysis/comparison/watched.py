"""The networks that are compared, what they compute at the recorded steps, and the sites that are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import load_agent
from analysis.comparison.networks import (
    Activations,
    agent_activations,
    encode_frames,
    transformer_activations,
    untrained_agent,
    untrained_transformer,
)
from analysis.probing.dataset import ProbeDataset, check_finite
from common.progress import progress_bar
from common.runs import UsageError, file_id
from decision.model import DecisionTransformer
from decision.model_file import load_dt
from generative.compatibility import check_store, load_recorder
from rollouts.store import Rollouts

AGENT, ENCODER, OTHER, UNTRAINED = "agent", "encoder", "other seed", "untrained agent"
DT, CLONE, UNTRAINED_DT = "DT", "clone", "untrained DT"


class Compared(NamedTuple):
    """A network, and the id of the agent whose features it is given; "" for features of its own encoder."""

    network: torch.nn.Module
    features_of: str


class Files(NamedTuple):
    """The files of the networks; None for those left out."""

    agent: Path
    dt: Path
    clone: Path | None
    other_agent: Path | None


def load_networks(
    files: Files, rollouts: Rollouts, seed: int, device: torch.device | str
) -> tuple[dict[str, Compared], dict]:
    """Every network by name, untrained ones too, and the description in the Decision Transformer's file.

    Raises:
        UsageError: one of them does not fit the store, or another agent recorded it.
    """
    agent, _ = load_recorder(rollouts, files.agent, device)
    found = {
        AGENT: Compared(agent, file_id(files.agent)),
        UNTRAINED: Compared(untrained_agent(agent, seed), ""),
    }
    if files.other_agent:
        other, meta = load_agent(files.other_agent, device)
        check_store(rollouts, other, meta, files.other_agent)
        found[OTHER] = Compared(other, "")
    found[DT], described = _load_transformer(files.dt, rollouts, device)
    found[UNTRAINED_DT] = found[DT]._replace(network=untrained_transformer(found[DT].network, seed))
    if files.clone:
        found[CLONE], _ = _load_transformer(files.clone, rollouts, device)
    return found, described


def _load_transformer(path: Path, rollouts: Rollouts, device) -> tuple[Compared, dict]:
    model, meta = load_dt(path, device)
    shape = rollouts.manifest["num_actions"], tuple(rollouts.step_fields["obs"].shape)
    if shape != (model.config.num_actions, model.config.obs_shape):
        raise UsageError(f"{path} has other actions or frames than {rollouts.path}: take another store")
    return Compared(model, (meta.get("agent") or {}).get("id", "")), meta


def watch(
    networks: Mapping[str, Compared], dataset: ProbeDataset, target: float, device: torch.device | str
) -> tuple[np.ndarray, dict[str, Activations]]:
    """The agent's features [n, F], and what every network computes at the dataset's steps.

    Args:
        networks: of `load_networks`.
        dataset: the steps.
        target: the return that Decision Transformers are asked for.
        device: where the networks are.
    """
    features = {}
    found = {}
    sources = {network.features_of or name for name, network in networks.items()}
    total = len(dataset.rows) * len(sources)
    with progress_bar(total=total, unit="frame", unit_scale=True, desc="encode") as bar:
        for name, (network, features_of) in networks.items():
            source = features_of or name
            if source not in features:
                features[source] = encode_frames(_encoder(network), dataset, device, bar.update)
            if isinstance(network, DecisionTransformer):
                found[name] = transformer_activations(network, features[source], dataset, target, device)
            else:
                found[name] = agent_activations(network, features[source], dataset, device)
    found[AGENT] = Activations({"hidden": dataset.column("hidden_after")}, dataset.column("logits"))
    check_finite(found[AGENT].sites["hidden"], f"the hidden states of {dataset.rollouts.path}")
    return features[networks[AGENT].features_of], found


def _encoder(network: torch.nn.Module) -> torch.nn.Module:
    return network.embed.state.encoder if isinstance(network, DecisionTransformer) else network.encoder


def last_state(activations: Activations) -> str:
    """The site from which a network's action is read."""
    return [name for name in activations.sites if name == "hidden" or name.endswith(" state")][-1]


def readers_of(encoder: np.ndarray, watched: Mapping[str, Activations]) -> dict[str, np.ndarray]:
    """{reader: [n, D]}: the agent's hidden state and encoder, every site of the Decision Transformer, and of
    the other networks the site that their action is read from.
    """
    readers = {AGENT: watched[AGENT].sites["hidden"], ENCODER: encoder}
    readers |= {f"{DT}, {site}": x for site, x in watched[DT].sites.items()}
    others = [name for name in watched if name not in (AGENT, DT)]
    return readers | {name: watched[name].sites[last_state(watched[name])] for name in others}
