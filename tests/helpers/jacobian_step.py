"""A finished step of Jacobians with planted content, as analysis/jacobian_analysis_precompute.py has it."""

from pathlib import Path

import numpy as np
import torch

from analysis.io.artefacts import cached_part
from analysis.io.steps import cached_directions, finish_step, open_step
from analysis.lagged.stored_jacobians import NAME, VERSION
from interpret.directions.directions import Directions

STORE = "a_made_store"


def unit_directions(count: int) -> Directions:
    """The units of a hidden state, as they are."""
    unit = torch.eye(count)
    return Directions(unit, torch.zeros(count), unit, torch.zeros(count), [f"d{i}" for i in range(count)])


def write_jacobian_step(
    out_dir: Path,
    total: np.ndarray,
    agent: np.ndarray,
    scores: np.ndarray,
    group: np.ndarray | None = None,
    batch: int = 64,
    replayed: np.ndarray | None = None,
) -> Path:
    """Directory of the step.

    Args:
        out_dir: of all artefacts.
        total: Jacobians [n, L, K, K], rows earlier and columns later scores.
        agent: likewise, of memory alone.
        scores: [n, T, K], of variance 1.
        group: [n]; by default every sample is one.
        batch: samples per part.
        replayed: [n] bool, samples that count; the others have Jacobians but no scores.
    """
    n, lags, K, _ = total.shape
    replayed = np.ones(n, bool) if replayed is None else replayed
    run = open_step(out_dir, NAME, VERSION, {"made": str(total.sum())}, {})
    cached_directions(run, "directions", lambda: unit_directions(K))
    for index, at in enumerate(range(0, n, batch)):
        rows = slice(at, at + batch)
        part = {
            "hidden/total": total[rows].transpose(0, 1, 3, 2).astype(np.float32),
            "hidden/agent": agent[rows].transpose(0, 1, 3, 2).astype(np.float32),
            "replayed": replayed[rows],
        }
        cached_part(run, f"batch_{index:04d}", lambda part=part: part)
    kept = int(replayed.sum())
    columns = {
        "episode": np.flatnonzero(replayed),
        "group": (np.arange(n) if group is None else group)[replayed],
        "length": np.full(kept, scores.shape[1]),
        "scores": scores[replayed].reshape(-1, K).astype(np.float32),
        "score_std": np.ones(K, np.float32),
    }
    cached_part(run, "samples", lambda: columns)
    facts = {"step": lags - 1, "lags": lags, "names": [f"d{i}" for i in range(K)], "directions": "made"}
    words = {"method": "units", "n": f"{kept} simulated episodes", "levels": "none (made)", "store": STORE}
    finish_step(run, facts | words | {"samples": kept, "groups": kept})
    return run.dir


def write_clusters(out_dir: Path, cluster: np.ndarray, store: str = STORE, **facts) -> Path:
    """Directory of a finished map whose episodes have these behaviours [n]."""
    run = open_step(out_dir, "made_clusters", 1, {"made": cluster.tolist(), **facts}, {})
    cached_part(run, "behaviours", lambda: {"episode": np.arange(len(cluster)), "cluster": cluster})
    finish_step(run, {"store": store, "clusters": int(cluster.max()) + 1, **facts})
    return run.dir
