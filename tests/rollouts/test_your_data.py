"""docs/your_data.md runs as written: arrays to a store, a trained world model, and samples of it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rollouts.check import check_store
from rollouts.store import Rollouts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your_data.md").read_text()


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL))


def run_command(words: list[str], place: Path) -> str:
    script = [
        word if word.endswith("store") else str(ROOT / word) if (ROOT / word).is_file() else word
        for word in words[1:]
    ]
    done = subprocess.run(
        [sys.executable, *script],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory in which the page's Python blocks have run."""
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python"), "docs/your_data.md", "exec"), {})
    return tmp_path


def test_the_pages_store_is_sound(place):
    store = Rollouts.open(place / "mine" / "store")
    assert len(store) == 12
    assert store.step_fields["obs"].shape == (96, 64, 3)
    assert store.manifest["num_actions"] == 4
    assert list(check_store(store)) == []
    assert (store.episodes["end"] == "truncated").all()


@pytest.mark.slow
def test_the_pages_commands_end_in_a_world_model_that_can_be_sampled(place):
    for line in blocks("bash").replace("\\\n", " ").splitlines():
        run_command(shlex.split(line), place)
    (model,) = (place / "mine").glob("world_models/*/*/model_2.safetensors")
    words = (
        f"python record_gen_samples.py --world_model_file {model} --agent_file mine/agent.safetensors"
        " --data_dir mine/store --num_samples 2 --num_sim_steps 3"
    )
    run_command(shlex.split(f"{words} --out_dir mine/simulated"), place)
    assert Rollouts.open(place / "mine" / "simulated").step_fields["obs"].shape == (96, 64, 3)
