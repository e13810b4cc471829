"""Places that hold no store, or may not be used, are one line in every script that takes a store by path."""

import errno
import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest

import convert
import label
import record
from common.cli import run_main
from rollouts import compact, inspect_store, migrate
from rollouts.shard import _digest, entry_path
from tests.helpers.made_store import make_store

READERS = {
    "label": lambda place, tmp: label.main(label.Args(place)),
    "compact": lambda place, tmp: compact.main(compact.Args(place, tmp / "copy")),
    "migrate": lambda place, tmp: migrate.main(migrate.Args(place)),
    "inspect": lambda place, tmp: inspect_store.main(inspect_store.Args(place, check=True)),
    "convert": lambda place, tmp: convert.main(convert.Args(place, tmp / "x.h5", format="midt")),
}
WRITERS = {
    "compact": lambda place, tmp: compact.main(compact.Args(tmp / "store", place)),
    "convert": lambda place, tmp: convert.main(convert.Args(tmp / "store", place, format="midt")),
    "record": lambda place, tmp: record.main(
        record.Args(behaviour="random", num_episodes=1, num_envs=1, num_threads=1, out_dir=place)
    ),
}
URLS = ("nowhere://x", "S3://bucket/x", "github://a/b", "simplecache::memory://a/b")


@pytest.fixture
def tmp(tmp_path):
    """A directory with a sound store, and with places that hold none."""
    make_store(tmp_path / "store", [3, 2], [4])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "no_manifest" / "manifest.json").mkdir(parents=True)
    for name, changes in {"later": {"schema": 3}, "earlier": {"schema": 0}, "foreign": {"kind": "x"}}.items():
        manifest = copy(tmp_path, name) / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    entry = entry_path(copy(tmp_path, "later_shard"), 0)
    about = json.loads(entry.read_text()) | {"schema": 7}
    about.pop("sha256")
    entry.write_text(json.dumps(about | {"sha256": _digest(about)}))
    fsspec.filesystem("memory").store.clear()
    return tmp_path


def copy(tmp_path: Path, name: str) -> Path:
    return shutil.copytree(tmp_path / "store", tmp_path / name)


def refusal(main, place: Path, tmp_path: Path) -> str:
    """The one line with which the script ends."""
    with pytest.raises(SystemExit) as ended:
        run_main(lambda args: main(place, tmp_path), None)
    line = str(ended.value.code)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


PLACES = (
    *("empty", "file", "loop", "dangling", "no_manifest", "no/x"),
    *("later", "earlier", "foreign", "later_shard"),
)


@pytest.mark.parametrize("script", READERS)
@pytest.mark.parametrize("place", [*PLACES, *URLS, "s3://", "memory://nowhere", "file:///none/such"])
def test_what_is_no_store_cannot_be_read(tmp, script, place):
    path = tmp / place if place in PLACES else Path(place)
    line = refusal(READERS[script], path, tmp)
    assert place in PLACES or Path(place).name.rstrip(":") in line
    assert not (tmp / "copy").exists()
    assert not (tmp / "x.h5").exists()


@pytest.mark.parametrize("script", WRITERS)
@pytest.mark.parametrize("place", ["file/x", "loop/x", *URLS])
def test_where_nothing_can_be_written_is_one_line(tmp, script, place, monkeypatch):
    monkeypatch.chdir(tmp)
    before = sorted(tmp.rglob("*"))
    refusal(WRITERS[script], Path(place), tmp)
    assert sorted(tmp.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_right_that_is_missing_is_advised_on(number, tmp_path):
    def main(place: Path, _: Path) -> None:
        raise OSError(number, os.strerror(number), str(place))

    advice = "change its permissions or choose another place"
    line = refusal(main, tmp_path, tmp_path)
    assert line.startswith(f"error: {os.strerror(number)} ({tmp_path}); {advice}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_place_without_permission_is_one_line(tmp):
    (tmp / "empty").chmod(0)
    for main, place in [(READERS["migrate"], tmp / "empty"), (WRITERS["record"], tmp / "empty" / "x")]:
        assert "change its permissions" in refusal(main, place, tmp)
    (tmp / "empty").chmod(0o700)


@pytest.mark.parametrize(("place", "file"), [("later", "later"), ("later_shard", "shard_00000.json")])
def test_what_a_later_version_wrote_asks_for_that_version(tmp, place, file):
    line = refusal(READERS["migrate"], tmp / place, tmp)
    assert f"{file} h" in line
    assert line.endswith("a later version of Worldlens made it, so update this one")
    assert refusal(READERS["migrate"], tmp / "earlier", tmp).endswith("record it again")
