"""Submission: submitit and plain batch files ask for the same, and chains wait for the steps before."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UsageError
from common.launcher import Launch
from slurm import chain
from slurm.batch_file import Batch
from slurm.chain import read_chain
from slurm.engine import submit
from slurm.submit import main, module_of, name_of, read_words, with_limits
from slurm.time_limit import limit_of, minutes_of
from tests.slurm.fake_slurm import calls, install_fake_slurm

ROOT = Path(__file__).parents[2]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for Slurm's commands, first on the path."""
    place = install_fake_slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


def sbatch_lines(text: str) -> set[str]:
    """Options of a batch file, except for names of files, which differ by design."""
    lines = {line for line in text.splitlines() if line.startswith("#SBATCH")}
    return {line for line in lines if not re.match(r"#SBATCH --(output|error|wckey|ntasks-per-node)", line)}


@pytest.mark.parametrize("changed", [{}, {"array": "6%2"}, {"sweep": ("seed", "1", "2")}, {"after": (3, 4)}])
def test_submitit_and_plain_batch_files_ask_for_the_same(tmp_path, slurm, changed):
    flags = {"partition": "p", "time": "1:00:00", "mem": "3G", "gpus": 1} | changed
    texts = {}
    for launcher in ("slurm", "sbatch"):
        batch = Batch("steps", ("train.py",), Launch(launcher=launcher, **flags), tmp_path / launcher)
        assert submit(batch) == 10 + len(calls(slurm, "sbatch"))
        texts[launcher] = sbatch_lines(calls(slurm, "sbatch")[-1]["text"])
    if texts["slurm"] != texts["sbatch"]:  # submitit always writes a limit
        assert {line.partition("%")[0] for line in texts["slurm"] ^ texts["sbatch"]} == {
            "#SBATCH --array=0-1"
        }
    assert {"#SBATCH --time=1:00:00", "#SBATCH --requeue", "#SBATCH --signal=USR1@120"} <= texts["slurm"]


def test_submitit_asks_for_no_time_of_its_own(tmp_path, slurm):
    submit(Batch("steps", ("train.py",), Launch(), tmp_path / "jobs"))
    assert "--time" not in calls(slurm, "sbatch")[-1]["text"]


def test_a_chain_that_is_not_there_and_words_without_a_value_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no chain file"):
        read_chain(tmp_path / "nowhere.yml")
    with pytest.raises(UsageError, match="--variables has 'EXP': give NAME=VALUE"):
        read_chain(write_chain(tmp_path), ["EXP"])


def test_without_a_script_there_is_nothing_to_submit():
    for words in ([], ["--dry_run"], ["--", "{}"]):
        with pytest.raises(UsageError, match="there is no script to submit"):
            main(read_words(words))


def test_srun_has_the_number_of_cores_too(tmp_path, slurm):
    for launcher in ("slurm", "sbatch"):
        launch = Launch(launcher=launcher, cpus=4, processes=2)
        submit(Batch("steps", ("train.py",), launch, tmp_path / launcher))
        (line,) = [
            line for line in calls(slurm, "sbatch")[-1]["text"].splitlines() if line.startswith("srun")
        ]
        assert "--cpus-per-task=8" in line


def test_without_slurm_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for launcher, program in (("slurm", "srun"), ("sbatch", "sbatch")):
        with pytest.raises(UsageError, match=rf"no {program}, .* --dry_run .* --launcher local"):
            submit(Batch("steps", ("train.py",), Launch(launcher=launcher), tmp_path))


def test_what_slurm_refuses_is_one_line(tmp_path, slurm):
    (slurm / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    )
    for launcher in ("slurm", "sbatch"):
        with pytest.raises(UsageError, match=r"^Slurm refuses the job: invalid partition specified: x$"):
            submit(Batch("steps", ("train.py",), Launch(launcher=launcher, partition="x"), tmp_path))


