"""Two processes train an agent as one: the same levels, noise, rewards and updates."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.shared_rollout import OwnSlots, own_environments, slots_of
from common.checkpoints import load_checkpoint
from common.csv_log import read_log
from common.distributed import DistContext
from common.runs import UsageError
from envs.make import make_env
from envs.procgen import ProcgenConfig

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
FLAGS = "--param_name nature-rec --num_timesteps 8192 --num_levels 200 --eval_episodes 4 --precision fp32"
FLAGS += " --num_threads 1 --device cpu --log_level 40"


def train(where: Path, launcher: list[str]) -> Path:
    where.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(ROOT / "train.py"), *FLAGS.split()]
    subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True, text=True)
    (run,) = where.glob("logs/procgen/coinrun/test/*")
    return run


def weights(run: Path, steps: int) -> torch.Tensor:
    return torch.cat([x.flatten() for x in load_checkpoint(run / f"model_{steps}.safetensors")[0].values()])


def test_two_processes_train_as_one_with_all_environments(tmp_path):
    alone, together = train(tmp_path / "alone", [sys.executable]), train(tmp_path / "two", TORCHRUN)
    begun, one, two = weights(alone, 0), weights(alone, 8192), weights(together, 8192)
    assert torch.equal(begun, weights(together, 0))
    assert (one - two).norm() < 0.01 * (one - begun).norm()
    for a, b in zip(*(read_log(run / "log.csv") for run in (alone, together)), strict=True):
        for name in ("timesteps", "num_episodes", "mean_episode_rewards", "mean_episode_len", "reward_scale"):
            assert a[name] == b[name], name
        for name in ("mean_policy_loss", "mean_value_loss", "mean_entropy_loss", "explained_variance"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-4), name
    assert (together / "done.json").exists()
    states = [load_checkpoint(run / "train_state.safetensors")[0] for run in (alone, together)]
    assert states[0].keys() == states[1].keys()
    assert len([name for name in states[1] if name.startswith("env")]) == 64
    assert states[1]["state"].shape == states[0]["state"].shape


@pytest.mark.parametrize("options", [{}, {"blink": True}, {"random_coin": True}])
def test_own_slots_play_as_they_would_among_all(options):
    config = ProcgenConfig("coinrun", 50, **options)
    whole = make_env(6, config, 3, 1)
    parts = [OwnSlots(lambda num: make_env(num, config, 3, 1), 6, DistContext(rank, 3)) for rank in range(3)]
    assert [part.num for part in parts] == [2, 2, 2]
    rng = np.random.default_rng(0)
    for _ in range(40):
        expected = whole.observe()
        found = [np.concatenate(columns) for columns in zip(*(part.observe() for part in parts))]
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))
        action = rng.integers(0, 15, 6)
        whole.act(action)
        for rank, part in enumerate(parts):
            part.act(action[2 * rank : 2 * rank + 2])


def test_a_process_alone_has_all_slots():
    alone = DistContext()
    assert own_environments(lambda num: num, 6, alone) == 6
    assert slots_of(6, alone).tolist() == list(range(6))
    assert np.concatenate([slots_of(2, DistContext(rank, 3)) for rank in range(3)]).tolist() == list(range(6))


def test_a_minibatch_that_does_not_divide_is_refused():
    with pytest.raises(UsageError, match="minibatch of environments: 16 does not divide evenly among 3"):
        DistContext(0, 3).check_batch(16, "a minibatch of environments:")
