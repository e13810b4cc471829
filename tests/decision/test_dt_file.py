"""Files of Decision Transformers give back the same logits, and training moves every weight in them."""

import pytest
import torch

from common.checkpoints import load_checkpoint
from decision.model_file import load_dt, save_dt
from tests.helpers.decision.toy_decision import random_batch, small_config, small_model

KINDS = ("decision_transformer", "clone_transformer")


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("layer_norm", ["LN", "LNPre", "none"])
def test_a_model_of_any_layer_norm_is_read_with_the_same_logits(tmp_path, layer_norm, model_type):
    """In a widespread code models without weights of their layer norms could not be loaded."""
    model = small_model(layer_norm=layer_norm, model_type=model_type, activation_fn="solu_ln")
    save_dt(tmp_path / "m.safetensors", model, {"returns": {"min": 0.0}})
    read, meta = load_dt(tmp_path / "m.safetensors")
    batch = random_batch(3, 7, padded=[0, 2, 5])
    with torch.no_grad():
        assert torch.equal(read(batch)[batch.mask], model(batch)[batch.mask])
    assert read.config == model.config
    assert meta["returns"] == {"min": 0.0}


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("embedding", ["agent", "impala", "patches"])
def test_every_weight_of_a_file_is_trained_or_the_agents_frozen_encoder(tmp_path, embedding, model_type):
    """In a widespread code heads of states and rewards were saved and never trained."""
    model = small_model(model_type=model_type, state_embedding=embedding, gated_mlp=True, dropout=0.1).train()
    assert small_config().state_embedding == "agent"
    batch = random_batch(4, 9, padded=[0, 1, 2, 6], frames=embedding != "agent")
    model.loss(batch)[0].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    frozen = "embed.state.encoder." if embedding == "agent" else "none"
    save_dt(tmp_path / "m.safetensors", model, {})
    saved = {name.removeprefix("model/") for name in load_checkpoint(tmp_path / "m.safetensors")[0]}
    statistics = {"embed.state.mean", "embed.state.std"}
    assert saved - moved - statistics == {name for name in saved if name.startswith(frozen)}
