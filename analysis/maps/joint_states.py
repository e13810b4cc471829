"""Joint states of the simulation loop: feature blocks of equal weight, their changes, principal axes."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.steps import cached_directions
from analysis.maps.hidden_states import HiddenStates
from analysis.maps.step_fields import field_chunks
from common.runs import Run, UsageError
from common.words import counted
from interpret.directions.directions import Directions
from interpret.directions.fitting import leading_eigenvectors, orientation_signs, sample_of
from interpret.directions.streamed_pca import streamed_pca
from interpret.subsample import varying_columns
from rollouts.store import Rollouts

FEATURES = 512
"""Random features of the environment state that the NMF factorises: all of them would take hours."""


def environment_axes(
    run: Run, rollouts: Rollouts, mask: np.ndarray, begin: int, components: int, seed: int
) -> tuple[Directions, dict]:
    """Principal components of the environment state, saved as part `env_pca`, and their explained variance.

    Args:
        run: receives the part.
        rollouts: store with environment states.
        mask: steps that are used [num_steps] bool.
        begin: first step of each episode that is used.
        components: number of components.
        seed: of the fit.

    Raises:
        UsageError: no episode has a step `begin`.
    """
    used = mask & (rollouts.step_table()[:, 1] >= begin)
    if not used.any():
        raise UsageError(
            f"no episode of {rollouts.path} has a step {begin}: give a smaller --start_step, or record "
            "longer episodes with --num_sim_steps"
        )

    def fit() -> Directions:
        axes = streamed_pca(lambda: field_chunks(rollouts, "env_state", used), components, seed)
        return axes.with_provenance(store=rollouts.id, site="env_state")

    axes = cached_directions(run, "env_pca", fit)
    total = axes.provenance["total_variance"]
    shares = np.array(axes.provenance["variance"]) / total
    numbers = {"width": axes.width, "changing": total, "axes": len(axes), "shares": shares.tolist()}
    return axes, {"env": numbers}


def random_features(rollouts: Rollouts, mask: np.ndarray, seed: int) -> np.ndarray:
    """FEATURES random features [n, F] of the environment state; all if it has fewer."""
    width = rollouts.step_fields["env_state"].shape[0]
    columns = np.sort(np.random.default_rng([seed, 17]).permutation(width)[:FEATURES])
    chunks = field_chunks(rollouts, "env_state", mask)
    return np.concatenate([chunk[:, columns].astype(np.float32) for chunk in chunks])


def rows_with_future(states: HiddenStates, begin: int, ahead: int = 0, most: int | None = None) -> np.ndarray:
    """Rows of the steps whose episode lasts for `ahead` further steps.

    Args:
        states: of whole episodes.
        begin: first step of each episode that is used.
        ahead: number of further steps.
        most: number of steps per episode, from `begin` on; None for all.

    Raises:
        UsageError: there is no such step.
    """
    last = np.append(np.flatnonzero(states.step == 0)[1:], len(states)) - 1  # of each episode
    remaining = np.repeat(last, np.diff(np.append(-1, last))) - np.arange(len(states))
    end = begin + (len(states) if most is None else most)
    rows = np.flatnonzero((remaining >= ahead) & (states.step >= begin) & (states.step < end))
    if not len(rows):
        raise UsageError(
            f"no episode lasts {counted(begin + ahead + 1, 'step')}: record longer ones with "
            "--num_sim_steps, or use changes over fewer steps"
        )
    return rows


def joint_vectors(
    blocks: Mapping[str, np.ndarray], rows: np.ndarray, ahead: Sequence[int] = ()
) -> np.ndarray:
    """Blocks side by side, followed by their changes over `ahead` steps, each with total variance 1.

    Equal total variance keeps wide blocks from outweighing narrow ones (multiple factor analysis, Escofier &
    Pagès 1994).

    Args:
        blocks: {name: [n, d]}.
        rows: that are used [m].
        ahead: lags, in steps, of the changes.

    Returns:
        [m, (1 + len(ahead)) * sum of d] float32, centred.
    """
    parts = [block[rows] for block in blocks.values()]
    parts += [block[rows + steps] - block[rows] for steps in ahead for block in blocks.values()]
    return np.concatenate([_unit_variance(part.astype(np.float32)) for part in parts], 1)


def _unit_variance(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(0)
    return centred / max(np.sqrt(centred.var(0).sum()), 1e-12)


def principal_scores(run: Run, name: str, vectors: np.ndarray, components: int) -> tuple[np.ndarray, dict]:
    """Scores [n, K] of vectors [n, D] on their principal axes, saved as part `name`, and explained variance.

    Features are not standardised: that would undo the weights of `joint_vectors`.
    """
    columns = varying_columns(vectors)

    def fit() -> dict[str, np.ndarray]:
        sample = sample_of(vectors[:, columns], np.zeros(len(vectors)))
        axes, variance = leading_eigenvectors(sample.covariance, min(components, len(columns)))
        return {
            "axes": axes * orientation_signs(axes.T)[:, None],
            "mean": sample.mean,
            "variance": variance,
            "total": np.trace(sample.covariance)[None],
        }

    pca = cached_part(run, name, fit)
    scores = ((vectors[:, columns] - pca["mean"]) @ pca["axes"].T).astype(np.float32)
    numbers = {"axes": len(pca["axes"]), "shares": (pca["variance"] / pca["total"]).tolist()}
    return scores, {name: numbers}
