"""What single frames of a study show of its concepts, read by networks that never saw the layout: made once for a store, shared by all
agents."""

from pathlib import Path

import numpy as np

from analysis.artefacts import part
from analysis.concepts import VERSION as CONCEPTS_VERSION
from analysis.probe_data import FOLDS, Study
from analysis.steps import finish_step, open_step
from common.precision import Precision
from common.progress import progress_bar
from interpret.frame_cnn import read_from_frames

NAME, VERSION = "frame_baseline", 1


def frame_baseline(
    study: Study, num_episodes: int, epochs: int, seed: int, out_dir: Path, new: bool, precision: Precision
) -> np.ndarray:
    """[n, K]: what is read of every target from the frame alone. Trained fold by fold; a fold that is there already is not trained
    again."""
    asked = {"concepts": CONCEPTS_VERSION, "num_episodes": num_episodes, "epochs": epochs, "seed": seed}
    run = open_step(out_dir, NAME, VERSION, asked, {"data_dir": study.rollouts.id}, new, precision)
    frames = None if run.done else study.column("obs")
    read = np.empty(study.targets.truth.shape, np.float32)
    shown = (FOLDS - 1) * len(study.rows) * epochs
    with progress_bar(total=shown, unit="frame", unit_scale=True, desc="frame baseline", disable=run.done) as bar:
        for fold in range(FOLDS):
            test = np.flatnonzero(study.folds == fold)
            begun = bar.n

            def train() -> dict[str, np.ndarray]:
                return {"read": read_from_frames(frames, study.targets.truth, study.targets.classes, test, epochs, seed + fold, bar.update, run.precision)}

            read[test] = part(run, f"fold_{fold}", train)["read"]
            bar.update(begun + epochs * (len(study.rows) - len(test)) - bar.n)
    if not run.done:
        finish_step(run, {"store": study.rollouts.id, "concepts": study.targets.names})
    return read
