"""Vectors of the whole loop: blocks of states side by side, each with the same weight, with how they change, and their principal axes."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.artefacts import part
from analysis.hidden_states import States
from analysis.points import changing
from analysis.sampled_states import pieces
from analysis.steps import fitted
from common.runs import Run, UsageError
from common.words import counted
from interpret.directions import Directions
from interpret.fitting import orient, principal, sample_of
from interpret.streamed_pca import streamed_pca
from rollouts.store import Rollouts

FEATURES = 512
"""Of the environment's state, drawn at random, that are factorised: all of them would take hours."""


def environment_axes(run: Run, rollouts: Rollouts, kept: np.ndarray, begin: int, components: int, seed: int) -> tuple[Directions, dict]:
    """Principal directions of the kept steps' environment states from step `begin` on, saved as `env_pca` of the run, and how much of their
    variance they hold. Raises UsageError where no episode lasts so long."""
    later = kept & (rollouts.step_table()[:, 1] >= begin)
    if not later.any():
        raise UsageError(f"no episode of {rollouts.path} has a step {begin}: give a smaller --begin, or record longer ones, with --num_sim_steps")

    def fit():
        found = streamed_pca(lambda: pieces(rollouts, "env_state", later), components, seed)
        return found.with_provenance(store=rollouts.id, site="env_state")

    axes = fitted(run, "env_pca", fit)
    told = axes.provenance
    shares = np.array(told["variance"]) / told["total_variance"]
    return axes, {"env": {"width": axes.width, "changing": told["total_variance"], "axes": len(axes), "shares": shares.tolist()}}


def some_features(rollouts: Rollouts, kept: np.ndarray, seed: int) -> np.ndarray:
    """FEATURES random ones [n, F] of the environment's state at the kept steps; all where there are no more."""
    width = rollouts.step_fields["env_state"].shape[0]
    columns = np.sort(np.random.default_rng([seed, 17]).permutation(width)[:FEATURES])
    return np.concatenate([piece[:, columns].astype(np.float32) for piece in pieces(rollouts, "env_state", kept)])


def moments_with(states: States, begin: int, ahead: int = 0, most: int | None = None) -> np.ndarray:
    """Rows of the steps from `begin` on that have one `ahead` steps later in their episode; of each episode the first `most`.

    Raises UsageError for none.
    """
    last = np.append(np.flatnonzero(states.step == 0)[1:], len(states)) - 1  # of each episode
    left = np.repeat(last, np.diff(np.append(-1, last))) - np.arange(len(states))
    rows = np.flatnonzero((left >= ahead) & (states.step >= begin) & (states.step < begin + (len(states) if most is None else most)))
    if not len(rows):
        raise UsageError(f"no episode lasts {counted(begin + ahead + 1, 'step')}: record longer ones, with --num_sim_steps, or ask for changes over fewer steps")
    return rows


def joined(blocks: Mapping[str, np.ndarray], rows: np.ndarray, ahead: Sequence[int] = ()) -> np.ndarray:
    """Blocks [n, d] at rows [m] side by side, then their changes over `ahead` steps: [m, (1 + len(ahead)) * sum of d] float32.

    Every block, and every block of changes, is centred and divided by the root of its total variance, so that wide ones do not outweigh narrow
    ones (after multiple factor analysis, Escofier & Pagès 1994).
    """
    parts = [block[rows] for block in blocks.values()]
    parts += [block[rows + steps] - block[rows] for steps in ahead for block in blocks.values()]
    return np.concatenate([_weighed(part.astype(np.float32)) for part in parts], 1)


def _weighed(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(0)
    return centred / max(np.sqrt(centred.var(0).sum()), 1e-12)


def principal_scores(run: Run, name: str, vectors: np.ndarray, components: int) -> tuple[np.ndarray, dict]:
    """Scores [n, K] of vectors [n, D] on their leading principal axes, which are saved as part `name` of the run; and what these hold.

    Not of standardised features: that would undo the weights of `joined`.
    """
    columns = changing(vectors)

    def fit():
        sample = sample_of(vectors[:, columns], np.zeros(len(vectors)))
        axes, variance = principal(sample.covariance, min(components, len(columns)))
        return {"axes": axes * orient(axes.T)[:, None], "mean": sample.mean, "variance": variance, "total": np.trace(sample.covariance)[None]}

    found = part(run, name, fit)
    scores = ((vectors[:, columns] - found["mean"]) @ found["axes"].T).astype(np.float32)
    return scores, {name: {"axes": len(found["axes"]), "shares": (found["variance"] / found["total"]).tolist()}}
