"""wl.patch is what an unroll under hooks gives, and says what is wrong with its input."""

import numpy as np
import pytest
import torch

import worldlens as wl
from agents.actor_critic import ActorCritic, NetworkConfig
from common.errors import UsageError
from interpret.directions.directions import Directions
from interpret.hooks import at_steps

STEPS, NUM = 4, 3


@pytest.fixture(scope="module")
def agent():
    torch.manual_seed(0)
    return ActorCritic(
        NetworkConfig(4, (16, 16, 3), "impala-half", 12, "gru", 8, precision="fp32", keep_bias=1.0)
    )


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    shape = (STEPS, NUM, 16, 16, 3)
    return [torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(2)]


def test_a_patched_encoder_is_an_unroll_under_hooks(agent, frames):
    clean, corrupt = frames
    features = wl.run_with_cache(agent, clean, ["encoder"])[1]["encoder"]
    edit = at_steps(lambda value, rows: features.flatten(0, 1)[rows], [1], NUM)
    expected = wl.run_with_hooks(agent, corrupt, {"encoder": edit})
    found = wl.patch(agent, clean, corrupt, "encoder", 1)
    for name in ("hidden", "logits", "value"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name)[-1], atol=1e-5, rtol=1e-4)


def test_site_step_state_and_directions_matter(agent, frames):
    directions = Directions(torch.eye(8)[:1], torch.zeros(1), torch.eye(8)[:, :1], torch.zeros(8), ("first",))
    found = [
        wl.patch(agent, *frames, site, step, directions, state).value
        for site, step, state in (
            ("state", 3, None),
            ("state", 1, None),
            ("encoder", 1, None),
            ("channel 3", 1, None),
            ("first", 1, None),
            ("encoder", 1, torch.ones(NUM, 8)),
        )
    ]
    assert len({tuple(value.tolist()) for value in found}) == len(found)
    clean = wl.run_with_cache(agent, frames[0], ["encoder"])[0]
    torch.testing.assert_close(found[0], clean.value[-1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("site", "step", "cut", "message"),
    [
        ("memory", 0, 0, "no site 'memory'"),
        ("encoder", 4, 0, "no step 4: the scenes have steps 0 to 3"),
        ("encoder", 0, 1, "clean frames are .* give equal shapes"),
        ("channel 99", 0, 0, "no channel 99"),
    ],
)
def test_bad_input_is_refused(agent, frames, site, step, cut, message):
    clean, corrupt = frames
    with pytest.raises(UsageError, match=message):
        wl.patch(agent, clean, corrupt[cut:], site, step)
