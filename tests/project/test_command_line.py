"""The command line of every script: mistakes end in one line on stderr, bugs keep their traceback, and --help
is the manual.
"""

import errno
import json
import logging
import re
import runpy
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from common.cli import parse, run_main
from common.errors import BadCheckpoint, UsageError
from common.help_text import LaidOut, one_line_paragraphs
from common.shared_flags import NONE_IF_EMPTY

pytestmark = pytest.mark.usefixtures("restored_logging")

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "agents",
    "analysis",
    "benchmarks",
    "common",
    "decision",
    "envs",
    "generative",
    "interpret",
    "rollouts",
    "slurm",
)
SOURCES = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in SOURCES
    if re.search(r"run_main\(", path.read_text()) and path.name != "cli.py"
)
LIGHT = {
    "tyro",
    "yaml",
    "_yaml",
    "typing_extensions",
    "docstring_parser",
    "typeguard",
    "__editable___worldlens_0_1_0_finder",
    "_distutils_hack",
}
"""What is not of the standard library and may be imported before a command line is read."""
IMPORTED = """
import contextlib, io, json, os, runpy, sys
os.environ["COLUMNS"] = "80"
found = {}
for script in sys.argv[1:]:
    before, sys.argv, shown = set(sys.modules), [script, "--help"], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
        runpy.run_path(script, run_name="__main__")
    new = {
        name.partition(".")[0]
        for name in set(sys.modules) - before
        if "site-packages" in str(getattr(sys.modules[name], "__file__", ""))
    }
    lines = shown.getvalue().splitlines()
    wide = [line for line in lines if len(line) > 80 and not line.startswith((" ", "usage:"))]
    found[script] = {"imported": sorted(new), "wide": wide}
print(json.dumps(found))
"""


@dataclass
class Args:
    agent_file: Path
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
    latent: Literal["gaussian", "sphere"] | None = None
    """A choice or none."""
    blink: bool | None = None
    """Yes, no, or as it was."""
    use_maps: bool = False
    """No or yes."""


@dataclass
class Positional:
    path: tyro.conf.Positional[Path]
    """A place."""


MISTAKES = {
    "--agent_file x --numlevels 3": "unknown flag --numlevels, did you mean --num_levels?",
    "--agent_file x --num-level=3": "unknown flag --num-level, did you mean --num_levels?",
    "--modelfile x": "unknown flag --modelfile, did you mean --agent_file?",
    "--agent_file x --tp 3": "unknown flag --tp, did you mean --tps?",
    "--agent_file x --not_overlay": "unknown flag --not_overlay, did you mean --no_overlay?",
    "--agent_file x --speed 11": "unknown flag --speed",
    "--agent_file x --zzz": "unknown flag --zzz",
    "--agent_file x y": "unexpected 'y'",
    "": "--agent_file must be given",
    "--num_levels 3": "--agent_file must be given",
    "--num_levels foo --numlevels 3": "unknown flag --numlevels, did you mean --num_levels?",
    "--agent_file": "--agent_file takes PATH, not nothing",
    "--agent_file x --num_levels": "--num_levels takes INT, not nothing",
    "--agent_file x --num_levels foo": "--num_levels takes INT, not 'foo'",
    "--agent_file x --num-levels=foo": "--num_levels takes INT, not 'foo'",
    "--agent_file x --num_levels 1 --num_levels 2.5": "--num_levels takes INT, not '2.5'",
    "--agent_file x --num_levels -x": "--num_levels takes INT, not '-x'",
    "--agent_file x --shards 1": "--shards takes INT INT, not '1'",
    "--agent_file x --sampling best": "--sampling takes drawn, modal, not 'best'",
    "--agent_file x --latent None": "--latent takes gaussian, sphere, not 'None'",
    "--agent_file x --overlay 3": "unexpected '3'",
    "--agent_file x --blink=3": "--blink takes True, False, not '3'",
    "--agent_file x --blink=yes": "--blink takes True, False, not 'yes'",
    "--agent_file x --no_blink=True": "unexpected '--no_blink=True'",
}


