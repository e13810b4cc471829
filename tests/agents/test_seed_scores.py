"""Scores over training seeds: the interval is a t interval of the seeds' means, and files of other levels are
refused.
"""

import json

import numpy as np
import pytest
from scipy import stats

from agents.seed_scores import Args, main, over_seeds
from common.runs import UsageError


def write(path, seed: int, rewards, levels=(0, 0, 1, 1)):
    columns = {"level": list(levels), "repeat": [0, 1, 0, 1], "total_reward": list(rewards)}
    path.write_text(json.dumps({"asked": {"agent_file": f"seed_{seed}"}, "per_episode": columns}))
    return path


def test_the_interval_is_scipys_t_interval_of_the_means(tmp_path):
    rewards = [[10, 0, 10, 10], [10, 10, 10, 10], [0, 0, 10, 0]]
    files = tuple(write(tmp_path / f"{seed}.json", seed, row) for seed, row in enumerate(rewards))
    main(Args(files, tmp_path / "out.json"))
    summary = json.loads((tmp_path / "out.json").read_text())
    means = np.mean(rewards, axis=1)
    low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    assert summary["each"] == means.tolist()
    assert summary["episodes_each"] == 4
    np.testing.assert_allclose(summary["return"], [means.mean(), low, high])
    main(Args(files[:2], tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text())["return"] != summary["return"]


def test_it_covers_the_true_mean_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    covered = [low <= 5 <= high for _, low, high in (over_seeds(rng.normal(5, 1, 3)) for _ in range(2000))]
    assert 0.93 < np.mean(covered) < 0.97


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    one = write(tmp_path / "a.json", 0, range(4))
    other = write(tmp_path / "b.json", 1, range(4), levels=(0, 0, 2, 2))
    twice = write(tmp_path / "c.json", 0, range(4))
    (tmp_path / "d.json").write_text("[]")
    for files, message in (
        ((one,), "two or more"),
        ((one, other), "other levels"),
        ((one, twice), "twice"),
        ((one, tmp_path / "d.json"), "not what evaluate"),
    ):
        with pytest.raises(UsageError, match=message):
            main(Args(files, tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()
