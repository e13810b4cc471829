"""A Decision Transformer next to its agent, on the toy world: planted truths, flags, clear errors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.actor_critic import load_agent, save_agent
from analysis import side_by_side_plotting, side_by_side_precompute
from analysis.comparison.agreement import agreement, situations
from analysis.comparison.concept_scores import direction_bench, principal_targets, score_readers
from analysis.comparison.networks import (
    agent_activations,
    asked_returns,
    encode_frames,
    transformer_activations,
    untrained_agent,
    untrained_transformer,
)
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_numbers
from analysis.model_eval.agent_view import kappa, total_variation
from analysis.probing.dataset import open_probe_dataset
from analysis.probing.store_concepts import GROUP
from common.checkpoints import load_checkpoint, save_checkpoint
from common.errors import UsageError
from common.runs import file_id
from common.stats import level_weights
from decision.model import DecisionTransformer
from decision.model_file import load_dt, save_dt
from decision.policy import DTPolicy
from interpret.probing.bench import ProbeBench
from tests.helpers.decision.toy_decision import small_config
from tests.helpers.probe_world import EPISODES, World, write_world
from tests.helpers.toy_world import toy_agent

pytestmark = pytest.mark.usefixtures("float32")

RETURNS = {"min": 0.0, "mean": 6.0, "max": 10.0}


def add_columns(root: Path, store) -> None:
    """The concepts that situations are made of, in the toy world's file of concepts."""
    path = root / GROUP / "made" / "shard_00000.safetensors"
    parts = load_checkpoint(path)[0]
    n = store.num_steps
    rng = np.random.default_rng(5)
    parts["support"] = torch.from_numpy(rng.random(n) < 0.7)
    for kind in ("saw", "enemy", "lava", "coin"):
        parts |= {
            name: torch.from_numpy(np.where(rng.random(n) < 0.4, 3.0, np.nan).astype(np.float32))
            for name in (f"tiles_to_{kind}", f"{kind}_rise")
            if name not in parts
        }
    save_checkpoint(path, parts, {})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """The toy world with a Decision Transformer and a clone, far from uniform, and another agent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side_precompute, "check_concepts", lambda store: None)
        made = write_world(tmp_path_factory.mktemp("side"))
        add_columns(made.root, made.store)
        agent = load_agent(made.agent_file)[0]
        meta = {"returns": RETURNS, "env": {"env_name": "toy"}, "agent": {"id": file_id(made.agent_file)}}
        for name, kind in (("dt", "decision_transformer"), ("clone", "clone_transformer")):
            torch.manual_seed(0)
            config = small_config(state_embedding="agent", feature_size=16, n_layers=2, model_type=kind)
            model = DecisionTransformer(replace(config, architecture=agent.config.architecture))
            for parameter in model.parameters():
                parameter.data.mul_(4 if parameter.ndim > 1 else 1)
            model.embed.state.encoder.load_state_dict(agent.encoder.state_dict())
            save_dt(made.root / f"{name}.safetensors", model, meta)
        torch.manual_seed(11)
        save_agent(
            made.root / "other.safetensors", untrained_agent(toy_agent(), 3), {"env": {"env_name": "toy"}}
        )
        yield made


@pytest.fixture(scope="module")
def dataset(world):
    return open_probe_dataset(world.store, EPISODES, 0, world.root)


def side_args(world: World, **changed) -> side_by_side_precompute.Args:
    asked = dict(
        clone_file=world.root / "clone.safetensors", other_agent_file=world.root / "other.safetensors"
    )
    asked |= dict(
        data_dir=world.store.path, epochs=1, draws=2, components=4, out_dir=world.root, device="cpu"
    )
    args = side_by_side_precompute.Args(world.agent_file, world.root / "dt.safetensors", **asked)
    return replace(args, **changed)


@pytest.fixture(scope="module")
def compared(world) -> Path:
    side_by_side_precompute.main(side_args(world))
    return (world.root / "side_by_side_precomp" / "latest").resolve()


def test_a_transformer_that_watches_computes_what_it_computes_while_acting(world, dataset):
    for name in ("dt", "clone"):
        model, _ = load_dt(world.root / f"{name}.safetensors")
        features = encode_frames(model.embed.state.encoder, dataset, "cpu")
        found = transformer_activations(model, features, dataset, 10.0, "cpu")
        policy = DTPolicy(model, 10.0)
        obs, reward, action = (dataset.column(column) for column in ("obs", "reward", "action"))
        for episode in (0, 7):
            state = policy.initial_state(1)
            received = torch.zeros(1)
            for t in range(dataset.length[episode]):
                row = dataset.first_step[episode] + t
                state = policy.advance(
                    torch.from_numpy(obs[row : row + 1]), state, torch.tensor([t == 0]), received
                )
                np.testing.assert_allclose(found.logits[row], policy.heads(state)[0][0].detach(), atol=1e-4)
                np.testing.assert_allclose(
                    found.sites["block 2 state"][row], policy.hidden(state)[0].detach(), atol=1e-4
                )
                state = policy.with_action(state, torch.tensor([int(action[row])]))
                received = torch.from_numpy(reward[row : row + 1])


def test_tokens_of_the_residual_stream_are_named_after_what_they_embed(world, dataset):
    model, _ = load_dt(world.root / "dt.safetensors")
    features = encode_frames(model.embed.state.encoder, dataset, "cpu")
    asked = transformer_activations(model, features, dataset, 10.0, "cpu").sites
    other = transformer_activations(model, features, dataset, 3.0, "cpu").sites
    assert list(asked) == [
        f"{layer} {token}"
        for layer in ("embedding", "block 1", "block 2")
        for token in ("return", "state", "action")
    ]
    moved = {name for name in asked if not np.allclose(asked[name], other[name])}
    assert moved == {*asked} - {"embedding state", "embedding action"}
    first = dataset.first_step
    black = transformer_activations(model, features * 0, dataset, 10.0, "cpu").sites
    assert np.array_equal(
        asked["block 2 return"][first], black["block 2 return"][first]
    )  # comes before the state
    assert not np.allclose(asked["block 2 state"][first], black["block 2 state"][first])


def test_what_is_asked_falls_by_what_was_received_and_knows_nothing_of_the_future():
    reward = np.float32([0, 2, 0, 5])
    assert asked_returns(reward, 10.0, 1.0).tolist() == [10, 10, 8, 8]
    assert asked_returns(reward, 10.0, 0.5).tolist() == [10, 20, 36, 72]
    assert np.array_equal(
        asked_returns(reward, 10.0, 1.0)[:3], asked_returns(reward * [1, 1, 1, 9], 10.0, 1.0)[:3]
    )


def test_an_agent_that_watches_has_the_recorded_states_and_logits(world, dataset):
    agent = load_agent(world.agent_file)[0]
    found = agent_activations(agent, encode_frames(agent.encoder, dataset, "cpu"), dataset, "cpu")
    np.testing.assert_allclose(found.sites["hidden"], dataset.column("hidden_after"), atol=1e-4)
    np.testing.assert_allclose(found.logits, dataset.column("logits"), atol=1e-3)


def test_untrained_networks_keep_what_they_say_and_are_fresh_otherwise(world):
    model, _ = load_dt(world.root / "dt.safetensors")
    model.embed.state.mean.add_(1.5)
    fresh = untrained_transformer(model, 5)
    for name, x in fresh.state_dict().items():
        kept = name.startswith(("embed.state.encoder.", "embed.state.mean", "embed.state.std"))
        same = torch.equal(x, model.state_dict()[name])
        assert same if kept else (not same or not x.any() or (x == 1).all()), name
    agent = load_agent(world.agent_file)[0]
    assert not torch.equal(untrained_agent(agent, 0).policy_head.weight, agent.policy_head.weight)
    one, other = (untrained_agent(agent, seed).policy_head.weight for seed in (0, 1))
    assert not torch.equal(one, other)


def made_agreement(seed: int = 0):
    rng = np.random.default_rng(seed)
    layouts = np.sort(rng.integers(0, 40, 600))
    own = rng.dirichlet([2, 1, 0.5], 600)
    other = np.where(rng.random((600, 1)) < 0.6, own, rng.dirichlet([1, 1, 1], 600))
    return own, other, layouts, {"all steps": np.ones(600, bool), "some": rng.random(600) < 0.3}


def test_agreement_is_that_of_the_slow_formulas_with_their_intervals():
    own, other, layouts, where = made_agreement()
    found = agreement(own, other, layouts, where)
    weights = level_weights(layouts)
    likeliest = own.argmax(1)
    for name, rows in where.items():
        slow = kappa(weights, (likeliest == other.argmax(1))[None], likeliest[None], rows[None], 3)[:, 0]
        assert found[name]["kappa"]["value"] == pytest.approx(slow[0])
        np.testing.assert_allclose(
            [found[name]["kappa"][end] for end in ("low", "high")], np.quantile(slow[1:], [0.025, 0.975])
        )
        assert found[name]["same"]["value"] == pytest.approx((likeliest == other.argmax(1))[rows].mean())
        commonest = np.bincount(likeliest[rows]).max() / rows.sum()
        assert found[name]["commonest"]["value"] == pytest.approx(commonest)
        dealt = np.mean([likeliest[rows][:, None] == other.argmax(1)[rows]])
        assert found[name]["chance"]["value"] == pytest.approx(dealt)
        assert found[name]["total_variation"]["value"] == pytest.approx(
            total_variation(own, other)[rows].mean()
        )
        assert (found[name]["steps"], found[name]["layouts"]) == (rows.sum(), len(np.unique(layouts[rows])))


def test_a_copy_agrees_everywhere_and_the_commonest_action_has_kappa_zero():
    own, _, layouts, where = made_agreement()
    copy = agreement(own, own, layouts, where)["some"]
    assert copy["kappa"]["value"] == copy["same"]["low"] == 1
    assert copy["total_variation"]["value"] == 0
    constant = np.eye(3)[[np.bincount(own[where["some"]].argmax(1)).argmax()]].repeat(600, 0)
    assert agreement(own, constant, layouts, where)["some"]["kappa"]["value"] == pytest.approx(0)


def test_situations_are_what_their_names_say():
    nan = np.nan
    concepts = {"support": np.array([True, True, False, False])}
    concepts |= {f"tiles_to_{kind}": np.full(4, nan) for kind in ("enemy", "lava")}
    concepts |= {f"{kind}_rise": np.full(4, nan) for kind in ("enemy", "lava")}
    concepts |= {"tiles_to_saw": np.array([3.9, 4.1, 2.0, nan]), "saw_rise": np.array([-4.0, 0.0, 5.0, nan])}
    concepts |= {
        "tiles_to_coin": np.array([nan, 9.0, 4.0, 4.0]),
        "coin_rise": np.array([nan, 0.0, 0.0, -9.0]),
    }
    found = situations(concepts, np.array([7, 7, 8, 7]), np.array([9, 10, 99, 100]))
    taken = np.repeat([7, 8, 2, 3], [60, 30, 6, 4])
    many = {name: np.resize(column, 100) for name, column in concepts.items()}
    assert taken[situations(many, taken, np.arange(100))["rare action"]].tolist() == [3] * 4
    rows = {name: np.flatnonzero(x).tolist() for name, x in found.items()}
    assert rows["saw within 4 tiles"] == [0]
    assert rows["enemy within 4 tiles"] == rows["lava within 4 tiles"] == rows["rare action"] == []
    assert rows["coin within 4 tiles"] == [2]
    assert rows["no hazard within 4 tiles"] == [1, 2, 3]
    assert rows["in the air"] == [2, 3]
    assert rows["decision steps"] == [0]  # 7 and 8 are the two commonest
    assert [rows[name] for name in ("steps 0-9", "steps 10-29", "steps 30-99", "steps 100 on")] == [
        [0],
        [1],
        [2],
        [3],
    ]


def test_probes_of_a_rotated_state_equal_those_of_the_state_and_of_shuffled_steps_read_nothing(dataset):
    hidden = dataset.column("hidden_after")
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((hidden.shape[1],) * 2))[0]
    shuffled = hidden[np.random.default_rng(1).permutation(len(hidden))]
    bench = ProbeBench(dataset.targets, dataset.groups, dataset.folds, dataset.time, 0)
    readers = [("state", hidden), ("rotated", hidden @ rotation), ("shuffled", shuffled)]
    found = score_readers(bench, readers, {}, lambda name, work: work())
    for concept, entry in found["state"].items():
        assert found["rotated"][concept]["value"]["value"] == pytest.approx(entry["value"]["value"], abs=0.02)
        assert not found["shuffled"][concept]["decodable"]
    assert sum(entry["decodable"] for entry in found["state"].values()) > 3


def test_the_agents_directions_are_read_from_its_own_rotated_state_and_not_from_noise(dataset):
    hidden = dataset.column("hidden_after")
    targets, variance = principal_targets(hidden, dataset.groups, 4)
    assert len(variance) == 4
    assert variance == sorted(variance, reverse=True)
    assert 0 < sum(variance) <= 1 + 1e-6
    bench = direction_bench(targets, dataset, 0)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((hidden.shape[1],) * 2))[0]
    noise = np.random.default_rng(2).standard_normal(hidden.shape)
    found = score_readers(
        bench, [("rotated", hidden @ rotation), ("noise", noise)], {}, lambda _, work: work()
    )
    for name in targets.names:
        assert found["rotated"][name]["value"]["value"] > 0.98
        assert found["noise"][name]["value"]["value"] < 0.02


def test_every_network_is_compared_in_every_way(compared):
    found = read_numbers(compared)
    sites = [
        f"DT, {layer} {token}"
        for layer in ("embedding", "block 1", "block 2")
        for token in ("return", "state", "action")
    ]
    readers = {"agent", "encoder", *sites, "untrained agent", "other seed", "untrained DT", "clone"}
    assert set(found["concepts"]) == set(found["cka"]["names"]) == readers
    assert set(found["directions"]) == readers - {"agent"}
    assert set(found["agreement"]) == {"DT", "clone", "other seed"}
    assert set(found["cka"]["over_other_seed"]) == readers
    assert found["cka"]["over_other_seed"]["other seed"] == [0, 0, 0]
    assert {"encoder", "frame network"} <= set(found["concepts"]["agent"]["x"]["baselines"])
    assert "frame network" not in found["directions"]["DT, block 2 state"]["pc_0"]["baselines"]
    assert found["target_return"] == 10.0


def test_a_finished_step_is_read_again_and_half_a_step_goes_on(world, compared, monkeypatch):
    before = (compared / "numbers.json").read_text()
    monkeypatch.setattr(side_by_side_precompute, "watch", lambda *_: pytest.fail("computed again"))
    side_by_side_precompute.main(side_args(world))
    monkeypatch.undo()
    monkeypatch.setattr(side_by_side_precompute, "check_concepts", lambda store: None)
    (compared / "done.json").unlink()
    (compared / "cka.json").unlink()
    side_by_side_precompute.main(side_args(world))
    assert (compared / "numbers.json").read_text() == before


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"target_return": 3.0}, "directions"),
        ({"num_episodes": 150}, "steps"),
        ({"components": 3}, "variance"),
        ({"draws": 3}, "cka"),
        ({"seed": 1}, "concepts"),
        ({"epochs": 2}, "concepts"),
        ({"clone_file": None}, "agreement"),
        ({"other_agent_file": None}, "agreement"),
    ],
    ids=str,
)
def test_each_flag_changes_what_it_names(world, compared, changed, part):
    latest = world.root / "side_by_side_precomp" / "latest"
    side_by_side_precompute.main(side_args(world, **changed))
    assert read_numbers(latest.resolve())[part] != read_numbers(compared)[part]
    side_by_side_precompute.main(side_args(world))


def test_impossible_requests_are_refused(world, tmp_path):
    with pytest.raises(UsageError, match="was recorded by another agent than"):
        side_by_side_precompute.main(side_args(world, agent_file=world.root / "other.safetensors"))
    model = DecisionTransformer(small_config(num_actions=4, state_embedding="patches"))
    save_dt(tmp_path / "dt.safetensors", model, {"returns": RETURNS})
    with pytest.raises(UsageError, match="has other actions or frames"):
        side_by_side_precompute.main(side_args(world, dt_file=tmp_path / "dt.safetensors"))
    with pytest.raises(UsageError, match="--draws is 0"):
        side_by_side_precompute.main(side_args(world, draws=0))


def test_figures_and_numbers_are_published(world, compared, tmp_path):
    images = tmp_path / "images"
    side_by_side_plotting.main(PlotArgs(compared, tmp_path / "side_by_side.json", images, world.root))
    assert {path.name for path in images.iterdir()} == {
        "side_by_side_actions.png",
        "side_by_side_concepts.png",
        "side_by_side_states.png",
    }
    published = json.loads((tmp_path / "side_by_side.json").read_text())
    numbers = read_numbers(compared)
    assert published["steps"] == numbers["steps"]
    assert (
        published["concepts"]["clone"]["x"]["value"]["n"] == numbers["concepts"]["clone"]["x"]["value"]["n"]
    )
    assert "baselines" not in published["directions"]["clone"]["pc_0"]
