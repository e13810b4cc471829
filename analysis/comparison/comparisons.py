"""Actions and representations of all networks against the agent's."""

from collections.abc import Mapping

import numpy as np

from analysis.comparison.agreement import agreement, situations
from analysis.comparison.networks import Activations
from analysis.comparison.watched import AGENT, OTHER, UNTRAINED, UNTRAINED_DT
from analysis.probing.dataset import ProbeDataset
from common.progress import progress_bar
from envs.procgen import GAMES, action_space
from envs.vecenv import class_probabilities
from interpret.cka import jackknife, layout_cka


def compare_actions(
    dataset: ProbeDataset,
    concepts: Mapping[str, np.ndarray],
    watched: Mapping[str, Activations],
    seed: int,
) -> dict[str, dict]:
    """{network: agreement with the agent by situation}, of every network but the untrained ones.

    Args:
        dataset: the n steps.
        concepts: columns [n].
        watched: what the networks compute at these steps.
        seed: of the resamples of layouts.
    """
    game = dataset.rollouts.manifest.get("env", {}).get("env_name")
    num_actions = watched[AGENT].logits.shape[1]
    classes = np.array(action_space(game).effect_classes if game in GAMES else range(num_actions))
    where = situations(concepts, classes[dataset.column("action")], dataset.time)
    own = class_probabilities(watched[AGENT].logits, classes)
    return {
        name: agreement(own, class_probabilities(found.logits, classes), dataset.groups, where, seed)
        for name, found in watched.items()
        if name not in (AGENT, UNTRAINED, UNTRAINED_DT)
    }


def compare_representations(
    readers: Mapping[str, np.ndarray], layouts: np.ndarray, draws: int, seed: int
) -> dict:
    """Debiased CKA between all readers, with intervals by layout.

    Returns:
        `names` of M readers; `value`, `low` and `high` [M, M]; where there is an agent of another seed,
        `over_other_seed`: {name: CKA with the agent less that of the other seed, with interval}.
    """
    with progress_bar(total=draws, unit="draw", desc="CKA") as bar:
        cka = layout_cka(list(readers.values()), layouts, draws, seed, bar.update)
    names = list(readers)
    found = {"names": names} | dict(zip(("value", "low", "high"), (x.tolist() for x in jackknife(cka))))
    if OTHER in readers:
        with_agent = cka[:, names.index(AGENT)]
        less = jackknife(with_agent - with_agent[:, [names.index(OTHER)]])
        found["over_other_seed"] = {name: [float(x[i]) for x in less] for i, name in enumerate(names)}
    return found
