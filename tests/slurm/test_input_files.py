"""Files that a script is to read are looked for before its jobs are submitted, what it writes is not."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

import record
from common.launcher import read_and_written
from common.shared_flags import WRITTEN
from slurm.input_files import is_inside, lacking, read_report, report
from tests.project.test_flags_are_uniform import flag_types, scripts
from tests.slurm.fake_slurm import calls, install_fake_slurm

ROOT = Path(__file__).parents[2]
READ = {
    *("agent_file", "agent_files", "mixture_files", "other_agent_file", "clone_file", "dt_file"),
    *("world_model_file", "compare_with", "start_latents", "direction_files", "directions", "env_directions"),
    *("data_dir", "sim_data_dir", "informed_dir", "random_dir", "store", "path", "source", "scenes_dir"),
    *("run", "runs", "run_dir", "root", "datapath", "precomp_dir", "precomp_dirs", "presaved_data_path"),
    *("clusters_dir", "jacobians_dir", "map_dir", "probes_dir", "xcaus_dir", "saliency_dir", "report_dir"),
    *("results_dir", "saliency_results", "numbers", "gradient_check", "hypotheses", "edits"),
    *("scores", "scores_files", "seed_scores", "dt_scores", "agent_log", "dt_log", "world_model_log"),
}
"""Flags that name what a script reads."""
RECORD = ("record.py", "--behaviour", "agent", "--env_name", "coinrun", "--launcher", "sbatch")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for Slurm's commands, first on the path."""
    place = install_fake_slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return place


def takes_path(hint: Any) -> bool:
    return hint is Path or any(map(takes_path, get_args(hint)))


def path_flags(script: str) -> set[str]:
    types = flag_types(importlib.import_module(script).Args)
    return {name for name, hint in types.items() if takes_path(hint)}


@pytest.mark.parametrize("script", scripts())
def test_every_path_of_every_script_is_read_or_written(script):
    flags = path_flags(script)
    assert flags <= READ | set(WRITTEN)
    values = SimpleNamespace(**{name: Path(name) for name in flags}, seed=3)
    words = [f"--{name}={name}" for name in flags]
    read, written = read_and_written(importlib.import_module(script).Args, [values], words)
    assert read == {f"--{name}": [name] for name in flags & READ}
    assert set(written) == flags - READ


def test_every_kind_of_path_is_in_use():
    assert set().union(*map(path_flags, scripts())) == READ | set(WRITTEN)


def test_only_what_the_words_name_is_looked_for():
    here, there = Path("a.safetensors"), Path("b.safetensors")
    jobs = [record.Args(agent_file=here), record.Args(agent_file=there)]
    for words in (["--agent_file", "a"], ["--model_file=a"], ["--agent-file", "a"]):
        assert read_and_written(record.Args, jobs, words) == (
            {"--agent_file": [str(here), str(there)]},
            ["."],
        )
    assert read_and_written(record.Args, jobs, ["--seed", "1"]) == ({}, ["."])
    edited = record.Args()
    edited.edit.direction_files = (here, there)
    assert read_and_written(record.Args, [edited], ["--directions", "a"])[0] == {
        "--direction_files": [str(here), str(there)]
    }


def test_results_of_earlier_jobs_and_urls_are_not_looked_for(tmp_path):
    there = tmp_path / "there"
    there.touch()
    read = {"--a": [str(there), f"file:{there}", "x/*/y", "s3://bucket/x", "s3:/bucket/x"], "--b": ["no/x"]}
    assert lacking(read) == [("--b", "no/x")]
    assert lacking({"--a": [f"file://{tmp_path}/nowhere"]}) == [("--a", f"file://{tmp_path}/nowhere")]


def test_a_dry_runs_lines_are_read_back():
    lacks, written = [("--data_dir", "a b"), ("--edits", "c")], ["out", "x y"]
    lines = "\n".join(["name: about 3 h", *report(lacks, written), "#!/bin/bash", "#SBATCH --x=writes to: y"])
    assert read_report(lines) == (lacks, written)
    assert report([], []) == []


def test_places_are_compared_as_paths():
    assert is_inside("out/data/x", "out")
    assert is_inside("./out", os.path.abspath("out"))
    assert not is_inside("outer/x", "out")
    assert not is_inside("out/../x", "out")


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


