"""Predictions of the baselines that a probe of the hidden state has to beat."""

import numpy as np

from agents.actor_critic import ActorCritic
from analysis.probing.dataset import ProbeDataset, nuisance_features
from interpret.probing.bench import ProbeBench
from interpret.probing.recurrence import rerun_core, untrained_core


def baseline_predictions(
    bench: ProbeBench,
    dataset: ProbeDataset,
    agent: ActorCritic,
    encoder: np.ndarray,
    x: np.ndarray,
    frames: np.ndarray,
) -> dict[str, np.ndarray]:
    """Out-of-fold predictions [n, K] of each baseline but the majority, by name.

    Args:
        bench: of the dataset's targets.
        dataset: the recorded steps.
        agent: whose architecture the untrained core has.
        encoder: [n, F], the encoder's output.
        x: [n], the player's horizontal position.
        frames: [n, K], predictions of the CNN on single frames.
    """
    untrained = rerun_core(untrained_core(agent, bench.seed), encoder, dataset.first_step, dataset.length)
    states = {
        "encoder": encoder,
        "untrained recurrence": untrained,
        "nuisances": nuisance_features(dataset, x),
    }
    return {"frame network": frames} | {
        name: bench.fit(features).predictions for name, features in states.items()
    }
