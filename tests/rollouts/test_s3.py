"""Stores in S3, as moto serves it on this machine. `make s3` installs what that needs, and runs these."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

import label
import record
from rollouts.check import check_store
from rollouts.labels import Labels
from rollouts.store import BadStore, Rollouts
from rollouts.streaming import stream
from tests.helpers.made_store import make_store
from tests.rollouts.elsewhere import RECORDING, change_one_bit, check_labels, check_recording, files_of

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".venv" / "s3"
LENGTHS = [3, 1, 5], [4], [2, 2]
LABEL = """
import sys
sys.path.append(sys.argv[1])
import label
from pathlib import Path
label.main(label.Args(Path(sys.argv[2]), num_threads=1))
"""

sys.path.append(str(PACKAGES))  # last: what Worldlens needs itself keeps its versions
pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="no moto here: `make s3`"),
]


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("NO_PROXY", host)
        yield
    served.stop()


@pytest.fixture
def bucket(server, request):
    """An empty bucket."""
    name = request.node.name.replace("_", "-")[-60:].strip("-")
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


def test_a_store_in_s3_has_the_same_id_and_the_same_bits(bucket, tmp_path):
    local, far = make_store(tmp_path / "store", *LENGTHS), make_store(f"{bucket}/store", *LENGTHS)
    assert far.id == local.id
    for name in local.step_fields:
        assert np.array_equal(local.steps(name), far.steps(name), equal_nan=True), name
    assert list(check_store(far)) == []
    windows = [list(stream(store.windows(3), np.random.default_rng(0), 2)) for store in (local, far)]
    for one, other in zip(*windows, strict=True):
        assert np.array_equal(one.obs, other.obs)
    names = [path.name for path in far.path.iterdir()]
    assert not [name for name in names if name.startswith(".")]


def test_changed_bytes_in_s3_are_refused(bucket):
    make_store(f"{bucket}/store", *LENGTHS)
    change_one_bit(f"{bucket}/store/shard_00001.h5")
    with pytest.raises(BadStore, match="do not match their checksum"):
        Rollouts.open(f"{bucket}/store").steps("obs")


def test_labels_in_s3_are_those_on_the_disk(bucket, tmp_path):
    check_labels(tmp_path, bucket)


def test_labelling_in_s3_that_is_killed_ends_with_the_same_bits(bucket, tmp_path):
    sizes = RECORDING | {"num_episodes": 8, "episodes_per_shard": 1}
    for place in (tmp_path, Path(bucket)):
        record.main(record.Args(out_dir=place, **sizes))
    store = f"{bucket}/data/test"
    with subprocess.Popen(
        [sys.executable, "-c", LABEL, str(PACKAGES), store], cwd=ROOT, stderr=subprocess.PIPE
    ) as labelling:
        files = fsspec.filesystem("s3")
        while not files.exists(f"{store}/labels/labels_00000.json") and labelling.poll() is None:
            files.invalidate_cache()
        labelling.send_signal(signal.SIGKILL)
        said = labelling.communicate()[1].decode()
    assert labelling.returncode == -signal.SIGKILL, said
    assert 2 <= len([name for name in files_of(store) if not name.startswith(".")]) < 16
    for place in (tmp_path / "data" / "test", Path(store)):
        label.main(label.Args(place))
    there = {name: image for name, image in files_of(store).items() if not name.startswith(".")}
    assert there == files_of(str(tmp_path / "data" / "test"))
    Labels.open(store)


def test_a_recording_in_s3_is_that_on_the_disk_and_resumes(bucket, tmp_path):
    check_recording(tmp_path, bucket)
