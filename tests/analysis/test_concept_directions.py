"""Directions to push: a concept is written as the state covaries with its probe, in standard deviations."""

import numpy as np
import pytest

from analysis.concept_directions import push_directions

CONCEPTS = ("seen", "speed")


@pytest.fixture(scope="module")
def states():
    """States [n, 6] that hold two correlated concepts along known columns, and noise of other directions."""
    rng = np.random.default_rng(0)
    speed = rng.normal(size=4000)
    seen = speed + rng.normal(size=4000) > 0
    columns = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = np.outer(2.0 * seen, columns[0]) + np.outer(speed, columns[1])
    x += 0.5 * rng.normal(size=(4000, 4)) @ columns[2:]
    return x.astype(np.float32), np.repeat(np.arange(100), 40), dict(zip(CONCEPTS, (seen, speed)))


@pytest.fixture(scope="module")
def made(states):
    return push_directions(*states, components=3, seed=0)


def test_a_score_has_mean_0_and_standard_deviation_1(states, made):
    scores = states[0] @ made.read.numpy().T + made.offset.numpy()
    assert scores.mean(0) == pytest.approx(0, abs=1e-4)
    assert scores.std(0) == pytest.approx(1, abs=1e-3)


def test_a_column_is_how_the_state_covaries_with_its_own_score(states, made):
    scores = states[0] @ made.read.numpy().T + made.offset.numpy()
    for k in range(len(CONCEPTS)):
        slope = np.cov(states[0].T, scores[:, k])[-1, :-1]
        assert made.write[:, k].numpy() == pytest.approx(slope, abs=1e-2)
        assert float(made.read[k] @ made.write[:, k]) == pytest.approx(1, abs=1e-6)


def test_correlated_concepts_share_what_they_have_in_common(made):
    """Unlike probes that are fit together, of which each column leaves out the other concept."""
    one, other = made.write[:, :2].T.numpy()
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.3


def test_concepts_come_first_and_components_follow(made):
    assert made.names == (*CONCEPTS, "pc_0", "pc_1", "pc_2")
    assert set(made.provenance["held_out"]) == set(CONCEPTS)
