"""Hooks: reading changes nothing, edits act at their site, gates follow the GRU's equations, rows keep their
number.
"""

import pytest
import torch
from torch import nn

import agents.encoders
import interpret.hooks
from agents.actor_critic import ActorCritic, NetworkConfig
from agents.foreign import ForeignAgent
from common.runs import UsageError
from interpret.hooks import GATES, at_steps, hooks, run_with_cache, run_with_hooks, sites, unroll
from tests.helpers.toy_world import ACTIONS, SIZE, toy_agent

T = 5
N = 3
D = 8


@pytest.fixture(scope="module")
def agent():
    return toy_agent(D)


@pytest.fixture(scope="module")
def seen():
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(0, 256, (T, N, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    first = torch.zeros(T, N, dtype=torch.bool)
    first[2, 1] = True
    return obs, first


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@torch.no_grad()
def test_no_hooks_and_hooks_that_only_read_change_nothing_bit_for_bit(agent, seen):
    plain = unroll(agent, *seen)
    assert equal(run_with_hooks(agent, {}, unroll, agent, *seen), plain)
    output, kept = run_with_cache(agent, sites(agent), unroll, agent, *seen)
    assert equal(output, plain)
    assert len(kept) > 10
    assert equal(unroll(agent, *seen), plain)  # and nothing is left behind
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in agent.modules())


@torch.no_grad()
def test_the_step_by_step_call_is_the_agents_own_unroll(agent, seen):
    states = unroll(agent, *seen)[0]
    torch.testing.assert_close(states, agent.unroll(seen[0], agent.initial_state(N), seen[1]))
    start = torch.randn(N, D)
    torch.testing.assert_close(unroll(agent, *seen, start)[0], agent.unroll(seen[0], start, seen[1]))


@torch.no_grad()
def test_the_cache_holds_the_computed_activations(agent, seen):
    (states, logits, values), kept = run_with_cache(
        agent, ["core.cell", "policy_head", "value_head", "encoder", "encoder.out"], unroll, agent, *seen
    )
    assert torch.equal(kept["core.cell"].view(T, N, D), states)
    assert torch.equal(kept["policy_head"].view(T, N, ACTIONS), logits)
    assert torch.equal(kept["value_head"].view(T, N), values)
    assert torch.equal(kept["encoder"], kept["encoder.out"].relu().float())
    torch.testing.assert_close(kept["encoder"].view(T, N, -1), agent.encoder(seen[0]))


@torch.no_grad()
def test_gates_make_the_next_state_by_the_equations_of_a_gru(agent, seen):
    (states, *_), kept = run_with_cache(
        agent, [f"core.cell.{gate}" for gate in GATES] + ["encoder"], unroll, agent, *seen
    )
    before = (
        torch.cat([agent.initial_state(N)[None], states[:-1]])
        .masked_fill(seen[1][..., None], 0)
        .flatten(0, 1)
    )
    reset, update, candidate = (kept[f"core.cell.{gate}"] for gate in GATES)
    torch.testing.assert_close((1 - update) * candidate + update * before, states.flatten(0, 1))
    cell = agent.core.cell
    w = cell.weight_ih[2 * D :]
    u = cell.weight_hh[2 * D :]
    b = cell.bias_ih[2 * D :]
    c = cell.bias_hh[2 * D :]
    torch.testing.assert_close(candidate, torch.tanh(kept["encoder"] @ w.T + b + reset * (before @ u.T + c)))
    assert update.min() > 0
    assert update.max() < 1


@torch.no_grad()
def test_edited_gates_act_in_the_grus_equations(agent, seen):
    start = torch.randn(N, D)
    none = torch.zeros_like(seen[1])
    kept = run_with_hooks(
        agent, {"core.cell.update": lambda v, rows: torch.ones_like(v)}, unroll, agent, seen[0], none, start
    )[0]
    torch.testing.assert_close(kept, start.expand(T, N, D))  # an open update gate keeps the past
    forgotten = {
        "core.cell.update": lambda v, rows: torch.zeros_like(v),
        "core.cell.reset": lambda v, rows: torch.zeros_like(v),
    }
    a, b = (run_with_hooks(agent, forgotten, unroll, agent, seen[0], none, s)[0] for s in (start, -start))
    torch.testing.assert_close(a, b)  # without update and reset, nothing of it is left
    only_one = run_with_hooks(
        agent, {"core.cell.update": forgotten["core.cell.update"]}, unroll, agent, seen[0], none, start
    )[0]
    assert not torch.allclose(only_one, a)  # both edits count


@torch.no_grad()
@pytest.mark.parametrize("gate", GATES)
def test_an_edit_that_computes_the_same_gate_gives_the_same_state_to_rounding(agent, seen, gate):
    states = run_with_hooks(agent, {f"core.cell.{gate}": lambda v, rows: v * 1}, unroll, agent, *seen)[0]
    torch.testing.assert_close(states, unroll(agent, *seen)[0], atol=1e-6, rtol=1e-5)
    changed = run_with_hooks(agent, {f"core.cell.{gate}": lambda v, rows: v * 0.5}, unroll, agent, *seen)[0]
    assert not torch.allclose(changed, states, atol=1e-3)


@torch.no_grad()
def test_nested_hooks_see_each_other_whatever_their_order(agent, seen):
    zero = {"core.cell.reset": lambda v, rows: torch.zeros_like(v)}
    with hooks(agent, zero):
        inner, kept = run_with_cache(
            agent, ["core.cell.candidate", "core.cell.reset", "core.cell"], unroll, agent, *seen
        )
        halved = run_with_hooks(agent, {"core.cell.update": lambda v, rows: v * 0.5}, unroll, agent, *seen)[0]
    assert kept["core.cell.reset"].eq(0).all()
    assert torch.equal(kept["core.cell"].view(T, N, D), inner[0])
    both = run_with_hooks(agent, {"core.cell.update": lambda v, rows: v * 0.5} | zero, unroll, agent, *seen)[
        0
    ]
    assert torch.equal(halved, both)
    with hooks(agent, {"core.cell": lambda v, rows: v + 1}):  # the output's edit stays last
        shifted = run_with_hooks(
            agent, zero, agent.advance, seen[0][0], agent.initial_state(N), seen[1][0], torch.zeros(N)
        )
    plain = run_with_hooks(
        agent, zero, agent.advance, seen[0][0], agent.initial_state(N), seen[1][0], torch.zeros(N)
    )
    torch.testing.assert_close(shifted, plain + 1)


@torch.no_grad()
def test_an_edit_at_a_step_leaves_earlier_steps_unchanged(agent, seen):
    plain = unroll(agent, *seen)
    edited = run_with_hooks(
        agent, {"core.cell": at_steps(lambda v, rows: v + 1, [3], N)}, unroll, agent, *seen
    )
    assert torch.equal(edited[0][:3], plain[0][:3])
    torch.testing.assert_close(edited[0][3], plain[0][3] + 1)
    assert not torch.allclose(edited[0][4], plain[0][4])
    assert not torch.allclose(edited[0][4], plain[0][4] + 1)
    assert not torch.allclose(edited[1][3], plain[1][3])  # the heads read the edited state


@torch.no_grad()
def test_rows_count_steps_and_environments_however_the_encoder_splits_its_batch(agent, seen, monkeypatch):
    edit = at_steps(lambda v, rows: torch.zeros_like(v), [1, 4], N)
    whole = run_with_hooks(agent, {"encoder.out": edit}, unroll, agent, *seen)
    monkeypatch.setitem(agents.encoders.CHUNK, "cpu", 2)
    calls = []

    def spy(value, rows):
        calls.append((rows.start, rows.stop))
        return edit(value, rows)

    split = run_with_hooks(agent, {"encoder.out": spy}, unroll, agent, *seen)
    assert calls[:3] == [(0, 2), (2, 3), (3, 5)]
    assert calls[-1][1] == T * N
    for a, b in zip(whole, split):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(whole[0][1], unroll(agent, *seen)[0][1])


def test_gradients_pass_through_edits(agent, seen):
    shift = torch.zeros(D, requires_grad=True)
    _, _logits, values = run_with_hooks(
        agent, {"core.cell": at_steps(lambda v, rows: v + shift, [0], N)}, unroll, agent, *seen
    )
    (gradient,) = torch.autograd.grad(values[-1].sum(), shift)
    step = torch.zeros(D)
    step[2] = 1e-2

    def value(sign):
        edit = at_steps(lambda v, rows: v + sign * step, [0], N)
        return run_with_hooks(agent, {"core.cell": edit}, unroll, agent, *seen)[2][-1].sum().item()

    assert gradient[2].item() == pytest.approx((value(1) - value(-1)) / 2e-2, rel=0.02, abs=1e-5)


def test_mistakes_are_refused_with_the_reason(agent, seen, monkeypatch):
    with pytest.raises(
        UsageError,
        match="no site 'core.cell.output' in this network; it has: core.cell, core.cell.candidate",
    ):
        run_with_hooks(agent, {"core.cell.output": lambda v, rows: v}, unroll, agent, *seen)
    with pytest.raises(UsageError, match="no value at value_head"):
        run_with_cache(
            agent,
            ["value_head"],
            agent.advance,
            seen[0][0],
            agent.initial_state(N),
            seen[1][0],
            torch.zeros(N),
        )
    with pytest.raises(UsageError, match="no value at value_head"):
        run_with_hooks(
            agent,
            {"value_head": lambda v, rows: v},
            agent.advance,
            seen[0][0],
            agent.initial_state(N),
            seen[1][0],
            torch.zeros(N),
        )
    monkeypatch.setattr(interpret.hooks, "KEEP", 2)
    with pytest.raises(
        UsageError, match="gradients with hooks through 3 frames at a time, and 2 is the most"
    ):
        run_with_hooks(agent, {"encoder.out": lambda v, rows: v}, unroll, agent, *seen)
    with torch.no_grad():
        run_with_hooks(agent, {"encoder.out": lambda v, rows: v}, unroll, agent, *seen)
    lstm = ActorCritic(
        NetworkConfig(ACTIONS, (SIZE, SIZE, 3), feature_size=16, hidden_size=D, core="lstm", precision="fp32")
    )
    with torch.no_grad(), pytest.raises(UsageError, match="'core.cell' is a tuple, not a tensor"):
        run_with_hooks(lstm, {"core.cell": lambda v, rows: v}, unroll, lstm, *seen)


@torch.no_grad()
def test_an_error_inside_leaves_no_hooks(agent, seen):
    def fails(value, rows):
        raise RuntimeError("no")

    plain = unroll(agent, *seen)
    for place in ("core.cell", "core.cell.update"):
        with pytest.raises(RuntimeError):
            run_with_hooks(agent, {place: fails}, unroll, agent, *seen)
    assert equal(unroll(agent, *seen), plain)


@torch.no_grad()
def test_foreign_agents_have_sites_too(seen):
    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.eyes = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE * 3, 6))
            self.memory = nn.GRUCell(6, 4)
            self.policy = nn.Linear(4, ACTIONS)

    net = Theirs().eval()
    theirs = ForeignAgent(
        ACTIONS, 4, net.eyes, lambda state: (net.policy(state), None), net.memory, network=net
    )
    output, kept = run_with_cache(
        theirs, ["network.memory", "network.memory.update", "network.eyes.1"], unroll, theirs, *seen
    )
    assert len(output) == 2
    assert torch.equal(kept["network.memory"].view(T, N, 4), output[0])
    assert kept["network.memory.update"].shape == (T * N, 4)
    assert kept["network.eyes.1"].shape == (T * N, 6)
