"""Commands in processes of their own: their exit codes, and how a stop reaches them."""

import signal
import sys

import pytest

from common.child_processes import run_command
from tests.common.test_stopping import CODES, script

CHILD = """
import common.cli, pathlib, sys, time, types
from common.stopping import saving_on_stop
def main(args):
    state = pathlib.Path(sys.argv[1])
    with saving_on_stop(lambda: state.write_text("saved") and "the child's state is saved"):
        print("ready", flush=True)
        time.sleep(60)
common.cli.run_main(main, types.SimpleNamespace())
"""
PARENT = """
from common.child_processes import run_command
command = [sys.executable, "-c", *sys.argv[1:]]
run_main(lambda args: run_command(command, "it was in the second step"), SimpleNamespace())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_passed_on_to_the_command_in_hand_and_waits_for_its_end(tmp_path, number):
    process = script(PARENT, CHILD, str(tmp_path / "state"))
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == CODES[number]
    assert (tmp_path / "state").read_text() == "saved"
    assert said == "".join(
        f"interrupted by {number.name}: {kept}; the same command goes on from there\n"
        for kept in ("the child's state is saved", "it was in the second step")
    )


def test_a_command_that_was_stopped_alone_stops_the_whole(tmp_path):
    process = script(
        PARENT, "import os, signal; print('ready', flush=True); os.kill(os.getpid(), signal.SIGTERM)"
    )
    said = process.communicate()[1]
    assert process.returncode == 143
    assert said == "interrupted by SIGTERM: it was in the second step; the same command goes on from there\n"


def test_the_code_of_a_command_is_given():
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    assert run_command(command, "") == 3
    assert run_command([sys.executable, "-c", ""], "") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
def test_a_command_whose_parent_is_killed_saves_and_ends(tmp_path):
    process = script(PARENT, CHILD, str(tmp_path / "state"))
    process.kill()
    process.communicate()
    assert (tmp_path / "state").read_text() == "saved"
