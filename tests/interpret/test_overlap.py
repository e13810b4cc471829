"""Effect sizes between real and simulated states: none between equal samples, and none from knowing the
levels.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from analysis import show_hx_overlap
from analysis import show_hx_overlap_precompute as precompute
from analysis.hidden_analysis_precompute import check_stores
from common.runs import UsageError
from interpret import overlap
from interpret.overlap import StateSample, auroc, median_distance, mmd2, out_of_fold_scores, split_levels
from rollouts.store import Rollouts
from tests.helpers.map_store import write_map_store

LEVELS = 60
STEPS = 12


def cloud(
    seed: int, spread: float = 1.0, shift: float = 0.0, first_level: int = 0, by_level: float = 0.0
) -> StateSample:
    rng = np.random.default_rng(seed)
    level = first_level + np.repeat(np.arange(LEVELS), STEPS)
    own = by_level * rng.normal(size=(LEVELS, 4))[level - first_level]
    return StateSample(
        own + shift + spread * rng.normal(size=(len(level), 4)), level, np.tile(np.arange(STEPS), LEVELS)
    )


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Fewer resamples and trees than a real run takes."""
    monkeypatch.setattr(overlap, "RESAMPLES", 40)
    monkeypatch.setitem(
        overlap.CLASSIFIERS,
        "trees",
        lambda seed: HistGradientBoostingClassifier(max_iter=20, random_state=seed),
    )


def area(a: StateSample, b: StateSample, kind: str) -> float:
    return auroc(a, b, *out_of_fold_scores(a, b, kind), np.ones(len(a.x) + len(b.x), bool)).value


def test_the_classifier_separates_different_samples_but_not_equal_ones():
    reference = cloud(0, first_level=1000)
    assert abs(area(cloud(1), reference, "linear") - 0.5) < 0.06
    assert abs(area(cloud(1), reference, "trees") - 0.5) < 0.06
    assert area(cloud(1, shift=1), reference, "linear") > 0.85
    wide = cloud(1, spread=2.5)
    assert area(wide, reference, "trees") > 0.8 > 0.62 > area(wide, reference, "linear"), (
        "another spread: only the trees can see it"
    )


def test_the_auroc_is_that_of_scikit_learn():
    a = cloud(1, shift=0.3)
    b = cloud(0, first_level=1000)
    scores, first = out_of_fold_scores(a, b, "linear")
    rows = np.arange(len(first)) % 3 > 0
    assert np.isclose(auroc(a, b, scores, first, rows).value, roc_auc_score(first[rows], scores[rows]))


def test_levels_are_held_out_whole():
    a = cloud(1, by_level=3)
    b = cloud(0, first_level=1000, by_level=3)
    mixed = (
        a._replace(level=np.arange(len(a.x))),
        b._replace(level=10_000 + np.arange(len(b.x))),
    )  # the control: folds by state
    assert area(*mixed, "trees") > 0.7
    assert area(a, b, "trees") < 0.62


def test_the_interval_is_over_levels():
    a = cloud(1, by_level=3)
    b = cloud(0, first_level=1000, by_level=3)
    scores, first = out_of_fold_scores(a, b, "linear")
    everything = np.ones(len(first), bool)
    alone = (
        a._replace(level=np.arange(720)),
        b._replace(level=1000 + np.arange(720)),
    )  # the control: each state a level of its own
    by_level, by_state = (auroc(p, q, scores, first, everything) for p, q in ((a, b), alone))
    assert by_level.high - by_level.low > 1.5 * (by_state.high - by_state.low)


