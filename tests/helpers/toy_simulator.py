"""An untrained world model of the toy world whose states differ and whose episodes end now and then, with its
agent and a real store.
"""

import numpy as np
import torch

from agents.actor_critic import save_agent
from common.runs import file_id
from generative.model.world_model import WorldModel
from generative.model.world_model_file import save_world_model
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from rollouts.store import Rollouts
from tests.helpers.toy_world import NOOP, toy_agent, toy_config, toy_episode, with_agent, write_toy_store

NAMES = ["up", "down", "left", "right", "none"]


def toy_model(end_bias: float = 0.0, **config) -> WorldModel:
    """Weights times 2.5 and the outcome head filled, as an untrained model's states barely differ; one step
    in five more likely than not ends.

    Those of the motion and of outcomes are not scaled: pictures that jump by pixels, and rewards of large
    logits, make much of the last bit of a sum, which is another in every batch. For the same reason contacts
    are at no tile's edge.
    """
    torch.manual_seed(3)
    model = WorldModel(toy_config(**config))
    torch.nn.init.normal_(model.outcome_head.out.weight, std=0.5)
    model.outcome_head.out.weight.data[-1] *= 4
    left = {module for part in (model.motion_head, model.outcome_head) for module in part.modules()}
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and module not in left:
            module.weight.data.mul_(2.5)
    model.start_head.player_head[-1].weight.data[:4] *= 0.1
    model.start_head.place_layer.weight.data *= 0.04
    model.painter.texture[-1].weight.data *= 0.3
    model.motion_head.contact_phase.data.mul_(0.6).add_(0.2)  # no contact at an edge
    model.requires_grad_(False)
    z = model.random_latent(torch.randn(64, model.config.latent_size))
    out = Simulator(model, toy_agent(), NOOP).simulate(z, 6, NoiseKeys(0, np.arange(64)), ends=False)
    model.outcome_head.out.bias.data[-1] -= torch.logit(out.extra["done_prob"], 1e-6).quantile(0.8) - end_bias
    return model


def toy_simulator(**config) -> Simulator:
    return Simulator(toy_model(**config), toy_agent(), NOOP)


def toy_store(path, episodes: int = 12) -> Rollouts:
    """Real play of the toy agent; every four episodes share a level."""
    rng = np.random.default_rng(0)
    agent = toy_agent()
    return write_toy_store(path, [with_agent(toy_episode(rng, 10), agent) for _ in range(episodes)], agent)


def save_toy_files(path, **model) -> None:
    """agent.safetensors, model.safetensors and store in `path`: what the scripts ask for."""
    save_agent(path / "agent.safetensors", toy_agent(), {"env": {"env_name": "toy"}})
    toy_store(path / "store")
    meta = {
        "agent": {"id": file_id(path / "agent.safetensors")},
        "noop": NOOP,
        "action_names": NAMES,
        "env": {"env_name": "toy"},
    }
    save_world_model(path / "model.safetensors", toy_model(**model), meta)
