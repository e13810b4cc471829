"""Interchange patching finds the planted site and step, agrees with hooks, and needs the right donor."""

import numpy as np
import pytest
import torch
from torch import nn

from agents.actor_critic import ActorCritic, NetworkConfig
from common.runs import UsageError
from common.stats import level_weights
from interpret.directions.directions import Directions
from interpret.hooks import at_steps, run_with_hooks, unroll
from interpret.interventions import interchange
from interpret.interventions.interchange import (
    CHANNEL,
    DIRECTION,
    ENCODER,
    STATE,
    Site,
    all_sites,
    decisions,
    of_scenes,
    patched_state,
    record_activations,
    recovered,
    site_of,
    with_score_of,
)

STEPS, SCENES, WIDTH, PLANTED = 5, 64, 12, 7
JUMPS = (1, 2)
WEIGHTS = level_weights(np.arange(SCENES), 50)


class Delay(nn.Module):
    """A core whose output is the features of `lag` steps ago."""

    def __init__(self, width: int, lag: int):
        super().__init__()
        self.lag, self.width = lag, width
        self.state_size, self.output_size = width * (lag + 1), width

    def step(self, features, state, first):
        return torch.cat([features, state.masked_fill(first[:, None], 0.0)[:, : -self.width]], 1)

    def output(self, state):
        return state[..., -self.width :]

    def unroll(self, features, state, first):
        states = []
        for x, opens in zip(features, first):
            state = self.step(x, state, opens)
            states.append(state)
        return torch.stack(states)


