"""Several processes train a Decision Transformer as one with the whole batch."""

import os
import socket
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


RUNS = "results/decision_transformers/test/*"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def write_store(where: Path) -> None:
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(where / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    episodes = [with_agent(toy_episode(rng, 30), agent) for _ in range(80)]
    write_toy_store(where / "store", episodes, agent, 2)


def command(recorded: Path, launcher: list[str]) -> list[str]:
    files = ["--data_dir", str(recorded / "store"), "--agent_file", str(recorded / "agent.safetensors")]
    return [*launcher, str(ROOT / "train_dt.py"), *FLAGS.split(), *files]


def train(recorded: Path, where: Path, launcher: list[str]) -> Path:
    where.mkdir()
    words = command(recorded, launcher)
    ended = subprocess.run(words, cwd=where, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (run,) = where.glob(RUNS)
    return run


@pytest.mark.slow
def test_two_nodes_train_as_two_processes_of_one(tmp_path):
    """As on two machines with a shared disk: a torchrun on each."""
    write_store(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "two").mkdir()
    flags = f"--nnodes 2 --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port} --node-rank"
    nodes = [
        subprocess.Popen(
            command(tmp_path, [sys.executable, "-m", "torch.distributed.run", *flags.split(), str(rank)]),
            cwd=tmp_path / "two",
            env=ENVIRONMENT,
        )
        for rank in range(2)
    ]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    (nodes_run,) = (tmp_path / "two").glob(RUNS)
    one_node = train(tmp_path, tmp_path / "one", TORCHRUN)
    weights = [load_checkpoint(run / "model_4.safetensors")[0] for run in (nodes_run, one_node)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.slow
def test_two_processes_train_as_one_although_their_windows_are_padded_unevenly(tmp_path):
    write_store(tmp_path)
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
