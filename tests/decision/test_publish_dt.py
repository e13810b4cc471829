"""Publishing a Decision Transformer: what the file holds, what it loads, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.actor_critic import load_agent, save_agent
from common.checkpoints import BadCheckpoint, load_checkpoint
from common.errors import UsageError
from common.runs import file_id
from decision import publish
from decision.model import DecisionTransformer
from decision.model_file import ENCODER, load_dt, save_dt
from tests.helpers.decision.toy_decision import random_batch, small_config
from tests.helpers.toy_world import toy_agent


@pytest.fixture
def args(tmp_path):
    """A finished run of a model that has the encoder of an agent."""
    agent_file = tmp_path / "agents" / "model.safetensors"
    save_agent(agent_file, toy_agent(), {"env": {"env_name": "toy"}})
    agent = load_agent(agent_file)[0]
    torch.manual_seed(0)
    config = small_config(state_embedding="agent", feature_size=16, architecture=agent.config.architecture)
    model = DecisionTransformer(config)
    model.embed.state.encoder.load_state_dict(agent.encoder.state_dict())
    run = tmp_path / "run"
    meta = {"env": {"env_name": "toy"}, "agent": {"id": file_id(agent_file), "network": {}}, "data": "d"}
    meta |= {"returns": {"min": 0.0, "mean": 7.0, "max": 10.0}, "seed": 3, "batches": 7, "train": {}}
    save_dt(run / "best.safetensors", model, meta)
    save_dt(run / "model_9.safetensors", model, meta | {"batches": 9})
    (run / "config.json").write_text("{}")
    (run / "manifest.json").write_text("{}")
    (run / "progress.csv").write_text("batch,wall_time,loss\n7,2.6,1.5\n")
    return publish.Args(run, agent_file, tmp_path / "shipped" / "dt")


def test_the_published_model_acts_as_the_trained_one_up_to_half_precision(args):
    publish.main(args)
    trained, shipped = (
        load_dt(path)[0] for path in (args.run / args.checkpoint, args.out_dir / publish.MODEL)
    )
    batch = random_batch(3, 6, frames=True)
    torch.testing.assert_close(shipped(batch), trained(batch), rtol=1e-2, atol=1e-3)
    encoders = (model.embed.state.encoder.state_dict() for model in (trained, shipped))
    for one, other in zip(*map(dict.values, encoders)):
        assert torch.equal(one, other)


def test_the_encoder_is_not_in_the_file_and_the_rest_is_half_as_long(args):
    publish.main(args)
    whole, shipped = (
        load_checkpoint(path)[0] for path in (args.run / args.checkpoint, args.out_dir / publish.MODEL)
    )
    assert {name for name in whole if name not in shipped} == {
        name for name in whole if name.startswith(f"model/{ENCODER}")
    }
    assert {x.dtype for x in shipped.values() if x.is_floating_point()} == {torch.float16}


def test_provenance_names_model_agent_data_and_seed(args):
    publish.main(replace(args, checkpoint="model_9.safetensors"))
    found = json.loads((args.out_dir / "provenance.json").read_text())
    assert found["id"] == file_id(args.out_dir / publish.MODEL)
    assert found["agent"] == file_id(args.agent_file)
    assert {name: found[name] for name in ("data", "seed", "batches", "batches_logged", "seconds")} == {
        "data": "d",
        "seed": 3,
        "batches": 9,
        "batches_logged": 7,
        "seconds": 3,
    }
    assert all((args.out_dir / name).is_file() for name in publish.RECORDS)


def test_reports_of_this_model_are_copied_and_others_refused(args, tmp_path):
    publish.main(args)
    scores = tmp_path / "scores.json"
    scores.write_text(
        json.dumps({"manifest": {"inputs": {"dt_file": file_id(args.out_dir / publish.MODEL)}}})
    )
    publish.main(replace(args, scores=(scores,)))
    assert (args.out_dir / "scores.json").read_text() == scores.read_text()
    scores.write_text(json.dumps({"manifest": {"inputs": {"dt_file": "another"}}}))
    published = {path.name: path.read_bytes() for path in args.out_dir.iterdir()}
    with pytest.raises(UsageError, match="is of another model"):
        publish.main(replace(args, checkpoint="model_9.safetensors", scores=(scores,)))
    assert {path.name: path.read_bytes() for path in args.out_dir.iterdir()} == published


def test_another_agent_is_refused_at_publishing_and_at_loading(args, tmp_path):
    publish.main(args)
    model = args.out_dir / publish.MODEL
    shutil.move(args.agent_file, tmp_path / "kept.safetensors")
    with pytest.raises(
        BadCheckpoint, match=f"has the encoder of agent {file_id(tmp_path / 'kept.safetensors')}.*no"
    ):
        load_dt(model)
    save_agent(args.agent_file, toy_agent(4), {})
    with pytest.raises(BadCheckpoint, match="there is another agent at"):
        load_dt(model)
    with pytest.raises(UsageError, match="and --agent_file is agent"):
        publish.main(args)


def test_a_model_without_an_agents_features_is_refused(args):
    save_dt(args.run / "best.safetensors", DecisionTransformer(small_config(state_embedding="patches")), {})
    with pytest.raises(UsageError, match="has features of no agent"):
        publish.main(args)


def test_the_published_model_is_found_from_any_directory(args, tmp_path, monkeypatch):
    publish.main(args)
    monkeypatch.chdir(tmp_path / "shipped")
    assert load_dt(Path("dt") / publish.MODEL)[1]["seed"] == 3
