"""Several processes train as one: the same weights and log as a single process with the whole batch, written
once.
"""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.actor_critic import save_agent
from common.checkpoints import load_checkpoint
from common.csv_log import read_log
from common.distributed import DistContext, join_ranks
from common.runs import UsageError, file_id
from generative.training.errors import leading, means_over
from generative.training.losses import TERMS
from tests.helpers import toy_world
from tests.helpers.toy_world import toy_agent, toy_episode, with_agent, write_toy_store
from train_gen_model import check_shares

pytestmark = pytest.mark.usefixtures("float32")

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
FLAGS = {
    "interpreting_params_name": "tiny",
    "batch_size": 6,
    "num_sim_steps": 3,
    "painter_batches": 1,
    "latent_batches": 0,
    "motion_batches": 1,
    "tiles_batches": 1,
    "joint_batches": 1,
    "motion_batch_size": 6,
    "free_running_fraction": 0.5,
    "log_interval": 1,
    "save_interval": 1,
    "lr": 0.001,
    "device": "cpu",
    "log_level": 40,
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store of episodes of many lengths: processes have windows with different numbers of frames."""
    path = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(path / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_world, "GOAL", np.array([-1, -1]))
        episodes = [with_agent(toy_episode(rng, length), agent) for length in rng.integers(5, 60, 80)]
    write_toy_store(path / "store", episodes, agent, 1, policy_id=file_id(path / "agent.safetensors"))
    return path


def train(recorded, where: Path, launcher: list[str], **changed) -> Path:
    where.mkdir()
    flags = {"agent_file": recorded / "agent.safetensors", "data_dir": recorded / "store"} | FLAGS | changed
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*launcher, str(ROOT / "train_gen_model.py"), *words],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    runs = list(where.glob("results/world_models/*/*"))
    assert len(runs) == 1
    return runs[0]


def test_two_processes_train_as_one_with_the_whole_batch(recorded, tmp_path):
    alone = train(recorded, tmp_path / "alone", [sys.executable])
    together = train(recorded, tmp_path / "two", TORCHRUN)
    begun, one, two = (
        load_checkpoint(run / f"model_{i}.safetensors")[0]
        for run, i in ((alone, 1), (alone, 3), (together, 3))
    )
    moved, apart = (
        torch.cat([(one[name] - other[name]).flatten() for name in one]).norm() for other in (begun, two)
    )
    assert apart < 0.01 * moved
    assert load_checkpoint(together / "model_4.safetensors")[1]["batches"] == 4
    assert (together / "done.json").exists()
    logs = [read_log(run / "progress.csv") for run in (alone, together)]
    assert [row["stage"] for row in logs[1]] == ["painter", "motion", "tiles", "joint"]
    for a, b in zip(*logs, strict=True):
        names = [name for name in ("loss", "grad_norm", *TERMS) if a[name]]
        assert {"loss", "grad_norm"} < set(names)
        for name in names:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4, abs=1e-6), name


def test_the_leading_windows_are_those_of_the_whole_batch():
    """Of 6 windows in two processes, each of which has 3."""
    found = []
    for rank in range(2):
        with means_over(DistContext(rank, 2)):
            mask = leading(3, 0.5, torch.device("cpu"))
        found += torch.arange(6)[DistContext(rank, 2).mine][mask].tolist()
    assert sorted(found) == [0, 1, 2]
    assert leading(6, 0.5, torch.device("cpu")).tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"batch_size": 7}, "batch_size 7 does not divide evenly among 2"),
        ({"motion_batch_size": 7}, "motion_batch_size 7 does not divide evenly among 2"),
        ({"latent": "sphere"}, "train it in one process"),
    ],
)
def test_what_processes_cannot_share_is_refused(changed, message):
    model = SimpleNamespace(latent=changed.get("latent", "gaussian"))
    train = SimpleNamespace(**{"batch_size": 6, "motion_batch_size": 6} | changed)
    check_shares(DistContext(), model, train)
    refused = pytest.raises(UsageError, match=message) if message else nullcontext()
    with refused:
        check_shares(DistContext(1, 2), model, train)


def test_one_process_alone_shares_with_nobody(tmp_path):
    ranks = join_ranks(torch.device("cpu"))
    assert ranks == DistContext()
    assert ranks.first
    assert list(range(5))[ranks.mine] == list(range(5))
    assert ranks.mean({"loss": 2.0}) == {"loss": 2.0}
    assert ranks.broadcast("here") == "here"
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    ranks.average_gradients([parameter])
    assert parameter.grad.tolist() == [3, 3]


def test_windows_are_shared_out_evenly_or_not_at_all():
    parts = [list(range(6))[DistContext(rank, 3).mine] for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(6))
    assert {len(part) for part in parts} == {2}
    DistContext(0, 3).check_batch(6)
    with pytest.raises(UsageError, match="multiple of 3"):
        DistContext(0, 3).check_batch(8)


LEAVING = """
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
import torch
from common.distributed import joined
def threads():
    return sum("gloo" in file.read_text() for file in Path("/proc/self/task").glob("*/comm"))
def train(ranks):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight])  # imports much of PyTorch
    weight.grad = torch.ones(3)
    ranks.average_gradients([weight])
    optimizer.step()
    print(threads())
    1 / DIVISOR
try:
    with joined(torch.device("cpu"), 0) as ranks:
        train(ranks)
except ZeroDivisionError:
    print("failed")
print(threads())
"""


@pytest.mark.parametrize("divisor", [1, 0])
def test_no_thread_of_the_group_outlives_it(divisor):
    """A thread that does can abort the process as it ends, and torchrun then stops the other ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVING.replace("DIVISOR", str(divisor))],
            env=os.environ | shared | {"RANK": str(rank), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        before, *failed, after = process.communicate(timeout=120)[0].split()
        assert int(before) > 0 == int(after)
        assert failed == ([] if divisor else ["failed"])
        assert process.returncode == 0
