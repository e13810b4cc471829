"""The simulation benchmark: both contestants walk the same steps, cells have speeds and memory, the widest
with gradients are left out.
"""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import simulation
from tests.helpers.toy_simulator import NAMES, save_toy_files, toy_simulator
from tests.helpers.toy_world import toy_config


def test_both_loops_do_the_same_work_and_reach_the_latent():
    simulator = toy_simulator()
    calls = {"advance": 0, "motion_head": 0, "tile_dynamics": 0, "outcome_head": 0}
    for name in calls:
        owner = simulator.agent if name == "advance" else simulator.model
        count_calls(owner, name, calls)
    z = torch.randn(3, simulator.model.config.latent_size)
    for run in (simulation.ours, simulation.plain):
        calls.update(dict.fromkeys(calls, 0))
        run(simulator, z, 5, False)
        assert calls == dict.fromkeys(calls, 5), run
        run(simulator, z.clone().requires_grad_(), 5, True)  # raises when the value does not depend on z


def count_calls(owner, name, calls):
    real = getattr(owner, name)
    if isinstance(real, torch.nn.Module):
        real.register_forward_hook(lambda *_: calls.update({name: calls[name] + 1}))
        return

    def call(*given):
        calls[name] += 1
        return real(*given)

    object.__setattr__(owner, name, call)


@pytest.mark.parametrize("grad", [False, True])
def test_the_plain_step_is_the_models(grad):
    model = toy_simulator().model
    z = torch.randn(6, model.config.latent_size, requires_grad=grad)
    ours = plain = model.start(z).env
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        action = torch.nn.functional.one_hot(torch.randint(5, (6,), generator=generator), 5).float()
        noise = torch.rand(6, model.config.view_shape[1], model.config.classes, generator=generator)
        ours, plain = model.step(ours, action, noise), simulation.plain_step(model, plain, action, noise)
        for name in ours._fields:
            torch.testing.assert_close(getattr(plain, name), getattr(ours, name), rtol=1e-4, atol=1e-5)


PEAKS = """
import torch
from benchmarks.simulation import peak_bytes
device = torch.device("cpu")
peak_bytes(device, reset=True)
before = peak_bytes(device)
torch.ones(40_000_000)
after = peak_bytes(device)
peak_bytes(device, reset=True)
print(before, after, peak_bytes(device))
"""


def test_peak_memory_is_that_since_the_reset():
    # in a process of its own: memory that other tests freed would be used again
    out = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    before, after, reset = map(int, out.split())
    assert 150e6 < after - before < 250e6
    assert reset < after - 100e6


def test_the_share_of_tiles_that_change_is_that_of_open_gates():
    simulator = toy_simulator()
    gate = simulator.model.tile_dynamics.gate_head
    gate.weight[:] = 0
    z = torch.randn(5, simulator.model.config.latent_size)
    shares = []
    for bias in (-100.0, 100.0):
        gate.bias[:] = bias
        shares.append(simulation.changed_share(simulator, z, 4, False))
    assert shares[0] < 0.5  # those that come into view
    assert shares[1] == 1
    gate.bias[:] = -100
    assert simulation.changed_share(simulator, z.requires_grad_(), 4, True) == 1


def test_the_presets_of_the_files_size_has_its_weights_and_the_others_random_ones(tmp_path, monkeypatch):
    save_toy_files(tmp_path)
    sizes = {"toy": toy_config(), "other": toy_config(vector_size=16)}
    monkeypatch.setattr(simulation, "load_preset", lambda name, *_: (sizes[name], None))
    args = simulation.Args(tmp_path / "agent.safetensors", tmp_path / "model.safetensors", precision="fp32")
    expected = toy_simulator().model.state_dict()
    simulator, meta = simulation.networks("toy", args, "cpu")
    assert all(torch.equal(weight, expected[name]) for name, weight in simulator.model.state_dict().items())
    assert meta["action_names"] == NAMES
    assert simulation.networks("other", args, "cpu")[1] is None
    assert simulation.networks("toy", replace(args, random_weights=True), "cpu")[1] is None


def test_the_table_has_a_row_for_every_cell_but_the_widest_with_gradients(tmp_path, monkeypatch):
    save_toy_files(tmp_path)
    monkeypatch.setattr(simulation, "load_preset", lambda *_: (toy_config(), None))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    args = simulation.Args(
        agent_file=tmp_path / "agent.safetensors",
        world_model_file=tmp_path / "model.safetensors",
        data_dir=tmp_path / "store",
        presets=("tiny",),
        batch_sizes=(1, 4),
        horizons=(2, 3),
        rounds=1,
        most_grad_frames=8,
        device="cpu",
        out_file=tmp_path / "out.json",
    )
    simulation.main(args)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["weights"] for row in rows} == {"trained"}
    cells = [(batch, steps, grad) for grad in (False, True) for batch in (1, 4) for steps in (2, 3)]
    assert [(r["batch"], r["steps"], r["grad"]) for r in rows] == cells[:-1]  # 4 x 3 frames are more than 8
    assert all(
        r["ours"] > 0 and abs(r["ratio"] - r["ours"] / r["plain"]) < 1e-9 and r["peak_bytes"] > 1e7
        for r in rows
    )
