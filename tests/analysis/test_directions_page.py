"""The page on directions: its programs run, as they stand there, on a recording of the smallest agent."""

import re
from pathlib import Path

import numpy as np

from agents.actor_critic import save_agent
from interpret.directions.directions import load_directions
from tests.helpers.toy_world import toy_agent, toy_episode, with_agent, write_toy_store


def test_the_programs_of_the_page_run(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    agent = toy_agent(8)
    rollouts = write_toy_store(
        tmp_path / "data" / "coinrun",
        [with_agent(toy_episode(rng, 30), agent) for _ in range(400)],
        agent,
        per_level=1,
    )
    shipped = tmp_path / "pretrained" / "coinrun_easy_200" / "seed_0_finished"
    shipped.mkdir(parents=True)
    save_agent(shipped / "model.safetensors", agent, {})
    page = (Path(__file__).parents[2] / "docs" / "directions.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(first, names)
    found = load_directions(tmp_path / "pca.safetensors")
    assert found.provenance["store"] == rollouts.id
    assert len(found.provenance["stability"]["median"]) == 2
    edited = found.scores(names["edited"])
    assert edited[:, 0].abs().max() < 1e-4
    assert np.allclose(edited[:, 1], found.scores(names["h"])[:, 1], atol=1e-4)
    exec(second, names)
    (states, *_), (changed, *_) = names["changed"], (names["states"],)
    assert np.array_equal(states[:2], changed[:2])
    assert not np.allclose(states[2], changed[2])
    assert found.scores(states[2]).abs().max() < 1e-4
    assert names["cache"]["core.cell.update"].shape == (12, 8)