def test_a_missing_file_is_found_before_submission(tmp_path, slurm):
    missing, place = tmp_path / "agent.safetensors", ("--job_dir", str(tmp_path / "jobs"))
    refused = run(*RECORD, *place, "--model_file", str(missing))
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"error: --agent_file names {missing}, which does not exist: give another, or --after the jobs that"
        " make it"
    ]
    shown = run(*RECORD, *place, "--agent_file", str(missing), "--dry_run")
    assert f"lacks: --agent_file {missing}\nwrites to: .\n#!/bin/bash" in shown.stdout
    assert calls(slurm, "sbatch") == []
    for words in (
        ["--agent_file", str(tmp_path / "*.safetensors")],
        ["--agent_file", str(missing), "--after", "5"],
    ):
        assert run(*RECORD, *place, *words).returncode == 0
    assert len(calls(slurm, "sbatch")) == 2
    missing.touch()
    assert run(*RECORD, *place, "--agent_file", str(missing)).returncode == 0
    swept = run(*RECORD, *place, "--sweep", "agent_file", str(missing), str(tmp_path / "other"))
    assert f"--agent_file names {tmp_path / 'other'}, which does not exist" in swept.stderr
    assert len(calls(slurm, "sbatch")) == 3


CHAIN = """
variables: {OUT: out}
steps:
  record: {run: 'record.py --exp_name a --behaviour random --out_dir $OUT'}
  label: {run: 'label.py --data_dir $OUT/data/a'}
  again: {run: 'label.py --data_dir $OUT/data/a', after: %s}
  other: {run: 'label.py --data_dir $OUT/%s', after: record}
"""


def chain(place: Path, after: str, name: str, *flags: str) -> list[str]:
    """Words that submit the chain."""
    (place / "chain.yml").write_text(CHAIN % (after, name))
    words = ["-m", "slurm.chain", "--chain_file", str(place / "chain.yml"), "--launcher", "sbatch"]
    return [*words, "--job_dir", str(place / "jobs"), "--variables", f"OUT={place}/out", *flags]


@pytest.mark.parametrize(
    ("after", "name", "refused"),
    [
        ("label", "data/a", None),
        ("[]", "data/a", "again: --data_dir names {}/out/data/a"),
        ("label", "../elsewhere", "other: --data_dir names {}/out/../elsewhere"),
    ],
)
def test_a_chain_is_refused_for_a_file_that_no_earlier_step_makes(tmp_path, slurm, after, name, refused):
    done = run(*chain(tmp_path, after, name))
    if refused is None:
        assert done.returncode == 0, done.stderr
        assert len(calls(slurm, "sbatch")) == 4
        return
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: step {refused.format(tmp_path)}, which does not exist, and no step that it waits for writes"
        " there"
    ]
    assert calls(slurm, "sbatch") == []


def test_steps_on_this_machine_run_in_their_order(tmp_path, slurm):
    words = chain(tmp_path, "[]", "data/a", "--dry_run")
    words[words.index("sbatch")] = "local"
    assert run(*words).returncode == 0


def test_the_chains_that_we_ship_find_their_files(slurm):
    done = run("-m", "slurm.chain", "--chain_file", "slurm/chains/small.yml", "--dry_run")
    assert done.returncode == 0, done.stderr


SLOW = """#!/bin/sh
"{place}/sbatch" "$@"
if [ $(grep -c . "{place}/calls.jsonl") = 2 ]; then touch "{place}/second"; sleep 1; fi
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_of_a_chain_says_which_jobs_stay_in_the_queue(tmp_path, slurm, monkeypatch, number, code):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sbatch").write_text(SLOW.format(place=slurm))
    (slow / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    command = [sys.executable, *chain(tmp_path, "label", "data/a")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (slurm / "second").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert len(calls(slurm, "sbatch")) == 2
    assert said.splitlines()[-1] == (
        f"interrupted by {number.name}: of 4 steps, 2 stay in the queue: record (job 11), label (job 12); the"
        " same command submits every step again, so cancel these first: scancel 11 12; what jobs have saved"
        " is kept, and steps go on from there"
    )


def test_a_stop_before_anything_is_submitted_says_so(tmp_path, slurm):
    command = [sys.executable, *chain(tmp_path, "label", "data/a")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert calls(slurm, "sbatch") == []
    assert "the same command" in said
    assert "queue" not in said


def test_a_step_that_slurm_refuses_leaves_those_before_it_named(tmp_path, slurm, monkeypatch):
    strict = tmp_path / "strict"
    strict.mkdir()
    once = (
        'if [ -e "{0}/calls.jsonl" ]; then echo "sbatch: error: no more" >&2; exit 1; fi; "{0}/sbatch" "$@"'
    )
    (strict / "sbatch").write_text("#!/bin/sh\n" + once.format(slurm))
    (strict / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{strict}:{os.environ['PATH']}")
    done = run(*chain(tmp_path, "label", "data/a"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: step label: Slurm refuses the job: no more; of 4 steps, 1 stay in the queue: record (job 11);"
    )
