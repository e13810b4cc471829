"""The launcher's flags: which words are its own, what it refuses, and what each of its flags changes."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from common import cli
from common.cli import parse
from common.errors import UsageError
from common.launcher import CLUSTER_FLAGS, Launch, check_script, commands, split_launcher
from common.shared_flags import ALONE, Job, JobFlag
from slurm.batch_file import Batch, array_range, batch_text, options


@dataclass
class Args:
    name: str = "x"
    """A name."""
    seed: int = 0
    """A number."""
    ids: tuple[str, ...] = ()
    """Words."""
    job: JobFlag = ALONE
    log_level: int = 20


def batch(**changed) -> Batch:
    return Batch("steps", ("record.py", "--name", "a b"), Launch(**changed), Path("/shared/steps"))


@pytest.mark.parametrize(
    ("words", "own", "launcher"),
    [
        ("--name a --seed 1", "--name a --seed 1", None),
        ("--partition x --name a", "--partition x --name a", None),
        ("--name a --launcher slurm --time 5 --seed 1", "--name a --seed 1", "--launcher slurm --time 5"),
        ("--launcher=sbatch --dry_run here --name a", "here --name a", "--launcher=sbatch --dry_run"),
        ("--launcher slurm --dry_run True --name a", "--name a", "--launcher slurm --dry_run True"),
        ("--dry-run false --name a --launcher slurm", "--name a", "--dry-run false --launcher slurm"),
        (
            "--ids 0 to 9 --launcher slurm --sweep seed 0 1 --dry-run",
            "--ids 0 to 9",
            "--launcher slurm --sweep seed 0 1 --dry-run",
        ),
        (
            "--launcher slurm --gpus=1 --after 3 4 --name b",
            "--name b",
            "--launcher slurm --gpus=1 --after 3 4",
        ),
    ],
)
def test_the_launchers_words_and_the_scripts_are_separated(words, own, launcher):
    assert split_launcher(words.split()) == (own.split(), launcher and launcher.split())


def test_an_array_shares_the_work_and_a_sweep_runs_a_command_for_each_value():
    words = ["--name", "a"]
    assert commands(Args, Launch(), words) == [words]
    assert commands(Args, Launch(array="3%2"), words) == [[*words, "--job", str(i), "3"] for i in range(3)]
    assert commands(Args, Launch(sweep=("seed", "4", "9")), words) == [
        [*words, "--seed", "4"],
        [*words, "--seed", "9"],
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"array": "0"}, "--array is 0"),
        ({"array": "3%x"}, "--array is 3%x"),
        ({"array": "2", "sweep": ("seed", "1")}, "give one"),
        ({"sweep": ("seed",)}, "has no values"),
        ({"cpus": 0}, "--cpus is 0"),
        ({"processes": 0}, "--processes is 0"),
        ({"gpus": -1}, "--gpus is -1"),
        ({"save_seconds": -1}, "--save_seconds is -1"),
        ({"max_requeues": -1}, "--max_requeues is -1"),
        ({"after": (3, -5)}, "--after 3 -5: give ids"),
        ({"processes": 3, "gpus": 2}, "--processes is 3 and --gpus is 2"),
    ],
)
def test_flags_that_cannot_be_satisfied_are_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        Launch(**changed).check()


def test_as_many_processes_as_gpus_are_no_mistake():
    Launch(processes=2, gpus=2).check()
    Launch(processes=2).check()


LIMITS = {
    "partition": "p",
    "account": "lab",
    "time": "5",
    "mem": "9G",
    "after": (3,),
    "save_seconds": 9,
    "max_requeues": 1,
}


@pytest.mark.parametrize("flag", CLUSTER_FLAGS)
def test_flags_without_effect_on_this_machine_are_refused(flag):
    with pytest.raises(UsageError, match=f"^--{flag} has no effect with --launcher local: leave it out$"):
        Launch(launcher="local", **{flag: LIMITS[flag]}).check()
    Launch(launcher="slurm", **{flag: LIMITS[flag]}).check()


def test_flags_with_effect_on_this_machine_are_accepted():
    Launch("local", gpus=2, cpus=3, processes=2, array="3%1", job_name="a", job_dir=Path("b")).check()


@pytest.mark.parametrize("script", [["record.py"], ["-m", "analysis.train"], ["analysis/true_q.py"]])
def test_several_processes_of_a_script_that_does_not_train_are_refused(script):
    check_script(Launch(), script)
    with pytest.raises(UsageError, match="--processes is for train.py, train_gen_model.py, train_dt.py"):
        check_script(Launch(processes=2), script)


@pytest.mark.parametrize("script", [["train.py"], ["-m", "train_dt"], ["/a/b/train_gen_model.py"]])
def test_scripts_that_train_take_several_processes(script):
    check_script(Launch(processes=2), script)


def test_a_script_without_the_flag_is_refused():
    @dataclass
    class Alone:
        name: str = "x"

    with pytest.raises(UsageError, match="cannot be shared"):
        commands(Alone, Launch(array="2"), [])
    with pytest.raises(UsageError, match="no flag --seed"):
        commands(Alone, Launch(sweep=("seed", "1")), [])


def test_jobs_have_shares_that_make_the_whole():
    items = list(range(10))
    assert sorted(sum((Job(i, 3).share(items) for i in range(3)), [])) == items
    assert list(Job(1, 4).share(range(10))) == [1, 5, 9]
    assert {Job(i, 3).lock_name for i in range(3)} | {ALONE.lock_name} == {
        "lock",
        *(f"lock_{i}_of_3" for i in range(3)),
    }
    for wrong in ((3, 3), (-1, 2), (0, 0)):
        with pytest.raises(UsageError, match="which of how many"):
            Job(*wrong).check()


EXPECTED = {
    "partition": ({"partition": "gpu"}, "#SBATCH --partition=gpu"),
    "account": ({"account": "lab"}, "#SBATCH --account=lab"),
    "time": ({"time": "1:30:00"}, "#SBATCH --time=1:30:00"),
    "mem": ({"mem": "16G"}, "#SBATCH --mem=16G"),
    "gpus": ({"gpus": 2}, "#SBATCH --gpus-per-node=2"),
    "cpus": ({"cpus": 6}, "#SBATCH --cpus-per-task=6"),
    "processes": ({"processes": 3}, "-m torch.distributed.run --standalone --nproc-per-node 3 record.py"),
    "array": ({"array": "8%2"}, "#SBATCH --array=0-7%2"),
    "sweep": ({"sweep": ("seed", "3", "a b")}, "VALUES=(3 'a b')"),
    "after": ({"after": (4, 7)}, "#SBATCH --dependency=afterok:4:7"),
    "save_seconds": ({"save_seconds": 30}, "#SBATCH --signal=USR1@30"),
    "max_requeues": ({"max_requeues": 5}, "slurm.run 5 2 record.py"),
}


@pytest.mark.parametrize("flag", EXPECTED)
def test_a_flag_changes_the_batch_file(flag):
    changed, line = EXPECTED[flag]
    assert line in batch_text(batch(**changed))
    assert line not in batch_text(batch())


def test_no_flag_of_the_launcher_is_untested():
    elsewhere = {"launcher", "job_name", "job_dir", "dry_run"}  # tests/slurm/test_submit.py
    assert {one.name for one in fields(Launch)} == EXPECTED.keys() | elsewhere


def test_the_batch_file_runs_the_script_with_its_words_quoted():
    text = batch_text(batch(array="3"))
    assert text.splitlines()[0] == "#!/bin/bash"
    assert text.splitlines()[-1] == (
        f"srun --unbuffered --cpus-per-task=2 {sys.executable} -m slurm.run 100 2 record.py --name 'a b'"
        ' --job "$SLURM_ARRAY_TASK_ID" 3'
    )
    sweep = batch_text(batch(sweep=("seed", "1", "2"))).splitlines()[-1]
    assert sweep.endswith('--seed "${VALUES[$SLURM_ARRAY_TASK_ID]}"')


def test_every_job_may_be_requeued_and_waits_for_no_job_that_failed():
    assert {"requeue": True, "open-mode": "append"}.items() <= options(batch()).items()
    assert "kill-on-invalid-dep" not in options(batch())
    assert options(batch(after=(1,)))["kill-on-invalid-dep"] == "yes"
    assert array_range(Launch(sweep=("seed", "1", "2", "3"))) == "0-2"


def submitted(monkeypatch, words: str) -> list[str]:
    """What `parse` runs in place of the script."""
    taken = []

    def take(path, command):
        taken.append(command)
        raise SystemExit

    monkeypatch.setattr(cli.os, "execv", take)
    monkeypatch.setattr(sys, "argv", ["record.py", *words.split()])
    monkeypatch.setattr(cli, "script_words", lambda: ["record.py"])
    with pytest.raises(SystemExit):
        parse(Args, "Records.")
    return taken[0]


def test_a_script_with_a_launcher_is_submitted_and_not_run(monkeypatch):
    command = submitted(monkeypatch, "--name a --launcher slurm --array 2")
    assert command[1:6] == ["-m", "slurm.submit", "--launcher", "slurm", "--array"]
    at = command.index("--")
    assert '"name": "a"' in command[at + 1]
    assert command[at + 2 :] == ["record.py", "--name", "a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--name a --seed b --launcher slurm", "--seed takes INT, not 'b'"),
        ("--launcher slurm --sweep seed 1 x", "--seed takes INT, not 'x'"),
        ("--launcher nowhere", "--launcher takes slurm, sbatch, local, not 'nowhere'"),
        ("--launcher slurm --array 0", "--array is 0"),
        ("--launcher slurm --processes 2", "--processes is for train.py"),
        ("--launcher local --mem 3G", "--mem has no effect with --launcher local"),
        ("--launcher slurm --nam a", "unknown flag --nam, did you mean --name?"),
        ("--launcher slurm --partitio a", "unknown flag --partitio"),
    ],
)
def test_mistakes_are_found_before_anything_is_submitted(monkeypatch, capsys, words, message):
    monkeypatch.setattr(cli.os, "execv", lambda *_: pytest.fail("it was submitted"))
    monkeypatch.setattr(sys, "argv", ["record.py", *words.split()])
    with pytest.raises(SystemExit) as ended:
        parse(Args, "Records.")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