def test_mmd_equals_a_direct_sum_and_is_near_zero_for_equal_samples():
    a = np.array([[0.0], [1.0]])
    b = np.array([[0.0], [2.0]])

    def k(d):
        return np.exp(-(d**2) / 2)

    assert np.isclose(mmd2(a, b, 1.0), k(1) + k(2) - 2 * np.mean([k(0), k(2), k(1), k(1)]))
    same, other = (mmd2(cloud(i).x, cloud(9).x, 2.0) for i in (1, 2))
    assert max(abs(same), abs(other)) < 0.005 < mmd2(cloud(1, shift=0.5).x, cloud(9).x, 2.0)
    assert np.isclose(median_distance(np.array([[0.0], [1.0], [3.0]])), 2)


def test_halves_are_disjoint_and_too_few_levels_are_refused():
    ours, others = split_levels(np.repeat(np.arange(50), 3))
    assert not set(ours) & set(others)
    assert len(ours) == len(others) == 25
    with pytest.raises(UsageError, match="record more"):
        split_levels(np.arange(19))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("overlap")
    real = write_map_store(directory / "real", 80)
    write_map_store(directory / "same", 60, seed=1, source=real)
    write_map_store(directory / "far", 60, seed=1, shift=1.5, source=real)
    return directory


def run(made: Path, sim: str, out: Path, **changed) -> dict:
    precompute.main(precompute.Args(made / "real", made / sim, out_dir=out, **({"points": 200} | changed)))
    return json.loads((out / "hx_overlap_precomp" / "latest" / "numbers.json").read_text())


def test_a_shifted_simulation_exceeds_the_real_baseline_and_is_drawn_without_stores(made, tmp_path, capsys):
    far = run(made, "far", tmp_path)
    simulated, real = (far["auroc"][side]["linear"]["all"] for side in ("simulated", "real"))
    assert simulated["low"] > 0.85
    assert real["value"] < 0.62
    assert np.mean(far["mmd2"]["simulated"]) > 5 * np.max(far["mmd2"]["real"])
    assert len(far["mmd2"]["real"]) == 20
    show_hx_overlap.main(show_hx_overlap.Args(out_dir=tmp_path))
    assert "real against real" in capsys.readouterr().out
    assert len(list((tmp_path / "hx_overlap_plots").rglob("agent_h_overlap.png"))) == 1
    same = run(made, "same", tmp_path)
    assert same["auroc"]["simulated"]["linear"]["all"]["value"] < 0.62
    assert run(made, "same", tmp_path, num_sim_episodes=40)["n"] != same["n"]
    assert (
        run(made, "same", tmp_path, points=100)["mmd2"]
        != same["mmd2"]
        != run(made, "same", tmp_path, seed=1)["mmd2"]
    )
    assert run(made, "same", tmp_path)["mmd2"] == same["mmd2"]
    assert len(list((tmp_path / "hx_overlap_precomp").glob("hx_*"))) == 5
    run(made, "same", tmp_path, new=True)
    assert len(list((tmp_path / "hx_overlap_precomp").glob("hx_*"))) == 6


def test_the_twin_of_a_simulation_is_what_was_recorded_from_its_start(made):
    real = Rollouts.open(made / "real")
    sim = Rollouts.open(made / "same")
    states, twins = precompute.load_clouds(real, sim, 60, 0)
    row = real.first_step[7] + 2 + 3
    mine = np.flatnonzero((twins.level == 107) & (twins.k == 3))
    assert np.array_equal(twins.x[mine[0]], real.hidden_after()[row])
    assert set(twins.level) == set(states.level)


def test_another_store_than_the_simulation_began_from_is_refused(made, tmp_path):
    write_map_store(tmp_path / "real", 30, seed=5)
    with pytest.raises(UsageError, match="give the store that it starts from"):
        precompute.main(precompute.Args(tmp_path / "real", made / "same", out_dir=tmp_path))
    with pytest.raises(UsageError, match="holds real episodes"):
        check_stores(Rollouts.open(made / "real"), Rollouts.open(made / "real"))
    with pytest.raises(UsageError, match="show_hx_overlap_precompute"):
        show_hx_overlap.main(show_hx_overlap.Args(out_dir=tmp_path))
