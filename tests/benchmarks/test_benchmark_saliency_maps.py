"""The comparisons of saliency maps against cosines computed by hand; every size changes a number."""

import json

import numpy as np
import pytest

from benchmarks import saliency_maps
from benchmarks.saliency_maps import cosines, other_actions, stored
from tests.helpers.toy_simulator import save_toy_files

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    return path


def args_of(made, out, **changed) -> saliency_maps.Args:
    files = made / "agent.safetensors", made / "model.safetensors", made / "store"
    small = dict(num_samples=4, num_noisy=3, noise_levels=(0.001, 0.3), draws=2, batch_size=3, log_level=40)
    return saliency_maps.Args(*files, **small | changed, out_file=out)


def run(made, out, **changed) -> dict:
    saliency_maps.main(args_of(made, out, **changed))
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def report(made):
    return run(made, made / "out.json")


def by_hand(one, other, name) -> np.ndarray:
    pairs = [(one.map(i, name).ravel(), other.map(i, name).ravel()) for i in other.samples]
    return np.array([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs])


def test_the_report_holds_cosines_of_the_maps(made, report, tmp_path):
    source = saliency_maps.make_source(args_of(made, tmp_path))
    split = stored(source, 4, 2, tmp_path / "split", paths=True)
    plain, noisy, coarse = (
        stored(source, 3, 3, tmp_path / name, **changed)
        for name, changed in (
            ("plain", {}), ("noisy", {"draws": 2, "noise": 0.3}), ("bf16", {"precision": "bf16"}),
        )
    )  # fmt: skip
    for name in ("value", "action"):
        found = np.quantile(by_hand(plain, noisy, name), [0.5, 0.1])
        assert list(report["noise"][1][name].values()) == pytest.approx(found, abs=1e-3)
        assert report["bf16"][name]["median"] == pytest.approx(
            np.median(by_hand(plain, coarse, name)), abs=1e-3
        )
        held = [
            np.vdot(split.map(i, name), split.map(i, f"{name}@agent"))
            / np.linalg.norm(split.map(i, name)) / np.linalg.norm(split.map(i, f"{name}@agent"))
            for i in range(4)
        ]  # fmt: skip
        norms = [[np.linalg.norm(split.map(i, f"{name}@{p}")) for p in ("mixed", "agent")] for i in range(4)]
        assert report["largest_mixed"][name] == np.argmax([mixed / agent for mixed, agent in norms])
        assert report["paths"][name]["cosine"]["mean"] == pytest.approx(np.mean(held), abs=1e-3)
    assert report["noise"][1]["value"]["median"] < report["noise"][0]["value"]["median"] - 0.001
    assert report["bf16"]["value"]["median"] < 1 - 1e-6
    assert report["inputs"]["data_dir"] == source.rollouts.id


def test_another_action_at_any_step_counts(made, tmp_path):
    source = saliency_maps.make_source(args_of(made, tmp_path))
    one = stored(source, 3, 3, tmp_path / "one")
    other = stored(source, 3, 3, tmp_path / "other")
    assert other_actions(one, other) == 0
    clips = {i: other.clip(i) | {"action": other.clip(i)["action"].copy()} for i in range(3)}
    clips[1]["action"][2] += 1
    other.clip = clips.get
    assert other_actions(one, other) == 1
    assert cosines(one, other)["value"]["low"] == pytest.approx(1)


@pytest.mark.parametrize(
    "changed",
    [dict(seed=1), dict(num_samples=3), dict(num_noisy=2), dict(draws=3), dict(noise_levels=(0.001, 0.2))],
)
def test_a_flag_changes_a_number(made, report, tmp_path, changed):
    other = run(made, tmp_path / "out.json", **changed)
    kept = ("paths", "noise", "bf16")
    assert any(other[name] != report[name] for name in kept)
    assert (other["paths"] == report["paths"]) == (not {"seed", "num_samples"} & changed.keys())
