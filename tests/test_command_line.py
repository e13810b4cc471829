"""The command line of every script: mistakes end in one line on stderr, bugs keep their traceback, and --help is the manual."""

import errno
import logging
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
import tyro

from common.checkpoints import BadCheckpoint
from common.cli import parse, run_main
from common.runs import UsageError

ROOT = Path(__file__).parents[1]
PACKAGES = ("agents", "analysis", "benchmarks", "common", "decision", "envs", "generative", "interpret", "rollouts")
SOURCES = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in SOURCES if "run_script(" in path.read_text() and path != ROOT / "common" / "cli.py")


@dataclass
class Args:
    model_file: Path
    """A file."""
    num_levels: int = 0
    """A number."""
    shards: tuple[int, int] | None = None
    """Two numbers."""
    fps: Annotated[float, tyro.conf.arg(aliases=["--tps"])] = 15.0
    """Two names."""
    overlay: bool = True
    """Yes or no."""
    sampling: Literal["drawn", "modal"] = "drawn"
    """A choice."""


@dataclass
class Positional:
    path: tyro.conf.Positional[Path]
    """A place."""


MISTAKES = {
    "--model_file x --numlevels 3": "unknown flag --numlevels, did you mean --num_levels?",
    "--model_file x --num-level=3": "unknown flag --num-level, did you mean --num_levels?",
    "--modelfile x": "unknown flag --modelfile, did you mean --model_file?",
    "--model_file x --tp 3": "unknown flag --tp, did you mean --tps?",
    "--model_file x --not_overlay": "unknown flag --not_overlay, did you mean --no_overlay?",
    "--model_file x --speed 11": "unknown flag --speed",
    "--model_file x --zzz": "unknown flag --zzz",
    "--model_file x y": "unexpected 'y'",
    "": "--model_file must be given",
    "--num_levels 3": "--model_file must be given",
    "--num_levels foo --numlevels 3": "unknown flag --numlevels, did you mean --num_levels?",
    "--model_file": "--model_file takes PATH, not nothing",
    "--model_file x --num_levels": "--num_levels takes INT, not nothing",
    "--model_file x --num_levels foo": "--num_levels takes INT, not 'foo'",
    "--model_file x --num-levels=foo": "--num_levels takes INT, not 'foo'",
    "--model_file x --num_levels 1 --num_levels 2.5": "--num_levels takes INT, not '2.5'",
    "--model_file x --num_levels -x": "--num_levels takes INT, not '-x'",
    "--model_file x --shards 1": "--shards takes {None}|{INT INT}, not '1'",
    "--model_file x --sampling best": "--sampling takes drawn, modal, not 'best'",
    "--model_file x --overlay 3": "unexpected '3'",
}


@pytest.fixture(autouse=True)
def quiet_logging():
    """run_main points the root logger at the terminal of the moment; afterwards it is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def refused(capsys, args_type, words) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(args_type, "", words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_was_expected(capsys, words):
    assert refused(capsys, Args, words.split()) == f"error: {MISTAKES[words]}; --help lists the flags\n"


def test_what_has_no_flag_is_named_too(capsys):
    assert refused(capsys, Positional, []) == "error: PATH must be given; --help lists the flags\n"
    assert refused(capsys, Positional, ["-x"]) == "error: PATH must be given; --help lists the flags\n"
    assert refused(capsys, Positional, ["--zzz"]) == "error: unknown flag --zzz; --help lists the flags\n"
    assert refused(capsys, Positional, ["a", "b"]) == "error: unexpected 'b'; --help lists the flags\n"


def test_what_is_right_is_read(capsys):
    assert parse(Args, "", "--model_file x --num-levels 3 --tps 2 --no-overlay --shards 0 4".split()) == Args(Path("x"), 3, (0, 4), 2.0, False)


def test_help_is_all_of_it(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Args, "What it does.", ["--help"])
    out = capsys.readouterr().out
    assert not ended.value.code and "What it does." in out and all(word in out for word in ("A file. (required)", "Two numbers.", "--no-overlay"))


def fails(main) -> str:
    with pytest.raises(SystemExit) as ended:
        run_main(main, None)
    return ended.value.code


@pytest.mark.parametrize("error", [UsageError("no such thing"), BadCheckpoint("no such thing"), FloatingPointError("no such thing")], ids=repr)
def test_what_the_user_can_mend_is_one_line(error):
    def main(args):
        raise error

    assert fails(main) == "error: no such thing"


def test_a_seed_below_zero_is_refused_before_any_work():
    with pytest.raises(SystemExit, match="--seed is -1: give a seed from 0 to 2147483647"):
        run_main(lambda args: 1 / 0, SimpleNamespace(seed=-1))


@pytest.mark.parametrize("flag", ["exp_name", "gen_mod_exp_name"])
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
def test_a_name_does_not_lead_out_of_the_place_for_results_and_the_place_may_be_anywhere(flag, name):
    with pytest.raises(SystemExit, match=f"--{flag} is .* leads out of the place for results"):
        run_main(lambda args: 1 / 0, SimpleNamespace(**{flag: name}))
    reached = []
    run_main(reached.append, SimpleNamespace(**{flag: "mine/first", "logdir": Path("../logs")}))
    assert reached


@pytest.mark.parametrize("bug", [ValueError("shapes differ"), KeyError("x"), TypeError("x"), OSError(errno.EIO, "worn out")], ids=repr)
def test_a_bug_keeps_its_traceback(bug):
    def main(args):
        raise bug

    with pytest.raises(type(bug)) as caught:
        run_main(main, None)
    assert caught.value is bug


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR])
def test_a_place_that_will_not_do_is_one_line_with_advice(number):
    def main(args):
        raise OSError(number, "It will not do", "/some/where")

    assert fails(main).startswith("error: It will not do (/some/where); ") and "\n" not in fails(main)


def test_a_failed_write_that_does_not_know_its_file_is_one_line_too():
    def main(args):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert fails(main).startswith("error: No space left on device; nothing half-written was kept")


def test_ctrl_c_is_one_line(capsys):
    def main(args):
        raise KeyboardInterrupt

    assert fails(main) == 130
    assert capsys.readouterr().err == "error: interrupted; what was finished is kept, and the same command goes on from there\n"


def test_the_traceback_can_be_asked_for(capsys):
    @dataclass
    class Asked:
        log_level: int

    def main(args):
        raise UsageError("no such thing")

    for level, shown in ((logging.INFO, False), (logging.DEBUG, True)):
        with pytest.raises(SystemExit):
            run_main(main, Asked(level))
        assert ("Traceback" in capsys.readouterr().err) == shown


def test_scripts_are_found_and_read_their_flags_in_one_place():
    assert {"train.py", "evaluate.py", "agents/convert.py", "rollouts/inspect_store.py"} <= set(SCRIPTS)
    assert [path.name for path in SOURCES if "tyro.cli(" in path.read_text()] == ["cli.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_refuses_a_flag_that_it_does_not_have(script, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--zzz", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and err == "error: unknown flag --zzz; --help lists the flags\n" and not out
