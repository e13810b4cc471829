"""The benchmark of the world model's training: both loops compute the same loss, so that only their speed
differs.
"""

import json

import numpy as np
import pytest
import torch

from agents.actor_critic import save_agent
from benchmarks import gen_training
from benchmarks.gen_training import Args, ours, plain
from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import draw_noise
from tests.helpers.toy_world import toy_agent, toy_config, toy_episode, with_agent, write_toy_store


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(path / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    write_toy_store(path / "store", [with_agent(toy_episode(rng, 30), agent) for _ in range(80)], agent, 1)
    return path


@pytest.mark.parametrize("shown", [1, 4])
def test_both_loops_have_one_loss_and_one_gradient(recorded, shown):
    source = gen_training.full_windows(gen_training.Rollouts.open(recorded / "store"), 8, 0)
    segment = source.train_batch(0, 4)
    agent = toy_agent()
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    torch.nn.init.normal_(model.outcome_head[-1].weight, std=0.3)
    noise = draw_noise(model.config, 6, 4, torch.Generator().manual_seed(0))
    gradients = []
    for loss in (ours, plain):
        model.zero_grad()
        value = loss(model, agent, segment, noise, shown)
        value.backward()
        gradients.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_figures_are_those_of_paired_turns(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gen_training,
        "load_preset",
        lambda name, shape, values: (toy_config(), gen_training.TrainConfig(**values)),
    )
    args = Args(
        recorded / "agent.safetensors",
        recorded / "store",
        batch_size=2,
        num_sim_steps=4,
        rounds=2,
        reading_batches=3,
    )
    args.out_file = tmp_path / "out.json"
    gen_training.main(args)
    found = json.loads(args.out_file.read_text())
    assert len(found["ratio_by_round"]) == 2
    assert found["ratio"] == pytest.approx(found["ours"] / found["plain"])
    assert found["first_losses"][0] == pytest.approx(found["first_losses"][1], rel=1e-3)
    assert 0 <= found["wait_share"] < 1
    assert found["peak_memory_bytes"] > 1e7
