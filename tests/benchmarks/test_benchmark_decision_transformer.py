"""The benchmark of the Decision Transformer: pairs do equal work, and the ratio is of what was timed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import decision_transformer as benchmark
from benchmarks.decision_transformer import (
    Args,
    acting_rounds,
    largest_difference,
    main,
    random_episode,
    take_turns,
    training_rounds,
)
from common.errors import UsageError
from decision.config import TrainConfig
from decision.policy import DTPolicy
from tests.helpers.decision.toy_decision import small_config, small_model

CPU = torch.device("cpu")


def test_both_train_on_the_same_number_of_tokens():
    config = small_config(num_actions=15, max_timestep=200)
    rounds = training_rounds(config, TrainConfig(batch_size=2, window_steps=8), 2, CPU)
    assert {name: run() for name, run in rounds.items()} == {"worldlens": 96, "mingpt": 96}


def test_both_act_for_the_same_number_of_steps():
    model = small_model(num_actions=15)
    episode = random_episode(model.config, 3, 12, CPU)
    rounds = acting_rounds(model, episode, 6)
    assert {name: run() for name, run in rounds.items()} == {"cached": 18, "recomputed": 18}


def test_acting_is_timed_beyond_the_context(monkeypatch):
    model = small_model(num_actions=15)
    seen = []
    advance = DTPolicy.advance
    monkeypatch.setattr(
        DTPolicy,
        "advance",
        lambda policy, obs, state, first, reward: (
            seen.append(state[0, 2].item()) or advance(policy, obs, state, first, reward)
        ),
    )
    rounds = acting_rounds(model, random_episode(model.config, 3, 12, CPU), 6)
    seen.clear()
    rounds["cached"]()
    context = model.config.context_length
    assert seen == list(range(context - 1, context + 5))


def test_the_cache_gives_the_logits_of_the_whole_episode():
    model = small_model(num_actions=15)
    found = largest_difference(model, random_episode(model.config, 3, 3 * model.config.context_length, CPU))
    assert 0 < found["within_context"] < 1e-4
    assert 0 < found["beyond_context"] < 1e-4


class KeepsReturns(DTPolicy):
    """A mutant: returns-to-go are never lowered."""

    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, first, 0 * reward)


def test_other_logits_are_seen(monkeypatch):
    model = small_model(num_actions=15)
    monkeypatch.setattr(benchmark, "DTPolicy", KeepsReturns)
    found = largest_difference(model, random_episode(model.config, 3, 3 * model.config.context_length, CPU))
    assert found["beyond_context"] > 1e-4


def test_the_ratio_is_the_median_over_turns_after_the_warm_up(monkeypatch):
    seconds = {"a": iter([9.0, 1.0, 2.0, 1.0]), "b": iter([9.0, 4.0, 6.0, 50.0])}
    now = [0.0]

    def way(name):
        def run():
            now[0] += next(seconds[name])
            return 12

        return run

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    found = take_turns({"a": way("a"), "b": way("b")}, 3, CPU)
    assert found["per_second"] == {"a": 12.0, "b": 2.0}
    assert found["ratio"][0] == 4.0
    assert found["turns"] == 3
    assert found["ratio"][1] <= 4.0 <= found["ratio"][2]


def test_the_order_within_a_turn_alternates():
    order = []
    take_turns({"a": lambda: order.append("a") or 1, "b": lambda: order.append("b") or 1}, 3, CPU)
    assert "".join(order) == "baabbaab"


def test_the_report_holds_what_was_timed(monkeypatch, tmp_path):
    timed = iter([[1.5, 1.4, 1.6], [7.0, 6.5, 7.5]])
    asked = []

    def turns(ways, count, device):
        asked.append((tuple(ways), count))
        return {"per_second": dict.fromkeys(ways, 1.0), "ratio": next(timed), "turns": count}

    monkeypatch.setattr(benchmark, "take_turns", turns)
    threads = torch.get_num_threads()
    args = Args(param_name="tiny", num_envs=1, rounds=5, num_threads=1, out_file=tmp_path / "out.json")
    main(replace(args, device="cpu"))
    torch.set_num_threads(threads)
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["training"]["ratio"] == [1.5, 1.4, 1.6]
    assert found["acting"]["ratio"] == [7.0, 6.5, 7.5]
    assert asked == [(("worldlens", "mingpt"), 5), (("cached", "recomputed"), 5)]
    assert found["manifest"]["threads"] == 1
    assert np.isfinite(found["logits_difference"]["beyond_context"])


def test_nothing_to_time_is_refused():
    with pytest.raises(UsageError, match="--rounds must be at least 1"):
        main(Args(rounds=0))
