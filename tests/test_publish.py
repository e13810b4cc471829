"""Shipping a run: which checkpoints, and that what was there before is replaced."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents import publish
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common.runs import UsageError


def make_run(directory: Path, steps: list[int]) -> None:
    agent = ActorCritic(NetworkConfig(2, (16, 16, 3), feature_size=4, hidden_size=4))
    for step in steps:
        save_agent(directory / f"model_{step}.safetensors", agent, {"timesteps": step, "param_name": "demo", "seed": 0, "env": {}})
    for name in publish.RECORDS:
        (directory / name).write_text("{}")


def test_checkpoints_are_spread_and_replaced(tmp_path):
    make_run(tmp_path / "run", list(range(0, 1001, 100)))
    args = publish.Args(tmp_path / "run", tmp_path / "out", checkpoints=3)
    publish.main(args)
    shipped = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert shipped == ["model_0.safetensors", "model_1000.safetensors", "model_500.safetensors"]
    publish.main(replace(args, checkpoints=2))
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir()) == ["model_0.safetensors", "model_1000.safetensors"]
    assert load_agent(tmp_path / "out" / "model.safetensors")[1]["timesteps"] == 1000
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["timesteps"] == 1000 and set(provenance["ids"]) == {"checkpoints/model_0.safetensors", "checkpoints/model_1000.safetensors", "model.safetensors"}


def test_a_directory_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no checkpoints"):
        publish.main(publish.Args(tmp_path, tmp_path / "out"))
