"""Jobs on this machine: their number at a time, their GPUs, and how a stop reaches them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import UsageError
from common.launcher import Launch
from slurm.batch_file import Batch
from slurm.engine import submit
from slurm.local import environment_of, visible_gpus

ROOT = Path(__file__).parents[2]
SAVING = """
import signal, sys, time
from pathlib import Path
{parse}
share = "_".join(sys.argv[-2:]) if "--job" in sys.argv else "all"
def stop(number, frame):
    time.sleep(0.2)
    Path(f"{{share}}.saved").write_text(signal.Signals(number).name)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
Path(f"{{share}}.begun").touch()
time.sleep(60)
"""
PARSE = """
from dataclasses import dataclass
from common.cli import parse
@dataclass
class Args:
    seed: int = 0
parse(Args, "Waits.")
"""
CLOCK = """
import sys, time
from pathlib import Path
begun = time.time()
time.sleep(0.3)
Path(sys.argv[-2] + ".times").write_text(f"{begun} {time.time()}")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def local(place: Path, directory: str = "jobs", **changed) -> Batch:
    return Batch("share", ("share.py",), Launch(launcher="local", cpus=1, **changed), place / directory)


def test_jobs_run_side_by_side_on_this_machine(place):
    script = place / "share.py"
    script.write_text("import sys; from pathlib import Path; Path(sys.argv[-2] + '.txt').write_text('done')")
    submit(local(place, array="2"))
    assert sorted(path.name for path in place.glob("*.txt")) == ["0.txt", "1.txt"]
    script.write_text("raise SystemExit('no such level')")
    with pytest.raises(UsageError, match="2 of 2 jobs failed"):
        submit(local(place, "more", array="2"))


@pytest.mark.parametrize(("array", "most"), [("3%1", 1), ("3%2", 2)])
def test_no_more_jobs_run_at_a_time_than_were_asked_for(place, array, most):
    (place / "share.py").write_text(CLOCK)
    submit(local(place, array=array))
    spans = [tuple(map(float, path.read_text().split())) for path in place.glob("*.times")]
    assert len(spans) == 3
    assert max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans) <= most


def test_jobs_have_the_gpus_that_were_asked_for(place, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (place / "share.py").write_text(
        "import os, sys; open(sys.argv[-2] + '.gpus', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    submit(local(place, array="3", gpus=2))
    assert [(place / f"{i}.gpus").read_text() for i in range(3)] == ["0,1", "2,0", "1,2"]
    submit(local(place, array="1"))
    assert (place / "0.gpus").read_text() == ""


def test_more_gpus_than_there_are_are_refused(place, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UsageError, match="--gpus is 2, and this machine has 1"):
        submit(local(place, gpus=2))


def test_gpus_that_are_hidden_stay_hidden(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus({}) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "4,7"}) == ["4", "7"]
    assert environment_of(local(Path(), gpus=1), 1, ["4", "7"])["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_job_here_is_not_the_job_of_slurms_that_it_runs_in(place, monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "7")
    kept = environment_of(local(place), 0, [])
    assert [name for name in kept if name.startswith("SLURM")] == ["SLURM_NODEID"]


def wait_for(process: subprocess.Popen, *paths: Path) -> None:
    end = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_reaches_the_jobs_and_waits_for_them(place, number, code):
    (place / "share.py").write_text(SAVING.format(parse=""))
    flags = ["--launcher", "local", "--array", "3%2", "--job_dir", "jobs"]
    words = [sys.executable, "-m", "slurm.submit", *flags, "--", "{}", "share.py"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(process, place / "0_3.begun", place / "1_3.begun")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert {path.name: path.read_text() for path in place.glob("*.saved")} == {
        "0_3.saved": "SIGTERM",
        "1_3.saved": "SIGTERM",
    }
    assert said.startswith(f"interrupted by {number.name}: the jobs were asked to save; their output is in ")
    assert not (place / "2_3.begun").exists()


def test_a_stop_of_a_chain_reaches_the_jobs_of_its_step(place):
    (place / "share.py").write_text(SAVING.format(parse=PARSE))
    (place / "chain.yml").write_text("steps: {wait: {run: share.py, mem: 3G}}")
    words = [sys.executable, "-m", "slurm.chain", "--chain_file", "chain.yml", "--launcher", "local"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(process, place / "all.begun")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert (place / "all.saved").read_text() == "SIGTERM"
    assert "it was in the step wait" in said
