"""Effects of directions on the heads equal what writing a score changes."""

import json

import numpy as np
import pytest
import torch

from agents.actor_critic import save_agent
from analysis import plot_value_and_action_weights as weights
from analysis.io.artefacts import cached_part
from analysis.io.steps import finish_step, open_step
from analysis.maps.map_summary import STEP, VERSION
from common.runs import UsageError, file_id
from envs.vecenv import ActionSpace
from interpret.directions.directions import save_directions
from interpret.directions.pca import fit_pca
from tests.helpers.toy_world import NOOP, toy_agent

NAMES = ["up", "down", "left", "right", "none"]
WIDTH = 8


@pytest.fixture
def made(tmp_path):
    """An agent, and the artefacts that its weights are expressed with."""
    x = np.random.default_rng(0).normal(size=(400, WIDTH)) @ np.random.default_rng(1).normal(
        size=(WIDTH, WIDTH)
    )
    run = open_step(tmp_path, STEP, VERSION, {}, {})
    pca = fit_pca(x, np.arange(400) // 10, WIDTH)
    save_directions(run.dir / "pca.safetensors", pca)
    cached_part(run, "spread", lambda: {"pca": np.sqrt(pca.provenance["variance"])})
    save_agent(tmp_path / "agent.safetensors", toy_agent(), {"env": {"env_name": "toy"}})
    stores = {
        "states": 400,
        "episodes": 40,
        "levels": [0, 39],
        "agents": [file_id(tmp_path / "agent.safetensors")],
    }
    finish_step(
        run,
        {
            "stores": stores,
            "actions": NAMES,
            "noop": NOOP,
            "methods": {"pca": {}},
            "refused": {"ica": "all Gaussian"},
        },
    )
    return tmp_path, pca


def test_an_effect_equals_the_change_of_the_heads_after_writing_one_deviation(made):
    out, pca = made
    weights.main(weights.Args(out / "agent.safetensors", "pca", out_dir=out))
    (file,) = out.rglob("act_and_val_weights_pca.json")
    numbers = json.loads(file.read_text())
    agent = toy_agent()
    assert numbers["rows"] == ["value", *NAMES]
    assert file.with_suffix(".png").exists()
    h = torch.randn(1, WIDTH)
    scores = pca.scores(h)
    scores[:, 3] += pca.provenance["variance"][3] ** 0.5
    with torch.no_grad():
        (logits, value), (after, value_after) = agent.heads(h), agent.heads(pca.edit(h, scores))
    moved = (after - logits)[0]
    assert np.isclose(numbers["effects"][0][3], (value_after - value).item(), atol=1e-4)
    assert np.allclose(np.array(numbers["effects"])[1:, 3], moved - moved.mean(), atol=1e-4)


def test_actions_with_one_effect_share_a_row_and_num_directions_limits_the_figure(made):
    weight = torch.arange(10.0).reshape(5, 2)
    rows = weights.action_rows(weight, ActionSpace(tuple(NAMES), 4, (0, 1, 2, 4, 4)))
    assert list(rows) == ["up", "down", "left", "none"]
    assert rows["none"].tolist() == [[3.0, 3.0]]
    out, _ = made
    pictures = []
    for most in (8, 3):
        weights.main(weights.Args(out / "agent.safetensors", "pca", most, out_dir=out))
        pictures.append(next(out.rglob("act_and_val_weights_pca.png")).read_bytes())
    assert pictures[0] != pictures[1]


def test_pca_replaces_ica_if_ica_was_not_fit(made, caplog):
    weights.main(weights.Args(made[0] / "agent.safetensors", out_dir=made[0]))
    assert list(made[0].rglob("act_and_val_weights_pca.png"))
    assert "ICA was not fit (all Gaussian)" in caplog.text


def test_missing_directions_and_other_agents_are_refused(made):
    out, _ = made
    with pytest.raises(UsageError, match="--num_directions is 0"):
        weights.main(weights.Args(out / "agent.safetensors", "pca", 0, out_dir=out))
    with pytest.raises(UsageError, match="all Gaussian.*--method"):
        weights.main(weights.Args(out / "agent.safetensors", "ica", out_dir=out))
    save_agent(
        out / "other.safetensors", toy_agent(), {"env": {"env_name": "another"}}
    )  # as wide, and not the one that was recorded
    with pytest.raises(UsageError, match="the directions are of agent .* give the agent that was recorded"):
        weights.main(weights.Args(out / "other.safetensors", "pca", out_dir=out))
