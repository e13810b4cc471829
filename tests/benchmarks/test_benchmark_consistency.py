"""The consistency benchmark: acting and training agree on the reference agent, and resets in the wrong place
are far outside the bounds.
"""

import json
from pathlib import Path

import pytest

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from benchmarks import consistency
from common.runs import UsageError

REFERENCE = (
    Path(__file__).parents[2] / "pretrained" / "coinrun_easy_200" / "seed_0_finished" / "model.safetensors"
)
BOUNDS = {"fp32": ("max", 1e-4, 1), "bf16": ("mean", 5e-3, 4)}  # a mean over one environment says little


def figures(agent_file, precision: str, **flags) -> dict[str, float]:
    return consistency.figures(consistency.Args(agent_file, **flags), precision)


@pytest.mark.parametrize("precision", BOUNDS)
def test_the_reference_agent_agrees_and_shifted_resets_fail_by_ten_times(precision):
    statistic, bound, num_envs = BOUNDS[precision]
    found = figures(REFERENCE, precision, num_envs=num_envs)
    assert found[statistic] <= bound
    assert found[f"shifted_{statistic}"] >= 10 * bound


def test_flags(tmp_path):
    agent = ActorCritic(
        NetworkConfig(15, architecture="nature", feature_size=16, hidden_size=8, precision="fp32")
    )
    save_agent(tmp_path / "agent.safetensors", agent, {"env": {"env_name": "coinrun"}})
    ends = {
        share: figures(tmp_path / "agent.safetensors", "fp32", num_envs=2, cut_share=share)
        for share in (0, 0.5)
    }
    assert ends[0]["steps"] == 512
    assert ends[0]["episode_ends"] < 20
    assert 200 < ends[0.5]["episode_ends"] < 312
    consistency.main(
        consistency.Args(tmp_path / "agent.safetensors", num_envs=1, out_file=tmp_path / "found.json")
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["fp32"]["steps"] == found["bf16"]["steps"] == 256
    with pytest.raises(UsageError, match="--cut_share is 1"):
        consistency.main(consistency.Args(tmp_path / "agent.safetensors", cut_share=1))