def test_time_limits_are_slurms():
    minutes = {"90": 90, "1:30": 1.5, "2:00:00": 120, "1-12": 2160, "1-00:30": 1470, "0-00:00:30": 0.5}
    assert {limit: minutes_of(limit) for limit in minutes} == minutes
    assert [limit_of(x) for x in (0.2, 90, 1441)] == ["00:01:00", "01:30:00", "1-00:01:00"]
    with pytest.raises(UsageError, match="--time is soon"):
        minutes_of("soon")


def test_a_short_job_keeps_half_of_its_time_for_work():
    assert with_limits(Launch(time="2"), None).save_seconds == 60
    assert with_limits(Launch(time="2:00:00"), None).save_seconds == 120
    assert with_limits(Launch(), None).save_seconds == 120


def test_scripts_have_plain_names():
    assert (
        module_of(["analysis/true_q.py", "--x"]) == module_of(["-m", "analysis.true_q"]) == "analysis.true_q"
    )
    assert name_of(["-m", "analysis.true_q"]) == "true_q"


CHAIN = """
variables: {{EXP: mine}}
steps:
  first: {{run: 'record.py --exp_name $EXP --behaviour random', array: 2, cpus: 3}}
  second: {{run: 'record.py --exp_name other --behaviour random {more}'}}
  third: {{run: 'record.py --exp_name third --behaviour random', after: first, sweep: [seed, 1, 2]}}
  last: {{run: 'record.py --exp_name last --behaviour random', after: [second, third]}}
"""


def write_chain(place: Path, more: str = "") -> Path:
    path = place / "chain.yml"
    path.write_text(CHAIN.format(more=more))
    return path


def run_chain(path: Path, *flags: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "slurm.chain", "--chain_file", str(path), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_steps_wait_for_those_before_them(tmp_path, slurm):
    flags = (
        "--launcher",
        "sbatch",
        "--job_dir",
        str(tmp_path / "jobs"),
        "--partition",
        "p",
        "--account",
        "lab",
    )
    done = run_chain(write_chain(tmp_path), *flags, "--variables", "EXP=theirs")
    assert done.returncode == 0, done.stderr
    texts = [one["text"] for one in calls(slurm, "sbatch")]
    waits = [re.findall(r"--dependency=(\S+)", text) for text in texts]
    assert waits == [[], ["afterok:11"], ["afterok:11"], ["afterok:12:13"]]
    assert all("--partition=p" in text and "--account=lab" in text for text in texts)
    assert "--exp_name theirs" in texts[0]
    assert "#SBATCH --array=0-1" in texts[0]
    assert "#SBATCH --cpus-per-task=3" in texts[0]
    assert "VALUES=(1 2)" in texts[2]
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["first", "last", "second", "third"]


def test_nothing_is_submitted_where_a_later_step_is_wrong(tmp_path, slurm):
    done = run_chain(write_chain(tmp_path, "--sead 3"), "--launcher", "sbatch")
    assert done.returncode == 1
    assert "step second: unknown flag --sead, did you mean --seed?" in done.stderr
    assert calls(slurm, "sbatch") == []


def test_a_dry_run_prints_every_batch_file_and_submits_nothing(tmp_path, slurm):
    done = run_chain(write_chain(tmp_path), "--dry_run")
    assert done.stdout.count("#!/bin/bash") == 4
    assert re.findall(r"\(after (.*)\)", done.stdout) == ["first", "first", "second, third"]
    assert calls(slurm, "sbatch") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [a]", "is no chain"),
        ("other: 3", "is no chain"),
        ("steps: {}", "is no chain"),
        ("variables: 3\nsteps: {a: {run: x.py}}", "is no chain"),
        ("steps: [", "chain.yml is damaged"),
        ("steps: &a {a: *a}", "chain.yml is damaged .*alias"),
        ("steps: {a: {array: 2}}", "step a has no command"),
        ("steps: {a: {run: x.py, partitions: p}}", "partitions of the step a is none of"),
        ("steps: {a: {run: x.py, after: b}}", "after b, which is no step before it"),
        ("steps: {a: {run: x.py}, b: {run: x.py, after: [a, zzz]}}", "after zzz, which is no step before it"),
        ("steps: {a: {run: 'x.py $NAME'}}", "a variable that is not set: 'NAME'"),
    ],
)
def test_files_that_are_no_chains_are_refused(tmp_path, text, message):
    path = tmp_path / "chain.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_chain(path)


