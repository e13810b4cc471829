"""Jacobians that analysis/jacobian_analysis_precompute.py stored, read back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.checkpoints import BadCheckpoint, load_checkpoint
from common.descriptions import read_json
from common.errors import UsageError
from interpret.attribution.jacobians import in_scores
from interpret.directions.directions import Directions, load_directions

COMMAND = (
    "python analysis/jacobian_analysis_precompute.py --world_model_file MODEL --agent_file AGENT "
    "--data_dir STORE"
)
"""Computes them."""


@dataclass(frozen=True, repr=False)
class StoredJacobians:
    """Jacobians of n samples, of K scores at one step, at lags 0 to L - 1.

    Args:
        directory: of the finished step.
        numbers: of the step.
        directions: of the K scores.
        samples: episode and group [n] (samples of one recorded episode form a group), length [n], scores of
            all steps of these episodes [sum of lengths, K], and score_std [K], their standard deviations.
        arrays: {"<input>/<path>": [n, L, K, width]}.
    """

    directory: Path
    numbers: dict
    directions: Directions
    samples: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

    @classmethod
    def open(cls, directory: Path) -> "StoredJacobians":
        """Those of a finished directory, such as results/jacobians_precomp/latest.

        Raises:
            UsageError: there are none, or a part is missing or damaged.
        """
        directory = Path(directory).resolve()
        parts = [_read(path) for path in sorted(directory.glob("batch_*.safetensors"))]
        if not parts or not (directory / "done.json").exists():
            raise UsageError(f"no finished Jacobians at {directory}; compute them with: {COMMAND}")
        kept = np.concatenate([part["replayed"] for part in parts])
        names = [name for name in parts[0] if "/" in name and not name.startswith("full_")]
        return cls(
            directory,
            read_json(directory / "numbers.json", "recompute the step with --new"),
            load_directions(directory / "directions.safetensors"),
            _read(directory / "samples.safetensors"),
            {name: np.concatenate([part[name] for part in parts])[kept] for name in names},
        )

    def __repr__(self) -> str:
        n, lags, scores = self.arrays["hidden/total"].shape[:3]
        return (
            f"StoredJacobians({n} samples, {scores} scores, lags 0 to {lags - 1}: {', '.join(self.arrays)})"
        )

    @property
    def names(self) -> tuple[str, ...]:
        return self.directions.names

    @property
    def caption(self) -> tuple[str, str]:
        """Number of samples, and levels, in words."""
        facts = self.numbers
        return facts["n"], facts["levels"]

    def in_scores(self, path: str) -> np.ndarray:
        """Jacobians [n, L, K', K] float32 along a path, total or agent, in standard deviations.

        Entry (i, j) at lag l: change of score j, in its standard deviations, when score i of the hidden state
        l steps earlier is written one standard deviation higher.
        """
        return standardised_scores(self.arrays[f"hidden/{path}"], self.directions, self.samples["score_std"])


def standardised_scores(hidden: np.ndarray, directions: Directions, std: np.ndarray) -> np.ndarray:
    """Gradients [n, L, K, D] to hidden states as `StoredJacobians.in_scores`; std [K] of the scores."""
    jacobian = in_scores(torch.from_numpy(hidden), directions).numpy()
    return jacobian * (std[:, None] / std).astype(np.float32)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one file. Raises UsageError if it is missing or damaged."""
    try:
        tensors = load_checkpoint(path)[0]
    except BadCheckpoint as error:
        raise UsageError(f"{path.parent} lacks a part ({error}); recompute it with --new") from error
    return {name: tensor.numpy() for name, tensor in tensors.items()}
