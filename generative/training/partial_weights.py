"""Starting from the weights of another model."""

import logging

import torch

from generative.model.world_model import WorldModel


def load_partial(model: WorldModel, weights: dict[str, torch.Tensor]) -> list[str]:
    """Loads the weights of another model where names and shapes match; returns and logs the names of the
    others.
    """
    own = model.state_dict()
    matching = {
        name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape
    }
    model.load_state_dict(matching, strict=False)
    missing = sorted(own.keys() - matching.keys())
    if missing:
        logging.warning(
            "%d of %d tensors are newly initialised: %s", len(missing), len(own), ", ".join(missing)
        )
    return missing
