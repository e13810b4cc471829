"""Inside a job: signals reach the script as SIGTERM, and the job queues again unless it was cancelled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.run import Command, Failed, job_id, queue_again, resolve
from tests.slurm.fake_slurm import calls, install_fake_slurm

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path("heard").write_text(signal.Signals(number).name)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
Path("begun").write_text(os.environ["OMP_NUM_THREADS"])
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a stand-in for Slurm, and a script that waits for a signal."""
    install_fake_slurm(tmp_path / "bin")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(place: Path, *limits: str, **environment: str) -> subprocess.Popen:
    """The script as a job, once it has begun."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {"PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "7"} | environment
    words = [sys.executable, "-m", "slurm.run", *limits, "script.py"]
    job = subprocess.Popen(words, cwd=place, env=env, stdout=subprocess.PIPE, text=True)
    while not (place / "begun").exists():
        assert job.poll() is None
        time.sleep(0.01)
    return job


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_to_end_saves_and_queues_again(place, number):
    job = start(place, "100", "3")
    job.send_signal(number)
    said, _ = job.communicate(timeout=30)
    assert (place / "heard").read_text() == "SIGTERM"
    assert (place / "begun").read_text() == "3"
    assert job.returncode == 143
    assert calls(place / "bin", "scontrol")[-1]["words"] == ["scontrol", "requeue", "7"]
    assert "job 7 queues again" in said


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "PENDING"])
def test_a_job_that_slurm_has_decided_on_is_left_to_it(place, state):
    install_fake_slurm(place / "bin", state)
    queue_again({"SLURM_JOB_ID": "7"}, 100)
    assert ["requeue"] not in [one["words"][1:2] for one in calls(place / "bin", "scontrol")]


def test_a_job_queues_again_so_often_and_no_more(place, capfd):
    for count in ("4", "5"):
        queue_again({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": count}, 5)
    asked = [one["words"][1] for one in calls(place / "bin", "scontrol")]
    assert asked.count("requeue") == 1
    assert "has queued again 5 times" in capfd.readouterr().out


def test_a_scontrol_that_is_missing_is_one_line(place, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(place))
    queue_again({"SLURM_JOB_ID": "7"}, 100)
    said = capfd.readouterr()
    assert said.out.startswith("error: Slurm's scontrol did not answer, so whether job 7 queues again")
    assert (said.out.count("\n"), said.err) == (1, "")


SLOW = """#!/bin/sh
echo "$1" >> {place}/tries
[ "$1" = {slow} ] && [ "$(grep -c "$1" {place}/tries)" -le {times} ] && exec sleep 60
echo JobState=RUNNING
"""


@pytest.mark.parametrize("slow", ["show", "requeue"])
@pytest.mark.parametrize(("times", "line"), [(1, "job 7 queues again"), (2, "error: Slurm's scontrol did")])
def test_a_scontrol_that_hangs_is_asked_twice(place, monkeypatch, capfd, slow, times, line):
    monkeypatch.setattr("slurm.run.SECONDS", (0.3, 3.0 if times == 1 else 0.3))
    (place / "bin" / "scontrol").write_text(SLOW.format(place=place, slow=slow, times=times))
    queue_again({"SLURM_JOB_ID": "7"}, 100)
    assert (place / "tries").read_text().split().count(slow) == 2
    said = capfd.readouterr().out
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_signal_while_the_script_is_started_reaches_it(place, monkeypatch):
    begin = subprocess.Popen

    def interrupted(*words, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return begin(*words, **options)

    monkeypatch.setattr("slurm.run.subprocess.Popen", interrupted)
    (place / "script.py").write_text("import time; time.sleep(60)")
    with pytest.raises(SystemExit) as ended:
        Command(("script.py",), 100, 1)()
    assert ended.value.code == 143


def test_outside_of_slurm_nothing_is_asked(place):
    queue_again({}, 100)
    assert calls(place / "bin", "scontrol") == []


def test_tasks_of_an_array_have_ids_of_their_own():
    assert job_id({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}) == "7_0"
    assert job_id({"SLURM_JOB_ID": "9"}) == "9"
    assert job_id({}) is None


def test_a_script_that_fails_fails_the_job_with_its_code(place):
    (place / "script.py").write_text("raise SystemExit(2)")
    with pytest.raises(Failed) as failure:
        Command(("script.py",), 100, 1)()
    assert failure.value.code == 2
    (place / "script.py").write_text("pass")
    Command(("script.py",), 100, 1)()
    assert calls(place / "bin", "scontrol") == []


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of this process, which a job replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGCONT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_word_with_an_asterisk_is_the_last_file_by_number(place, capsys):
    (place / "runs" / "a").mkdir(parents=True)
    for name in ("model_9.bin", "model_10.bin", "model_2.bin"):
        (place / "runs" / "a" / name).touch()
    assert resolve("runs/*/model_*.bin") == "runs/a/model_10.bin"
    assert resolve("--seed") == "--seed"
    os.utime("runs/a/model_9.bin", (time.time() + 1000,) * 2)
    os.makedirs("runs/b")
    Path("runs/b/model_3.bin").touch()
    assert resolve("runs/*/model_*.bin") == "runs/a/model_10.bin"
    os.utime("runs/b/model_3.bin", (time.time() + 2000,) * 2)
    assert resolve("runs/*/model_*.bin") == "runs/b/model_3.bin"  # the newer run, whatever its name
    with pytest.raises(Failed):
        resolve("runs/*/other_*.bin")
    assert "no file matches runs/*/other_*.bin" in capsys.readouterr().err
