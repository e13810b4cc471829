"""A run's key identifies its result; the same command finds the same directory."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import common.runs
from common.runs import UsageError, agrees, check_finished, choose_device, file_id, key_of, open_run, plain
from common.shared_flags import Job


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Config:
    name: str = "a"
    inner: Inner = field(default_factory=Inner)
    device: str = "auto"
    out_dir: Path = Path("logs")


@dataclass(frozen=True)
class Grown(Config):
    later: int = 0


def test_keys_follow_what_is_asked_and_nothing_else():
    base = key_of({"config": Config()})
    assert key_of({"config": Config(device="cpu", out_dir=Path("elsewhere"))}) == base
    assert key_of({"config": Grown()}) == base
    changed = [Config(name="b"), Config(inner=Inner(4)), Grown(later=1)]
    assert len({key_of({"config": config}) for config in changed} | {base}) == 4


def test_the_same_command_finds_its_run(tmp_path):
    first = open_run(tmp_path, "seed_0", {"config": Config()})
    again = open_run(tmp_path, "seed_0", {"config": Config(device="cpu")})
    assert not first.resumed
    assert again.resumed
    assert again.dir == first.dir
    assert not again.done
    again.finish({"return": 1.0})
    assert open_run(tmp_path, "seed_0", {"config": Config()}).done
    another = open_run(tmp_path, "seed_0", {"config": Config()}, new=True)
    assert another.dir != first.dir
    assert not another.resumed
    assert open_run(tmp_path, "seed_0", {"config": Config()}).dir == another.dir


def test_jobs_share_a_run_and_each_share_has_one_process(tmp_path):
    config = {"config": Config()}
    runs = [open_run(tmp_path, "seed_0", config, job=Job(i, 2)) for i in range(2)]
    assert runs[0].dir == runs[1].dir
    assert not runs[0].resumed
    assert runs[1].resumed
    assert {path.name for path in runs[0].dir.glob("lock*")} == {"lock_0_of_2", "lock_1_of_2"}
    with_job, without = ({"args": {"seed": 1} | job} for job in ({"job": [1, 2]}, {}))
    assert key_of(with_job) == key_of(without)


def test_other_questions_get_other_runs(tmp_path):
    dirs = {
        open_run(tmp_path, "seed_0", {"config": Config()}).dir,
        open_run(tmp_path, "seed_0", {"config": Config(name="b")}).dir,
        open_run(tmp_path, "seed_0", {"config": Config()}, inputs={"model": "1234"}).dir,
        open_run(tmp_path, "seed_1", {"config": Config()}).dir,
    }
    assert len(dirs) == 4


def test_a_changed_default_does_not_pass_for_the_old_run(tmp_path):
    """Two configs with one key (only the default moved): the old directory says what it was made with."""
    old = open_run(tmp_path, "run", {"config": Config()})
    config = json.loads((old.dir / "config.json").read_text())
    config["config"]["inner"]["width"] = 99
    (old.dir / "config.json").write_text(json.dumps(config))
    assert open_run(tmp_path, "run", {"config": Config()}).dir != old.dir


def test_a_kill_before_the_config_was_written_does_no_harm(tmp_path):
    half = open_run(tmp_path, "run", {"config": Config()})
    (half.dir / "config.json").unlink()
    again = open_run(tmp_path, "run", {"config": Config()})
    assert again.dir != half.dir
    assert not again.resumed
    assert open_run(tmp_path, "run", {"config": Config()}).dir == again.dir


def test_agreement_is_about_shared_fields():
    assert agrees({"a": 1, "old": 2}, {"a": 1, "new": 3})
    assert not agrees({"a": 1}, {"a": 2})
    assert agrees({"device": "cpu"}, {"device": "gpu"})
    assert not agrees({"in": {"a": [1]}}, {"in": {"a": [2]}})


def test_the_directory_says_what_it_holds(tmp_path):
    run = open_run(tmp_path, "run", {"config": Config()}, inputs={"model": "1234"})
    assert json.loads((run.dir / "config.json").read_text()) == plain({"config": Config()})
    manifest = json.loads((run.dir / "manifest.json").read_text())
    assert manifest["inputs"] == {"model": "1234"}
    assert manifest["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert manifest["threads"] == torch.get_num_threads()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the run directory"):
        open_run(tmp_path / "file", "run", {"config": Config()})


def test_a_full_disk_leaves_no_run_behind(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    with (
        monkeypatch.context() as filled,
        pytest.raises(UsageError, match="cannot make the run directory .*: No space left on device"),
    ):
        filled.setattr(common.runs, "write_json", full)
        open_run(tmp_path, "run", {"config": Config()})
    assert not list(tmp_path.iterdir())
    assert not open_run(tmp_path, "run", {"config": Config()}).resumed


def test_file_ids_follow_the_bytes(tmp_path):
    ids = []
    for name, data in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(data)
        ids.append(file_id(tmp_path / name))
    assert ids[0] == ids[1] != ids[2]


def test_devices(monkeypatch):
    monkeypatch.setattr(common.runs.torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="this machine has none"):
        choose_device("gpu")
    with pytest.raises(UsageError, match="unknown device"):
        choose_device("tpu")
    monkeypatch.setattr(common.runs.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(common.runs.torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("gpu") == torch.device("cuda:0")
    assert choose_device("1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="asks for GPU 2, and this machine has 2"):
        choose_device("2")
    assert choose_device("cpu") == torch.device("cpu")


def test_opening_a_run_says_whether_there_is_work_and_where_it_lies(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    directory = open_run(tmp_path, "run", Config()).dir  # and its lock is gone
    open_run(tmp_path, "run", Config()).finish({})
    assert open_run(tmp_path, "run", Config()).done
    said = [f"writing to {directory}", f"resuming {directory}", f"{directory} is done; --new makes another"]
    assert [record.getMessage() for record in caplog.records] == said


def test_a_directory_that_a_killed_process_was_just_making_is_removed(tmp_path):
    run = open_run(tmp_path, "seed_0", {"a": 1})
    # beyond any process
    abandoned, begun = (tmp_path / f".{run.dir.name}_2.{number}" for number in (2**22 + 1, 2**22 + 2))
    for left in (abandoned, begun):
        left.mkdir()
    (abandoned / "lock").touch()  # nobody holds it
    living = tmp_path / f".{run.dir.name}_2.{os.getppid()}"
    living.mkdir()
    open_run(tmp_path, "seed_0", {"a": 1}, new=True)
    assert not abandoned.exists()
    assert not begun.exists()
    assert living.exists()  # its process may be about to lock it


def test_a_directory_that_another_machine_takes_for_abandoned_is_made_again(tmp_path, monkeypatch):
    hold, removed = common.runs.hold, []

    def removed_before(path: Path):
        if not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        return hold(path)

    monkeypatch.setattr(common.runs, "hold", removed_before)
    run = open_run(tmp_path, "seed_0", {"a": 1})
    assert removed
    assert (run.dir / "config.json").exists()


def test_a_finished_run_knows_its_json_files(tmp_path):
    run = open_run(tmp_path, "run", Config())
    (run.dir / "numbers.json").write_text('{"effect": 1}')
    run.finish({})
    check_finished(run.dir)
    (run.dir / "numbers.json").write_text('{"effect": 3}')
    with pytest.raises(UsageError, match=r"numbers.json is damaged: it does not match its checksum"):
        check_finished(run.dir)
    (run.dir / "numbers.json").unlink()
    with pytest.raises(UsageError, match=r"numbers.json is damaged"):
        check_finished(run.dir)


def test_a_run_from_before_checksums_is_not_checked(tmp_path):
    run = open_run(tmp_path, "run", Config())
    run.finish({})
    (run.dir / "checksums.json").unlink()
    check_finished(run.dir)
