"""Publishing a run: which checkpoints, and replacement of earlier files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from agents import publish
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common.checkpoints import BadCheckpoint
from common.cli import run_main
from common.runs import UsageError


def make_run(directory: Path, steps: list[int]) -> None:
    agent = ActorCritic(NetworkConfig(2, (16, 16, 3), feature_size=4, hidden_size=4))
    for step in steps:
        save_agent(
            directory / f"model_{step}.safetensors",
            agent,
            {"timesteps": step, "param_name": "demo", "seed": 0, "env": {}},
        )
    for name in publish.RECORDS:
        (directory / name).write_text("timesteps\n0\n" if name == "log.csv" else "{}")


def test_checkpoints_are_spread_and_replaced(tmp_path):
    make_run(tmp_path / "run", list(range(0, 1001, 100)))
    args = publish.Args(tmp_path / "run", tmp_path / "out", checkpoints=3)
    publish.main(args)
    shipped = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert shipped == ["model_0.safetensors", "model_1000.safetensors", "model_500.safetensors"]
    publish.main(replace(args, checkpoints=2))
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir()) == [
        "model_0.safetensors",
        "model_1000.safetensors",
    ]
    assert load_agent(tmp_path / "out" / "model.safetensors")[1]["timesteps"] == 1000
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["timesteps"] == 1000
    assert set(provenance["ids"]) == {
        "checkpoints/model_0.safetensors",
        "checkpoints/model_1000.safetensors",
        "model.safetensors",
    }

    publish.main(replace(args, checkpoints=0))
    assert not list((tmp_path / "out" / "checkpoints").iterdir())
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert set(json.loads((tmp_path / "out" / "provenance.json").read_text())["ids"]) == {"model.safetensors"}


def test_a_directory_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no checkpoints"):
        publish.main(publish.Args(tmp_path, tmp_path / "out"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = [
    ("config.json", lambda path: path.write_text('{"args": '), "config.json is damaged or empty"),
    ("config.json", lambda path: path.write_text("[]"), "config.json is damaged or empty"),
    ("manifest.json", Path.unlink, "manifest.json is missing"),
    ("log.csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "log.csv is damaged or empty"),
    ("log.csv", lambda path: path.write_text("timesteps\n"), "log.csv is damaged or empty"),
    ("model_100.safetensors", cut, "not a whole safetensors file"),
    ("model_0.safetensors", lambda path: save_file({}, path), "not written by Worldlens"),
    (
        "model_100.safetensors",
        lambda path: save_agent(path, ActorCritic(NetworkConfig(2)), {"seed": 0}),
        "not say its timesteps, param_name, env",
    ),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_nothing_is_shipped_that_cannot_be_read(tmp_path, name, damage, message):
    """An earlier shipment stays as it was, and no new one is begun."""
    make_run(tmp_path / "run", [0, 100])
    publish.main(publish.Args(tmp_path / "run", tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    make_run(tmp_path / "run", [0, 50, 100])
    damage(tmp_path / "run" / name)
    for out in ("out", "new"):
        with pytest.raises((UsageError, BadCheckpoint), match=message) as caught:
            publish.main(publish.Args(tmp_path / "run", tmp_path / out))
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_other_files_are_no_checkpoints_and_one_is_not_enough(tmp_path):
    make_run(tmp_path / "run", [0, 100])
    (tmp_path / "run" / "model_best.safetensors").write_text("the user's own")
    publish.main(publish.Args(tmp_path / "run", tmp_path / "out"))
    with pytest.raises(UsageError, match="--checkpoints must be at least 2"):
        publish.main(publish.Args(tmp_path / "run", tmp_path / "out", checkpoints=1))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    make_run(tmp_path / "run", [0, 100])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SystemExit, match="error: .*out.*; check the path"):
        run_main(publish.main, publish.Args(tmp_path / "run", tmp_path / "out"))
