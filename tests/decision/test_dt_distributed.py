"""Several processes train a Decision Transformer as one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.actor_critic import save_agent
from common.checkpoints import load_checkpoint
from common.csv_log import read_log
from tests.helpers.toy_world import toy_agent, toy_episode, with_agent, write_toy_store

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
FLAGS = "--param_name tiny --batch_size 4 --window_steps 8 --num_batches 4 --log_interval 1 --save_interval 2"
FLAGS += " --train_split 0.7 --device cpu --log_level 40 --lr 0.001"


def train(recorded: Path, where: Path, launcher: list[str]) -> Path:
    where.mkdir()
    files = ["--data_dir", str(recorded / "store"), "--agent_file", str(recorded / "agent.safetensors")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(ROOT / "train_dt.py"), *FLAGS.split(), *files]
    subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True, text=True)
    (run,) = where.glob("results/decision_transformers/test/*")
    return run


@pytest.mark.slow
def test_two_processes_train_as_one_although_their_windows_are_padded_unevenly(tmp_path):
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(tmp_path / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    episodes = [with_agent(toy_episode(rng, 30), agent) for _ in range(80)]
    write_toy_store(tmp_path / "store", episodes, agent, 2)
    alone = train(tmp_path, tmp_path / "alone", [sys.executable])
    together = train(tmp_path, tmp_path / "two", TORCHRUN)
    begun, one, two = (
        load_checkpoint(run / f"model_{i}.safetensors")[0]
        for run, i in ((alone, 2), (alone, 4), (together, 4))
    )
    moved, apart = (
        torch.cat([(one[name] - other[name]).flatten() for name in one]).norm() for other in (begun, two)
    )
    assert apart < 0.01 * moved
    assert (together / "done.json").exists()
    for a, b in zip(*(read_log(run / "progress.csv") for run in (alone, together)), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "grad_norm"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=2e-3, abs=1e-5), name
