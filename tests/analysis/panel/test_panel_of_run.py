"""A panel of what saliency_exps.py writes, by simulation and on recorded frames."""

import numpy as np
import pytest

from analysis.saliency_panel import Args, main
from interpret.attribution.saliency_store import SaliencyStore
from interpret.directions.directions import load_directions
from tests.helpers.saliency_run import read_page
from tests.scripts.test_saliency_exps import STEP, STEPS, made, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("float32")


def panel(store: SaliencyStore):
    """Facts, table and clips of the page of a run."""
    main(Args(store.path, nmf_components=2, draws=0))
    return read_page(store.path / "panel.html")


@pytest.fixture(scope="module")
def simulated(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    names = ("value", "value_delta", "hx_direction_1_ica")
    return run(made, folder, saliency_func_type=names, direction_files=(made / "ica.safetensors",))


def test_the_run_keeps_the_directions_it_was_given(made, simulated):
    (path,) = simulated.direction_files
    assert load_directions(path).id == load_directions(made / "ica.safetensors").id


def test_the_panel_shows_samples_maps_and_directions_of_the_run(simulated):
    facts, table, clips = panel(simulated)
    assert [sample["id"] for sample in facts["samples"]] == [3, 1, 4]
    assert {direction["set"] for direction in facts["directions"]} == {"ica"}
    assert table["scores"].shape == (3, STEPS, 3)
    for sample, clip in zip(simulated.samples, clips):
        assert np.array_equal(clip["map/value_delta"], simulated.clip(sample)["map/value_delta"])


def test_only_the_change_of_the_value_reads_the_next_step(simulated):
    facts, *_ = panel(simulated)
    assert [function["steps"] for function in facts["functions"]] == [STEP + 1, STEP + 2, STEP + 1]


def test_the_score_of_a_direction_rises_by_one_with_itself(simulated):
    """At the step that is read, one unit of score 1 adds 1 to its function, and another score adds 0."""
    _, table, _ = panel(simulated)
    assert np.allclose(table["gradient/hx_direction_1_ica"][:, STEP], [[0, 1, 0]] * 3, atol=5e-3)


def test_recorded_frames_make_a_page(made, tmp_path):
    store = run(
        made, tmp_path, data_dir=made / "own", real_frames=True, direction_files=(made / "pca.safetensors",)
    )
    facts, _, clips = panel(store)
    assert facts["recorded"]
    assert len(clips) == len(store.samples)
