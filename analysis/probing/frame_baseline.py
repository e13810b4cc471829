"""Concepts predicted from single frames by CNNs tested on held-out layouts: one baseline for all agents of a
store.
"""

from pathlib import Path

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.steps import finish_step, open_step
from analysis.probing.dataset import FOLDS, ProbeDataset
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from common.precision import Precision
from common.progress import progress_bar
from interpret.probing.frame_cnn import predict_from_frames

NAME = "frame_baseline"
VERSION = 2


def frame_baseline(
    dataset: ProbeDataset,
    num_episodes: int,
    epochs: int,
    seed: int,
    out_dir: Path,
    new: bool,
    precision: Precision,
) -> np.ndarray:
    """Out-of-fold predictions [n, K] of every target from the frame alone; finished folds are only read.

    Args:
        dataset: frames and targets.
        num_episodes: of the dataset; part of the step's key.
        epochs: training epochs per fold.
        seed: of the networks.
        out_dir: where the step is kept.
        force: train again even if it is done.
        precision: of the networks.
    """
    asked = {"concepts": CONCEPTS_VERSION, "num_episodes": num_episodes, "epochs": epochs, "seed": seed}
    run = open_step(out_dir, NAME, VERSION, asked, {"data_dir": dataset.rollouts.id}, new, precision)
    frames = None if run.done else dataset.column("obs")
    read = np.empty(dataset.targets.truth.shape, np.float32)
    shown = (FOLDS - 1) * len(dataset.rows) * epochs
    with progress_bar(
        total=shown, unit="frame", unit_scale=True, desc="frame baseline", disable=run.done
    ) as bar:
        for fold in range(FOLDS):
            test = np.flatnonzero(dataset.folds == fold)
            begun = bar.n

            def train() -> dict[str, np.ndarray]:
                return {
                    "read": predict_from_frames(
                        frames,
                        dataset.targets.truth,
                        dataset.targets.classes,
                        test,
                        epochs,
                        seed + fold,
                        bar.update,
                        run.precision,
                    )
                }

            read[test] = cached_part(run, f"fold_{fold}", train)["read"]
            bar.update(begun + epochs * (len(dataset.rows) - len(test)) - bar.n)
    if not run.done:
        finish_step(run, {"store": dataset.rollouts.id, "concepts": dataset.targets.names})
    return read
