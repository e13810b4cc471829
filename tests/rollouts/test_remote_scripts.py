"""Scripts that read a labelled store elsewhere compute from it what they compute from one on the disk."""

import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

import saliency_exps
import train_gen_model
from interpret.attribution.saliency_store import SaliencyStore
from rollouts import remote
from rollouts.labelling import label
from rollouts.labels import FOLDER, Labels
from tests.helpers.coinrun_runner import record_runner, save_runner, save_untrained
from tests.rollouts.elsewhere import change_one_bit

FAR = "memory://labelled/store"
SHARDS = 2

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with an agent, a simulator and a labelled store, which lies elsewhere too."""
    path = tmp_path_factory.mktemp("made")
    fsspec.filesystem("memory").store.clear()
    save_runner(path / "agent.safetensors")
    save_untrained(path / "model.safetensors", path / "agent.safetensors")
    for place in (path / "store", FAR):
        store = record_runner(place, path / "agent.safetensors", 24, per_shard=12)
        label(store, range(SHARDS), num_threads=1)
    return path


def trained(made: Path, store: Path, out_dir: Path) -> bytes:
    """The weights after a short training with labels."""
    sizes = {"num_batches": 5, "batch_size": 2, "motion_batch_size": 2, "num_sim_steps": 3}
    args = train_gen_model.Args(
        made / "agent.safetensors",
        store,
        interpreting_params_name="tiny",
        labels="use",
        device="cpu",
        precision="fp32",
        out_dir=out_dir,
        **sizes,
    )
    train_gen_model.main(args)
    (weights,) = out_dir.rglob("model_5.safetensors")
    return weights.read_bytes()


def test_a_world_model_trained_elsewhere_has_the_same_weights(made, tmp_path):
    weights = [
        trained(made, place, tmp_path / name)
        for name, place in (("here", made / "store"), ("there", Path(FAR)))
    ]
    assert weights[0] == weights[1]


def test_saliency_of_a_store_elsewhere_has_the_same_bits(made, tmp_path):
    maps = []
    for name, place in (("here", made / "store"), ("there", Path(FAR))):
        args = saliency_exps.Args(
            made / "model.safetensors",
            made / "agent.safetensors",
            data_dir=place,
            num_sim_steps=4,
            step=2,
            sample_ids=("0", "to", "4"),
            batch_size=2,
            draws=1,
            device="cpu",
            out_dir=tmp_path / name,
        )
        saliency_exps.main(args)
        maps.append(SaliencyStore.open((tmp_path / name / "latest").resolve()))
    one, other = maps
    for sample in range(4):
        for function in one.functions:
            assert np.array_equal(one.map(sample, function), other.map(sample, function))


def test_copies_of_labels_on_the_disk_have_no_name_and_are_few(made, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(remote, "CACHE_BYTES", 1)
    here, there = Labels.open(made / "store"), Labels.open(FAR)
    for index in (0, 1, 0):
        assert np.array_equal(here.column(index, "tiles"), there.column(index, "tiles"))
    assert list(tmp_path.iterdir()) == []
    assert there._columns.cache_info().currsize == 1
    assert here._columns.cache_info().currsize == SHARDS


def test_training_refuses_labels_that_changed_elsewhere(made, tmp_path):
    damaged = f"{FAR}/{FOLDER}/labels_00000.safetensors"
    change_one_bit(damaged)
    with pytest.raises(ValueError, match="labels_00000.* is damaged: it does not match its checksum"):
        trained(made, Path(FAR), tmp_path)
    change_one_bit(damaged)