def read(place: Path, text: str, *variables: str) -> list[chain.Step]:
    (place / "chain.yml").write_text(text)
    return read_chain(place / "chain.yml", variables)


@pytest.mark.parametrize("limit", ["1:30:00", "12:00:00", "010", "1_000", "2026-01-02", "1e3"])
def test_values_of_a_chain_stay_the_text_that_was_written(tmp_path, limit):
    (step,) = read(tmp_path, f"variables: {{A: {limit}}}\nsteps: {{a: {{run: x.py $A, time: {limit}}}}}")
    assert step.words == ("x.py", limit)
    assert f"--time={limit}" in chain.command_of(step, chain.Args(), (), dry_run=False)


def test_a_step_after_nothing_waits_for_none(tmp_path):
    steps = read(
        tmp_path, "variables:\nsteps: {a: {run: x.py}, b: {run: x.py, after: , mem: }, c: {run: x.py}}"
    )
    assert [step.after for step in steps] == [(), (), ("b",)]
    assert steps[1].flags == {}


def test_variables_that_the_file_does_not_have_are_refused(tmp_path):
    text = "variables: {EXP: a, OUT: b}\nsteps: {a: {run: x.py $EXP $OUT}}"
    assert read(tmp_path, text, "EXP=c")[0].words == ("x.py", "c", "b")
    with pytest.raises(UsageError, match=r"--variables sets EXPP; those of .*chain.yml: EXP, OUT$"):
        read(tmp_path, text, "EXP=c", "EXPP=d")


def test_a_chain_on_this_machine_asks_for_no_limits_of_slurms(tmp_path):
    step = chain.Step("a", ("x.py",), {"mem": "64G", "time": "5", "cpus": "3"}, ())
    words = chain.command_of(step, chain.Args(launcher="local"), (), dry_run=False)
    assert [word for word in words if word.startswith(("--mem", "--time", "--cpus"))] == ["--cpus=3"]


@pytest.mark.parametrize("name", ["study", "small"])
def test_the_chains_that_we_ship_go_from_an_agent_to_a_report(name):
    steps = read_chain(ROOT / "slurm" / "chains" / f"{name}.yml")
    names = [step.name for step in steps if step.name != "label"]
    assert names == [
        "train",
        "record",
        "train_gen_model",
        "record_gen_samples",
        "saliency",
        "precompute",
        "plot",
        "report",
    ]
    arrays = {step.name for step in steps if "array" in step.flags}
    assert arrays - {"label"} == {"record", "record_gen_samples", "saliency"}


def test_a_submitted_script_says_where_its_output_goes(tmp_path, slurm):
    words = f"--behaviour random --launcher sbatch --job_dir {tmp_path}/jobs --job_name mine --time 20"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "record.py", *words.split()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == f"submitted job 11; output in {tmp_path}/jobs/mine"
    assert "#SBATCH --job-name=mine" in (tmp_path / "jobs" / "mine" / "mine.sbatch").read_text()


def test_the_flags_of_a_chain_are_the_launchers(tmp_path):
    args = chain.Args(job_dir=tmp_path, partition="p")
    step = chain.Step("a", ("x.py",), {"array": 3, "partition": "q"}, ())
    words = chain.command_of(step, args, [4], dry_run=True)
    assert words[0] == "x.py"
    assert "--partition=q" in words
    assert words[-3:] == ["--after", "4", "--dry_run"]
    assert json.dumps(words).count("--array=3") == 1