def refused(capsys, args_type, words) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(args_type, "", words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_was_expected(capsys, words):
    message = MISTAKES[words]
    end = "" if message.endswith("?") else ";"
    assert refused(capsys, Args, words.split()) == f"error: {message}{end} --help lists the flags\n"


def test_what_has_no_flag_is_named_too(capsys):
    assert refused(capsys, Positional, []) == "error: PATH must be given; --help lists the flags\n"
    assert refused(capsys, Positional, ["-x"]) == "error: PATH must be given; --help lists the flags\n"
    assert refused(capsys, Positional, ["--zzz"]) == "error: unknown flag --zzz; --help lists the flags\n"
    assert refused(capsys, Positional, ["a", "b"]) == "error: unexpected 'b'; --help lists the flags\n"


def test_what_is_right_is_read(capsys):
    words = [
        "--agent_file",
        "x",
        "--num-levels",
        "3",
        "--tps",
        "2",
        "--no-overlay",
        "--shards",
        "0",
        "4",
        "--latent",
        "sphere",
    ]
    assert parse(Args, "", words) == Args(Path("x"), 3, (0, 4), 2.0, False, latent="sphere")


@pytest.mark.parametrize("flag", ["overlay", "use_maps", "use-maps", "blink"])
def test_a_boolean_flag_has_one_style(flag):
    def read(words):
        return getattr(parse(Args, "", ["--agent_file", "x", *words.split()]), flag.replace("-", "_"))

    assert [
        read(f"--{flag}{rest}")
        for rest in ("", " True", " true", "=True", " --num_levels 3", " --shards 0 1")
    ] == [True] * 6
    assert [
        read(words)
        for words in (f"--{flag} False", f"--{flag}=false", f"--no_{flag}", f"--{flag} --no_{flag}")
    ] == [False] * 4
    assert read("") is getattr(Args(Path("x")), flag.replace("-", "_"))


def test_a_value_after_a_boolean_flag_is_the_place():
    @dataclass
    class Checked:
        path: tyro.conf.Positional[Path]
        check: bool = False

    assert parse(Checked, "", ["--check", "here"]) == Checked(Path("here"), True)


def test_help_is_all_of_it(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Args, "What it does.", ["--help"])
    out = capsys.readouterr().out
    assert not ended.value.code
    assert "What it does." in out
    assert all(word in out for word in ("A file. (required)", "Two numbers."))
    shown = (
        "--num_levels INT",
        "--shards INT INT",
        "--latent {gaussian,sphere}",
        "--blink [True|False]",
        "--overlay [True|False]",
        "(default: unset)",
    )
    assert all(word in out for word in shown)
    assert "None" not in out
    assert "--no_<flag> means False" in out


def fails(main) -> str:
    with pytest.raises(SystemExit) as ended:
        run_main(main, None)
    return ended.value.code


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_memory_that_does_not_exist_is_one_line(library):
    allocate = pytest.importorskip(library).empty
    said = fails(lambda args: allocate(2**50))  # more than any processor addresses
    assert said.startswith("error: this machine has not enough memory")
    assert "\n" not in said
    assert "--batch_size" in said


@pytest.mark.parametrize(
    "error",
    [UsageError("no such thing"), BadCheckpoint("no such thing"), FloatingPointError("no such thing")],
    ids=repr,
)
def test_what_the_user_can_mend_is_one_line(error):
    def main(args):
        raise error

    assert fails(main) == "error: no such thing"


def test_an_error_with_a_newline_is_one_line_all_the_same(capsys):
    assert (
        refused(capsys, Args, ["--agent_file", "x", "--zz\nz"])
        == "error: unknown flag --zz\\nz; --help lists the flags\n"
    )

    def main(args):
        raise UsageError("unknown game 'a\nb\x1b'")

    assert fails(main) == r"error: unknown game 'a\nb\x1b'"


@dataclass
class Named:
    exp_name: str = "test"
    gen_mod_exp_name: str = "test"
    seed: int = 0
    out_dir: Path = Path("logs")


@dataclass
class Machine:
    num_threads: int = 2


@pytest.mark.parametrize("given", ["-3", "0"])
def test_too_few_threads_are_refused_at_once(given, capsys):
    assert f"--num_threads is {given}: give 1 or more\n" in refused(capsys, Machine, ["--num_threads", given])
    assert parse(Machine, words=["--num_threads", "1"]).num_threads == 1


def test_a_seed_below_zero_is_refused_at_once(capsys):
    assert "--seed is -1: give a seed from 0 to 2147483647\n" in refused(capsys, Named, ["--seed", "-1"])
    assert "--seed is 2147483648: give a seed from 0 to 2147483647\n" in refused(
        capsys, Named, ["--seed", "2147483648"]
    )


@pytest.mark.parametrize("flag", ["exp_name", "gen_mod_exp_name"])
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
def test_a_name_does_not_lead_out_of_the_place_for_results_and_the_place_may_be_anywhere(flag, name, capsys):
    assert "which leads out of the place for results" in refused(capsys, Named, [f"--{flag}", name])
    assert (
        getattr(parse(Named, "", [f"--{flag}", "mine/first", "--out_dir", "../logs"]), flag) == "mine/first"
    )


@pytest.mark.parametrize("flag", ["exp_name", "gen_mod_exp_name"])
@pytest.mark.parametrize("name", ["", " ", ".", "a\nb", "a\tb", "a\x1b[2Jb", "a\u2028b"])
def test_a_name_that_cannot_be_read_or_is_none_is_refused_at_once(flag, name, capsys):
    assert "give a name of printable characters" in refused(capsys, Named, [f"--{flag}", name])


@pytest.mark.parametrize(
    "bug",
    [ValueError("shapes differ"), KeyError("x"), TypeError("x"), OSError(errno.EIO, "worn out")],
    ids=repr,
)
def test_a_bug_keeps_its_traceback(bug):
    def main(args):
        raise bug

    with pytest.raises(type(bug)) as caught:
        run_main(main, None)
    assert caught.value is bug


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR],
)
def test_a_place_that_will_not_do_is_one_line_with_advice(number):
    def main(args):
        raise OSError(number, "It will not do", "/some/where")

    assert fails(main).startswith("error: It will not do (/some/where); ")
    assert "\n" not in fails(main)


