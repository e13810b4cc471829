"""Numbers of interchange patching: what each site restores at each step, with own and with other donors."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from common.progress import progress_bar
from common.stats import estimates, level_weights, mean
from interpret.directions.directions import Directions
from interpret.interventions.interchange import (
    Activations,
    Site,
    decisions,
    of_scenes,
    patched_state,
    recovered,
)

STEP = "interchange"
VERSION = 1
COMMAND = "python -m analysis.interchange_precompute --agent_file AGENT --data_dir STORE"
QUANTITIES = ("jump", "value")


def patch_changes(
    agent: ActorCritic,
    clean: Activations,
    corrupt: Activations,
    hidden: torch.Tensor,
    sites: Sequence[Site],
    directions: Directions | None,
    jumps: Sequence[int],
) -> dict[str, np.ndarray]:
    """What patches change, and what there is to restore.

    Returns:
        `own` and `other` [S, K, Q, B]: change of each of QUANTITIES at the last step by a patch at each site
        and step, from the scene's own clean run, and from another scene (its clean run less its corrupt one).
        `whole` [Q, B]: clean less corrupt.
    """
    count = len(corrupt.states)
    donor = np.roll(np.arange(corrupt.states.shape[1]), 1)
    other_clean, other_corrupt = of_scenes(clean, donor), of_scenes(corrupt, donor)
    unpatched = _quantities(agent, corrupt.states[-1], jumps)
    own, other = (np.zeros((len(sites), count, *unpatched.shape)) for _ in range(2))

    def patched(source: Activations, site: Site, step: int) -> np.ndarray:
        state = patched_state(agent, corrupt, source, hidden, site, step, directions)
        return _quantities(agent, state, jumps)

    with progress_bar(total=len(sites) * count, unit="patch", desc="interchange") as bar:
        for i, site in enumerate(sites):
            for step in range(count):
                own[i, step] = patched(clean, site, step) - unpatched
                other[i, step] = patched(other_clean, site, step) - patched(other_corrupt, site, step)
                bar.update(1)
    return {"own": own, "other": other, "whole": _quantities(agent, clean.states[-1], jumps) - unpatched}


def _quantities(agent: ActorCritic, state: torch.Tensor, jumps: Sequence[int]) -> np.ndarray:
    """[Q, B]."""
    found = decisions(agent, state, jumps)
    return np.stack([found[name] for name in QUANTITIES])


def summarize(changes: Mapping[str, np.ndarray], labels: Sequence[str], layouts: np.ndarray) -> dict:
    """What each site restores, by quantity, with intervals by layout.

    Steps are counted back from the decision: the last is 0.
    """
    weights = level_weights(layouts)
    count = changes["own"].shape[1]
    return {
        "scenes": len(layouts),
        "layouts": len(np.unique(layouts)),
        "steps_back": list(range(count - 1, -1, -1)),
        "sites": list(labels),
        "difference": {
            name: {
                "signed": estimates(mean(weights, changes["whole"][q])),
                "size": estimates(mean(weights, np.abs(changes["whole"][q]))),
            }
            for q, name in enumerate(QUANTITIES)
        },
        "restored": {
            name: {
                donor: {
                    label: [
                        estimates(recovered(changes[donor][i, step, q], changes["whole"][q], weights))
                        for step in range(count)
                    ]
                    for i, label in enumerate(labels)
                }
                for donor in ("own", "other")
            }
            for q, name in enumerate(QUANTITIES)
        },
    }
