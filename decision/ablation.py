"""Resampling ablation of a model's inputs: how far the action moves when returns, states or actions are those
of other episodes.
"""

from dataclasses import replace

import numpy as np
import torch

from common.errors import UsageError
from common.stats import cluster_bootstrap, json_number
from decision.model import DecisionTransformer
from decision.windows import DTBatch, DTWindows
from rollouts.store import Rollouts

INPUTS = ("return_to_go", "state", "action")
WINDOWS = 256
_BATCH = 64


def ablation_scores(
    model: DecisionTransformer, rollouts: Rollouts, seed: int = 0, device: torch.device | str = "cpu"
) -> dict[str, dict[str, list[float | None]]]:
    """Mean effect of each input over WINDOWS windows of a store that context_length steps fill.

    Returns:
        {input: {"kl": [mean, low, high], "changed": [mean, low, high]}} with 95% intervals by level, None for
        few levels; see `ablation_effects`.

    Raises:
        UsageError: the store has another action space or frame shape, or no episode is long enough.
    """
    config = model.config
    shape = rollouts.manifest["num_actions"], tuple(rollouts.step_fields["obs"].shape)
    if shape != (config.num_actions, config.obs_shape):
        raise UsageError(f"{rollouts.path} has other actions or frames than the model: take another store")
    windows = DTWindows(rollouts, config.context_length, config.gamma)
    episode, time = rollouts.step_table().T
    full = np.flatnonzero((time >= config.context_length - 1) & windows.known[episode])
    if not len(full):
        raise UsageError(
            f"no episode of {rollouts.path} has the {config.context_length} steps of the model's context"
        )
    last = np.random.default_rng(seed).choice(full, WINDOWS)
    parts = [
        ablation_effects(model, windows.batch(rows).to(device), torch.arange(_BATCH, device=device).roll(1))
        for rows in np.split(last, WINDOWS // _BATCH)
    ]
    level = rollouts.episodes["level_seed"][episode[last]]

    def interval(name: str, measure: str) -> list[float | None]:
        values = torch.cat([part[name][measure] for part in parts]).cpu().numpy()
        return [json_number(x) for x in cluster_bootstrap(values, level)[:3]]

    return {
        name: {measure: interval(name, measure) for measure in effect} for name, effect in parts[0].items()
    }


@torch.no_grad()
def ablation_effects(
    model: DecisionTransformer, batch: DTBatch, donor: torch.Tensor
) -> dict[str, dict[str, torch.Tensor]]:
    """Effect of each input on the action at the last step of each window.

    Args:
        model: the network.
        batch: B windows without padding.
        donor: [B], for each window another one whose values replace its own; times stay.

    Returns:
        {input: {"kl": [B] nats from the ablated to the model's own distribution, "changed": [B] bool, whether
        the most likely action is another}}, for the inputs that the model has.

    Raises:
        ValueError: a window is padded.
    """
    if not batch.mask.all():
        raise ValueError("the windows are padded: ablate inputs in windows that episodes fill")
    own = model(batch)[:, -1].log_softmax(-1)
    effects = {}
    for name in INPUTS if model.config.conditioned else INPUTS[1:]:
        ablated = replace(batch, **{name: getattr(batch, name)[donor]})
        other = model(ablated)[:, -1].log_softmax(-1)
        kl = (own.exp() * (own - other)).sum(-1)
        effects[name] = {"kl": kl, "changed": own.argmax(-1) != other.argmax(-1)}
    return effects
