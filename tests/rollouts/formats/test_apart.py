"""A recording that another process reads: the same episodes, and an error however that process ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rollouts.formats.apart import read_apart
from rollouts.formats.episodes import BadRecording, Episode, Recording, stored_episodes
from tests.helpers.made_store import make_store

ROOT = Path(__file__).parents[3]


def recording(episodes) -> Recording:
    return Recording({"noop": 1}, 2, episodes)


def failing(do):
    """Opens a recording whose second episode does something else."""

    def episodes():
        yield Episode({}, {"id": 0})
        do()

    return lambda: recording(episodes())


def test_episodes_are_those_of_this_process(tmp_path):
    store = make_store(tmp_path / "made", [2, 3], [4])
    apart = read_apart(lambda: recording(stored_episodes(store)), "it")
    assert (apart.manifest, apart.num_episodes) == ({"noop": 1}, 2)
    for found, own in zip(apart.episodes, stored_episodes(store), strict=True):
        assert found.steps.keys() == own.steps.keys()
        assert all(found.steps[name].tobytes() == own.steps[name].tobytes() for name in own.steps)
        assert repr(found.row) == repr(own.row)
    assert not multiprocessing.active_children()


def spin():
    while True:
        pass


def endless_conversion():
    """In C, where no Python signal handler would run."""
    sys.set_int_max_str_digits(0)
    int("9" * 3_000_000)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (spin, "it is damaged: an episode of it takes more than 2 s"),
        (endless_conversion, "takes more than 2 s"),
        (lambda: time.sleep(600), "takes more than 2 s"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"reading it ended its process \(SIGKILL\)"),
        (lambda: os._exit(3), r"ended its process \(exit status 3\)"),
    ],
)
def test_a_process_that_does_not_end_by_itself_is_an_error(do, message):
    episodes = read_apart(failing(do), "it", seconds=2).episodes
    assert next(episodes).row == {"id": 0}
    with pytest.raises(BadRecording, match=message):
        next(episodes)
    assert not multiprocessing.active_children()


def test_opening_has_a_limit_too():
    with pytest.raises(BadRecording, match="takes more than 0.1 s"):
        read_apart(spin, "it", seconds=0.1)


SUSPENDED = """
import sys, time
from rollouts.formats.apart import read_apart
from rollouts.formats.episodes import Episode, Recording
def episodes():
    print("ready", flush=True)
    for _ in range(50):
        time.sleep(0.01)
    yield Episode({}, {"id": 0})
print(len(list(read_apart(lambda: Recording({}, 1, episodes()), "it", seconds=1.5).episodes)))
"""


def test_time_in_which_both_processes_are_suspended_does_not_count():
    """As Slurm suspends jobs, by a signal to all of their processes."""
    words = [sys.executable, "-c", SUSPENDED]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == "1\n"


def test_an_error_of_the_disk_arrives_as_it_is():
    def fail():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(read_apart(failing(fail), "it").episodes)


def test_a_process_that_is_killed_within_a_message_is_an_error():
    """As where memory runs out."""

    def episodes():
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        yield Episode({"obs": np.zeros(10_000_000, np.uint8)}, {})

    found = read_apart(lambda: recording(episodes()), "it").episodes
    time.sleep(0.5)
    with pytest.raises(BadRecording, match=r"ended its process \(SIGKILL\)"):
        next(found)


def test_errors_arrive_as_they_are():
    def refuse():
        raise BadRecording("no states")

    with pytest.raises(BadRecording, match="^no states$"):
        list(read_apart(failing(refuse), "it").episodes)
    with pytest.raises(ZeroDivisionError):
        list(read_apart(failing(lambda: 1 / 0), "it").episodes)
    with pytest.raises(BadRecording, match="^no states$"):
        read_apart(refuse, "it")


def test_the_process_ends_with_the_one_that_reads_from_it():
    episodes = read_apart(failing(spin), "it").episodes
    next(episodes)
    assert multiprocessing.active_children()
    episodes.close()
    assert not multiprocessing.active_children()


ABANDONED = """
import itertools, multiprocessing, os
from rollouts.formats.apart import read_apart
from rollouts.formats.episodes import Episode, Recording
def spin():
    yield Episode({}, {})
    while True:
        pass
many = (Episode({}, {"id": "x" * 10_000}) for _ in itertools.count())
found = read_apart(lambda: Recording({}, 1, EPISODES), "it")
print(multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), 9)
"""


def is_running(process: str) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.parametrize("episodes", ["many", "spin()"])
def test_the_process_ends_when_the_one_that_reads_from_it_is_killed(episodes):
    words = [sys.executable, "-c", ABANDONED.replace("EPISODES", episodes)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -9
    until = time.monotonic() + 10
    while is_running(ended.stdout.strip()):
        assert time.monotonic() < until
        time.sleep(0.05)