def random_agent(core: str = "gru", seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    agent = ActorCritic(
        NetworkConfig(4, (16, 16, 3), "impala-half", WIDTH, core, WIDTH, precision="fp32", keep_bias=1.0)
    )
    with torch.no_grad():
        agent.policy_head.weight.normal_()
        agent.value_head.weight.normal_()
    return agent.eval()


def planted_agent(lag: int) -> ActorCritic:
    """Its decision depends on one channel of the frame `lag` steps ago, and on nothing else."""
    agent = random_agent()
    agent.core = Delay(WIDTH, lag)
    with torch.no_grad():
        weight = agent.encoder.out.weight.view(WIDTH, 32, -1)
        weight[:, :PLANTED] = 0
        weight[:, PLANTED + 1 :] = 0
    return agent


@pytest.fixture(scope="module")
def frames():
    """Clean and corrupt frames [K, B, H, W, C]."""
    rng = np.random.default_rng(0)
    return tuple(
        torch.from_numpy(rng.integers(0, 256, (STEPS, SCENES, 16, 16, 3), dtype=np.uint8)) for _ in range(2)
    )


def recorded(agent, frames):
    hidden = agent.initial_state(SCENES)
    return hidden, *(record_activations(agent, one, hidden) for one in frames)


def shares(agent, frames, site, step, donor=None, directions=None) -> dict[str, float]:
    """What a patch restores of both decisions; donor [B]: scenes that patches come from."""
    hidden, clean, corrupt = recorded(agent, frames)
    if donor is None:
        unpatched, source = corrupt.states[-1], clean
    else:
        source = of_scenes(clean, donor)
        unpatched = patched_state(agent, corrupt, of_scenes(corrupt, donor), hidden, site, step, directions)
    state = patched_state(agent, corrupt, source, hidden, site, step, directions)
    found = [decisions(agent, x, JUMPS) for x in (state, unpatched, clean.states[-1], corrupt.states[-1])]
    return {
        name: recovered(found[0][name] - found[1][name], found[2][name] - found[3][name], WEIGHTS)[0]
        for name in found[0]
    }


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_the_planted_channel_and_step_restore_everything_and_others_nothing(frames, lag):
    agent = planted_agent(lag)
    for step in range(STEPS):
        found = [
            shares(agent, frames, Site(CHANNEL, c), step)["jump"] for c in (PLANTED - 1, PLANTED, PLANTED + 1)
        ]
        expected = [0, float(step == STEPS - 1 - lag), 0]
        assert found == pytest.approx(expected, abs=1e-4)
        assert shares(agent, frames, Site(ENCODER), step)["value"] == pytest.approx(expected[1], abs=1e-4)
        carried = step >= STEPS - 1 - lag
        assert shares(agent, frames, Site(STATE), step)["jump"] == pytest.approx(1, abs=1e-4) or not carried


def test_a_patch_one_step_late_is_caught(frames, monkeypatch):
    right = interchange._patched_at

    def late(agent, corrupt, clean, before, site, step, directions):
        shifted = type(clean)(*(torch.roll(x, -1, 0) for x in clean))
        return right(agent, corrupt, shifted, before, site, step, directions)

    monkeypatch.setattr(interchange, "_patched_at", late)
    assert abs(shares(planted_agent(1), frames, Site(ENCODER), STEPS - 2)["jump"] - 1) > 0.3


def test_a_wrong_donor_is_caught(frames):
    agent = planted_agent(1)
    own = np.arange(SCENES)
    assert shares(agent, frames, Site(CHANNEL, PLANTED), STEPS - 2, donor=own) == pytest.approx(
        {"jump": 1, "value": 1}, abs=1e-4
    )
    wrong = shares(agent, frames, Site(CHANNEL, PLANTED), STEPS - 2, donor=np.roll(own, 1))
    assert max(map(abs, wrong.values())) < 0.6


@pytest.mark.parametrize("core", ["gru", "lstm", "none"])
def test_patches_equal_those_of_hooks(frames, core):
    """An independent path: the whole network unrolled under hooks."""
    agent = random_agent(core)
    clean, corrupt = frames
    hidden, clean_run, corrupt_run = recorded(agent, frames)
    first = torch.zeros(STEPS, SCENES, dtype=torch.bool)
    for step in (0, 2, STEPS - 1):
        for site, name, donor in (
            (Site(ENCODER), "encoder", clean_run.features),
            (Site(CHANNEL, 5), "encoder.stages", clean_run.maps),
        ):

            def edit(value, rows, site=site, donor=donor):
                other = donor.flatten(0, 1)[rows]
                if site.kind == ENCODER:
                    return other
                value = value.clone()
                value[:, site.index] = other[:, site.index]
                return value

            states = run_with_hooks(
                agent, {name: at_steps(edit, [step], SCENES)}, unroll, agent, corrupt, first, hidden
            )[0]
            patched = patched_state(agent, corrupt_run, clean_run, hidden, site, step)
            torch.testing.assert_close(patched, states[-1], atol=1e-5, rtol=1e-4)
    assert (clean != corrupt).any()


def test_a_whole_state_at_the_last_step_restores_everything(frames):
    for core in ("gru", "lstm", "none"):
        assert shares(random_agent(core), frames, Site(STATE), STEPS - 1) == pytest.approx(
            {"jump": 1, "value": 1}, abs=1e-6
        )


def test_a_direction_writes_the_donors_score_and_no_other(frames):
    """Directions that overlap: the patched score is exact, and the state moves along its column alone."""
    rng = np.random.default_rng(1)
    read, write = torch.from_numpy(rng.normal(size=(3, WIDTH))), torch.from_numpy(rng.normal(size=(WIDTH, 3)))
    directions = Directions(read, torch.zeros(3), write, torch.zeros(WIDTH), ("a", "b", "c"))
    x, other = (torch.from_numpy(rng.normal(size=(SCENES, WIDTH))).float() for _ in range(2))
    moved = with_score_of(x, other, directions, 1)
    torch.testing.assert_close(
        directions.scores(moved)[:, 1], directions.scores(other)[:, 1], atol=1e-5, rtol=1e-5
    )
    change = (moved - x).double()
    along = change @ write[:, 1] / (write[:, 1] @ write[:, 1])
    torch.testing.assert_close(change, along[:, None] * write[:, 1], atol=1e-6, rtol=1e-6)


def test_a_direction_that_a_head_reads_restores_its_decision(frames):
    agent = random_agent()
    value = agent.value_head.weight.detach()
    directions = Directions(
        value, torch.zeros(1), value.T / value.pow(2).sum(), torch.zeros(WIDTH), ("value",)
    )
    found = shares(agent, frames, Site(DIRECTION), STEPS - 1, directions=directions)
    assert found["value"] == pytest.approx(1, abs=1e-4)
    assert abs(found["jump"] - 1) > 0.2


def test_the_maps_are_those_of_the_encoder(frames):
    agent = random_agent()
    assert torch.equal(
        agent.encoder.features_of(agent.encoder.maps(frames[0][0])), agent.encoder(frames[0][0])
    )


def test_what_is_recovered_is_a_slope_over_scenes():
    whole = np.array([1.0, -2.0, 3.0])
    one = np.ones((1, 3))
    assert recovered(0.5 * whole, whole, one) == pytest.approx(0.5)
    assert recovered(np.array([1.0, 0, 0]), whole, one) == pytest.approx(1 / 14)
    assert recovered(np.array([2.0, 1.0, 0]), whole, one) == pytest.approx(0)
    assert np.isnan(recovered(whole, np.zeros(3), one)).all()
    assert recovered(np.array([1.0, 0, 0]), whole, np.array([[1.0, 0, 0]])) == pytest.approx(1)


def test_log_odds_of_jumps_are_those_of_the_policy():
    agent = random_agent()
    state = torch.randn(6, WIDTH)
    probability = torch.softmax(agent.heads(state)[0].double(), -1)[:, list(JUMPS)].sum(1).detach()
    expected = torch.log(probability / (1 - probability)).numpy()
    assert decisions(agent, state, JUMPS)["jump"] == pytest.approx(expected)


def test_sites_have_names_and_unknown_ones_are_refused(frames):
    agent = random_agent()
    hidden, clean, corrupt = recorded(agent, frames)
    sites = all_sites(clean, None)
    assert [site.label() for site in sites[:3]] == ["state", "encoder", "channel 0"]
    assert [site_of(site.label()) for site in sites] == sites
    with pytest.raises(UsageError, match="no site 'memory'"):
        site_of("memory")
    with pytest.raises(UsageError, match="there is no step 5: the scenes have steps 0 to 4"):
        patched_state(agent, corrupt, clean, hidden, Site(STATE), 5)
    with pytest.raises(UsageError, match="there is no site 'head'"):
        patched_state(agent, corrupt, clean, hidden, Site("head"), 0)
    with pytest.raises(UsageError, match="needs directions"):
        patched_state(agent, corrupt, clean, hidden, Site(DIRECTION), 0)
