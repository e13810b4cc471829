"""Oracles on windows of the toy world with planted labels: each part that is true is so to the bit."""

import pytest
import torch

from analysis.model_eval.predictions import open_loop
from analysis.oracles.oracle_rollouts import ORACLES, OracleWindows
from generative.model.frames import frames_to_bytes, round_frames
from generative.simulator import Simulator
from generative.training.teacher_forcing import read_windows, true_view
from tests.helpers.decision.toy_windows import STEPS, K, agent, labelled, model, segment, store  # noqa: F401
from tests.helpers.toy_world import NOOP

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture
def simulator(model, agent):
    return Simulator(model, agent, NOOP)


@pytest.fixture
def windows(simulator, labelled):
    return OracleWindows(simulator, labelled)


def recorded(windows, segment):
    """What the model reads from every frame, at places where the windows' view has them."""
    return read_windows(windows.model, segment, windows.simulator.agent, None, windows.recording.view)


@torch.no_grad()
def painted(model, canvas, position, pose):
    codes = model.codes_in_view(canvas, position)
    return frames_to_bytes(round_frames(model.painter(codes, position, pose)))


def test_without_oracles_the_rollout_is_the_open_loop(simulator, labelled, windows):
    frames = windows.roll(()).frames
    assert torch.equal(frames, open_loop(simulator, labelled).obs)
    assert frames.shape[0] == STEPS
    assert not torch.equal(OracleWindows(simulator, labelled, seed=1).roll(()).frames, frames)


def test_with_the_true_motion_every_frame_lies_at_its_true_place(windows):
    assert (windows.roll(("motion",)).place_error[1:] == 0).all()
    for others in ((), ("tiles",), ("pose",), ("tiles", "pose")):
        assert (windows.roll(others).place_error[1:] != 0).any(-1).float().mean() > 0.9


def test_with_the_true_start_the_first_frame_lies_at_its_true_place(windows):
    assert (windows.roll(("start",)).place_error[0] == 0).all()
    assert (windows.roll(("motion", "tiles", "pose")).place_error[0] != 0).any()


def test_places_are_those_of_the_labels(windows, labelled):
    moved = windows.recording.view.position.diff(dim=0)
    truth = true_view(windows.model, labelled).position.diff(dim=0)
    torch.testing.assert_close(moved, truth, atol=1e-5, rtol=0)


def test_a_start_described_from_the_next_tile_on_is_not_a_tile_off(simulator, labelled, monkeypatch):
    monkeypatch.setattr("generative.model.world_model.UNKNOWN_PHASE", 0.0)  # starts at the corner of a tile
    windows = OracleWindows(simulator, labelled)
    tile = windows.model.config.tile_pixels
    apart = windows.start.position - true_view(windows.model, labelled).position[K - 1]
    assert (apart.abs() > 0.5 * tile).any()
    assert (windows.roll(()).place_error[0].abs() <= 0.5 * tile + 1e-5).all()


def test_with_all_oracles_what_is_left_is_the_painters_error(windows, labelled):
    found = windows.roll(ORACLES)
    truth = recorded(windows, labelled)
    assert (found.place_error == 0).all()
    for step, frame in enumerate(found.frames):
        i = K - 1 + step
        ceiling = painted(windows.model, truth.canvases[i], truth.view.position[i], truth.encoded.pose[i])
        assert torch.equal(frame[labelled.mask[i]], ceiling[labelled.mask[i]])


def test_each_oracle_alone_is_the_truth_about_its_own_part_of_the_first_frame(windows, labelled):
    truth = recorded(windows, labelled)
    start = windows.start
    canvas = truth.canvases[K - 1]
    seen = (canvas != 0).any(-1, keepdim=True)
    expected = {
        (): (start.canvas, start.position, start.pose),
        ("pose",): (start.canvas, start.position, truth.encoded.pose[K - 1]),
        ("tiles",): (torch.where(seen, canvas, start.canvas), start.position, start.pose),
        ("motion",): (start.canvas, start.position, start.pose),
        ("start",): (canvas, truth.view.position[K - 1], truth.encoded.pose[K - 1]),
    }
    for oracles, parts in expected.items():
        assert torch.equal(windows.roll(oracles).frames[0], painted(windows.model, *parts)), oracles
    frames = {oracles: windows.roll(oracles).frames[0] for oracles in expected}
    assert torch.equal(frames[("motion",)], frames[()])
    for oracles in (("pose",), ("tiles",), ("start",)):
        assert not torch.equal(frames[oracles], frames[()])


def test_an_unknown_oracle_is_refused(windows):
    with pytest.raises(ValueError, match="unknown oracle 'painter'; choose from: start, motion, tiles, pose"):
        windows.roll(("painter",))
