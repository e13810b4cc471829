"""On a real Slurm cluster: the small chain as jobs, of which some are preempted, requeued and timed out.

`make slurm` starts a cluster of one node on this machine and runs these.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.checkpoints import load_checkpoint
from interpret.attribution.saliency_store import SaliencyStore
from rollouts.store import Rollouts
from slurm.chain import read_chain

ROOT = Path(__file__).parents[2]
CHAIN = ROOT / "slurm" / "chains" / "small.yml"
MINUTES = 60
"""Longest wait for the chain, on a machine that does much else."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif("SLURM_CONF" not in os.environ, reason="no Slurm here: `make slurm` starts one"),
]


def run(*words: object, check: bool = True) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(ROOT), "WORLDLENS_PRECISION": "fp32"}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def python(*words: object) -> str:
    return run(sys.executable, *words)


def jobs() -> dict[str, str]:
    """State of every job and array task that Slurm knows, by id."""
    shown = run("scontrol", "show", "job", "--oneliner", check=False)
    found = {}
    for line in shown.splitlines():
        facts = dict(re.findall(r"\b(JobId|ArrayJobId|ArrayTaskId|JobState)=(\S+)", line))
        if "JobId" in facts:
            task = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}" if "ArrayTaskId" in facts else None
            found[task or facts["JobId"]] = facts["JobState"]
    return found


def restarts(job: str) -> int:
    return int(re.search(r"\bRestarts=(\d+)", run("scontrol", "show", "job", "--oneliner", job))[1])


def wait_for(reached: Callable[[], bool], what: str, minutes: float = MINUTES) -> None:
    end = time.monotonic() + 60 * minutes
    while not reached():
        assert time.monotonic() < end, f"{what}: not reached; {jobs()}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The results of the chain, ids of its jobs by step, and the directory of their output.

    Its recording is requeued by the cluster in one task, and its training of a world model is asked to save,
    as before a time limit, after the first of its log rows.
    """
    place = tmp_path_factory.mktemp("cluster")
    out, job_dir = place / "out", place / "jobs"
    flags = ("--chain_file", CHAIN, "--launcher", "slurm", "--job_dir", job_dir)
    words = [sys.executable, "-m", "slurm.chain", *map(str, flags), "--variables", f"OUT={out}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ids = dict(re.findall(r"(\w+): job (\d+)", done.stderr))

    store, task = out / "data" / "small", f"{ids['record']}_1"
    wait_for(lambda: any(store.glob("shard_*.json")), "a first shard")
    run("scontrol", "requeue", task)
    model = out / "world_models" / "small"
    wait_for(lambda: any(rows(path) for path in model.glob("*/progress.csv")), "a first row of the log")
    run("scancel", "--signal=USR1", ids["train_gen_model"])

    wait_for(lambda: jobs().get(ids["report"]) in ("COMPLETED", "CANCELLED", "FAILED"), "the last step")
    return out, ids, job_dir


def rows(log: Path) -> int:
    return len(log.read_text().splitlines()) - 1


def output(job_dir: Path, step: str) -> str:
    return "".join(path.read_text() for path in (job_dir / step).glob("*_log.out"))


def test_every_step_of_the_chain_is_complete(chain):
    out, ids, _ = chain
    assert set(ids) == {step.name for step in read_chain(CHAIN)}
    states = jobs()
    assert {state for job, state in states.items() if job.partition("_")[0] in ids.values()} == {"COMPLETED"}
    assert len([job for job in states if job.startswith(f"{ids['record']}_")]) == 2
    assert len(Rollouts.open(out / "data" / "small")) == 48
    assert len(Rollouts.open(out / "simulated")) == 64
    assert len(SaliencyStore.open((out / "saliency" / "latest").resolve()).samples) == 12
    assert (out / "report.html").stat().st_size > 10_000
    assert list((out / "hx_plots").rglob("*.png"))


def test_what_was_preempted_ran_again(chain):
    _, ids, job_dir = chain
    assert restarts(f"{ids['record']}_1") >= 1
    assert restarts(ids["train_gen_model"]) >= 1
    said = output(job_dir, "train_gen_model")
    assert "interrupted by SIGTERM: the state after" in said
    assert "queues again" in said
    assert re.search("left to Slurm", output(job_dir, "record"))


def same_command(out: Path, step: str, place: Path, **changed: str) -> Path:
    """Runs a step's command here, without Slurm, into another place."""
    (found,) = (one for one in read_chain(CHAIN, [f"OUT={out}"]) if one.name == step)
    words = [str(max(out.parent.glob(word.removeprefix(f"{out.parent}/")), default=word))
             if "*" in word else word for word in found.words]  # fmt: skip
    words[words.index("--out_dir") + 1] = str(place)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    return place


def test_a_preempted_recording_is_the_uninterrupted_one(chain, tmp_path):
    out, _, _ = chain
    alone = Rollouts.open(same_command(out, "record", tmp_path) / "data" / "small")
    assert alone.id == Rollouts.open(out / "data" / "small").id


def test_a_preempted_training_has_the_bits_of_an_uninterrupted_one(chain, tmp_path):
    out, _, _ = chain
    same_command(out, "train_gen_model", tmp_path)
    (alone,) = tmp_path.glob("small/*/model_20.safetensors")
    (preempted,) = (out / "world_models").glob("small/*/model_20.safetensors")
    one, other = (load_checkpoint(path)[0] for path in (alone, preempted))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def submit(tmp_path: Path, launcher: str, *more: str) -> str:
    """A recording that takes long, as a job of one minute."""
    words = ("record.py --behaviour random --num_episodes 100000 --episodes_per_shard 64 --num_threads 1"
             f" --out_dir {tmp_path} --job_dir {tmp_path / 'jobs'} --cpus 1 --time 1")  # fmt: skip
    said = python(*words.split(), "--launcher", launcher, *more)
    return re.search(r"submitted job (\d+)", said)[1]


@pytest.mark.parametrize("launcher", ["slurm", "sbatch"])
def test_a_short_job_that_reaches_its_time_limit_saves_and_queues_again(tmp_path, launcher):
    job = submit(tmp_path, launcher)
    try:
        wait_for(lambda: restarts(job) >= 2, "two time limits", minutes=10)
    finally:
        run("scancel", job)
    said = "".join(path.read_text() for path in (tmp_path / "jobs").rglob("*.out"))
    assert said.count(f"job {job} queues again") >= 2
    assert said.count("interrupted by SIGTERM") >= 2


def test_a_cancelled_job_stays_cancelled(tmp_path):
    job = submit(tmp_path, "sbatch", "--job_name", "cancelled")
    wait_for(lambda: any((tmp_path / "data" / "test").glob("manifest.json")), "the job's store")
    run("scancel", job)
    wait_for(lambda: jobs()[job] == "CANCELLED", "the end of the job", minutes=2)
    time.sleep(8)
    assert jobs()[job] == "CANCELLED"
    assert restarts(job) == 0


def test_what_waits_for_a_job_that_failed_does_not_run(tmp_path):
    failing = python(
        *f"record.py --agent_file README.md --launcher sbatch --job_dir {tmp_path} --time 5".split()
    )
    job = re.search(r"submitted job (\d+)", failing)[1]
    waiting = submit(tmp_path, "sbatch", "--after", job, "--job_name", "waiting")
    wait_for(lambda: jobs().get(job) == "FAILED", "the failure", minutes=5)
    wait_for(lambda: jobs().get(waiting) == "CANCELLED", "the end of what waits", minutes=5)
    assert not (tmp_path / "data").exists()