def test_a_failed_write_that_does_not_know_its_file_is_one_line_too():
    def main(args):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert fails(main).startswith("error: No space left on device; nothing half-written was kept")


def test_ctrl_c_is_one_line(capsys):
    def main(args):
        raise KeyboardInterrupt

    assert fails(main) == 130
    assert (
        capsys.readouterr().err
        == "interrupted by SIGINT: it left nothing half-written; run the same command again\n"
    )


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
    assert [path.name for path in SOURCES if "tyro.cli(" in path.read_text()] == ["flags.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_refuses_a_flag_that_it_does_not_have(script, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--zzz", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert err == "error: unknown flag --zzz; --help lists the flags\n"
    assert not out


@pytest.fixture(scope="module")
def imported_for_help() -> dict[str, list[str]]:
    """The installed packages that each script imports to answer --help, all scripts one after another in one
    process.
    """
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", IMPORTED, *SCRIPTS], cwd=ROOT, capture_output=True, check=True
        ).stdout
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_answered_before_the_slow_imports(script, imported_for_help):
    assert set(imported_for_help[script]["imported"]) <= LIGHT


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_fits_a_terminal_of_80_columns(script, imported_for_help):
    assert imported_for_help[script]["wide"] == []  # commands to copy apart, which are indented


@dataclass
class Wrapped:
    num_levels: int = 0
    """A text whose source is broken after this word
    as it is here, --and before what is no letter.
    """
    places: Annotated[tuple[Path, ...], NONE_IF_EMPTY] = ()
    """Some places."""


def test_lines_of_help_break_where_the_terminal_ends_not_where_the_source_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse(Wrapped, "What it does,\nand how.\n\n    python it.py \\\n        --places here", ["--help"])
    out = capsys.readouterr().out
    assert "What it does, and how.\n\n    python it.py \\\n        --places here\n" in out
    words = " ".join(re.sub("[│ ]+", " ", out).split())
    assert "broken after this word as it is here, --and before what is no letter." in words
    assert not re.search(r"this word +│\n", out)
    assert "(default: none)" in out
    assert LaidOut("a\nb") == one_line_paragraphs(LaidOut("a\nb"))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_gen_model.py", "analysis/hidden_analysis_precompute.py"])
@pytest.mark.parametrize("words", [["--help"], ["--zzz"]])
def test_help_and_a_mistyped_flag_take_little_longer_than_python_itself(script, words):
    def seconds(*command):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True)
        return time.perf_counter() - began

    ours, least = (
        min(seconds(*command) for _ in range(5))
        for command in ((script, *words), ("-c", "import tyro, json, dataclasses"))
    )
    assert ours < 8 * least


def test_a_reader_that_leaves_ends_a_script_without_a_word(tmp_path):
    lines = (
        "import sys; sys.path.insert(0, sys.argv.pop())\nfrom common.cli import"
        " run_main\nrun_main(lambda args: [print(i) for i in range(10**5)], None)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", lines, str(ROOT)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_nan_is_no_number(capsys):
    assert (
        refused(capsys, Args, ["--agent_file", "x", "--fps", "nan"]) == "error: --fps is nan: give a number\n"
    )
