"""The benchmark of maps: every step at every size with their sum, and both t-SNEs on the same points."""

import json

import numpy as np

from benchmarks import maps


def test_every_step_is_timed_and_summed(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "FITS", ("pca",))
    monkeypatch.setattr(maps, "CLUSTERS", 4)
    args = maps.Args((4000, 2400), 8, 2, 200, 1, tmp_path / "out.json")
    maps.main(args)
    found = json.loads((tmp_path / "out.json").read_text())
    steps = ["outliers", "clusters", "pca", "all"]
    assert [(row["method"], row["states"]) for row in found["rows"]] == [
        (step, count) for count in (2400, 4000) for step in steps
    ]
    rows = found["rows"][:3]
    assert np.isclose(found["rows"][3]["cpu_s"], sum(row["cpu_s"] for row in rows))
    assert found["rows"][3]["peak_bytes"] == max(row["peak_bytes"] for row in rows)
    assert all(row["within"] for row in found["rows"])
    assert 0 < rows[1]["explained"] < 1
    assert 0.8 < rows[0]["explained"] < 1
    assert list(found["tsne"]) == ["openTSNE", "scikit-learn"]
    assert all(
        row["cpu_s"] > 0 and row["explained"] > 0.8 and row["states"] == 200 for row in found["tsne"].values()
    )


def test_a_part_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "FITS", ())
    maps.main(maps.Args((), tsne_points=250, width=8, num_threads=1, out_file=tmp_path / "out.json"))
    assert "rows" not in json.loads((tmp_path / "out.json").read_text())
    maps.main(maps.Args((2400,), tsne_points=0, width=8, num_threads=1, out_file=tmp_path / "out.json"))
    assert "tsne" not in json.loads((tmp_path / "out.json").read_text())
