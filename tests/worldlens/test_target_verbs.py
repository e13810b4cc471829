"""Optimised latents in a notebook: against the optimisation by hand, every argument, and what is refused."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

import worldlens as wl
from common.errors import UsageError
from interpret.targets.latent_optimisation import LatentOptimiser
from interpret.targets.latent_prior import recorded_prior
from interpret.targets.target_rollouts import Reading, TargetRollouts
from target_function_exps import Args
from tests.helpers.linear_loop import skewed_directions
from tests.helpers.toy_simulator import save_toy_files, toy_store

pytestmark = pytest.mark.usefixtures("float32")
PCA = {"pca": skewed_directions(8, 2)}
SMALL = wl.OptimisationConfig(num_iterations=3, num_rollouts=2, eval_every=2, eval_rollouts=2)
N, STEP = 3, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path, end_bias=-9.0)
    toy_store(path / "many", episodes=40)  # on ten levels
    return path


@pytest.fixture(scope="module")
def simulator(made):
    return wl.load_simulator(made / "model.safetensors", made / "agent.safetensors", precision="fp32")


@pytest.fixture(scope="module")
def rollouts(made):
    return wl.Rollouts.open(made / "many")


@pytest.fixture(scope="module")
def prior(simulator, rollouts):
    return wl.latent_prior(simulator, rollouts, 40)


def optimised(simulator, prior, start=N, target="increase_hidden_2", **changed) -> wl.OptimisedLatents:
    given = dict(step=STEP, prior=prior, config=SMALL, num_steps=4, report_rollouts=2)
    return wl.optimise_latents(simulator, start, target, **given | changed)


def test_the_prior_is_that_of_the_encoded_moments(simulator, rollouts, prior):
    k = simulator.model.config.num_initializing_steps
    every = rollouts.windows(k, anchor="start", pad="right", min_steps=k)
    rows = np.sort(np.random.default_rng([0, 31]).permutation(len(every))[:40])
    latent = simulator.encode(every.batch(rows).obs)
    level = rollouts.episodes["level_seed"][every.table[rows, 0]]
    split = simulator.model.config.latent_global
    expected = recorded_prior(latent.mean, latent.log_variance, level, split)
    torch.testing.assert_close(prior.mean, expected.mean)
    torch.testing.assert_close(prior.factor, expected.factor, rtol=1e-3, atol=1e-4)
    for changed in (dict(num_moments=30), dict(seed=1)):
        other = wl.latent_prior(simulator, rollouts, **dict(num_moments=40) | changed)
        assert not torch.allclose(other.mean, prior.mean)
    coarse = wl.latent_prior(simulator, rollouts, 40, batch_size=7)
    torch.testing.assert_close(coarse.factor, prior.factor, rtol=1e-3, atol=1e-4)


def test_latents_are_those_of_the_optimisation_by_hand(simulator, prior):
    start = prior.sample(torch.randn(N, prior.mean.shape[0], generator=torch.Generator().manual_seed(5)))
    found = optimised(simulator, prior, start)
    (function,) = wl.functions(simulator, ["hidden_2"])
    target = type("Raised", (), {"function": function, "score": staticmethod(lambda values: values)})()
    rollouts = TargetRollouts(simulator, target, Reading(STEP, STEP + 1), 0, 64)
    keys = wl.starting_latents(simulator, 64, draw=1)[1]
    plausible = prior.sample(keys.normal(prior.mean.shape[0], prior.mean))
    scale = float(rollouts.scored(plausible, np.arange(64), 2, "select").value.mean(1).std())
    by_hand = LatentOptimiser(rollouts, prior, start, SMALL, scale)
    while not by_hand.done:
        by_hand.step()
    torch.testing.assert_close(found.latents, by_hand.latents.detach())
    assert not torch.allclose(found.latents, found.start)
    torch.testing.assert_close(found.start, start)
    values = rollouts.scored(found.latents, np.arange(N), 2, "report").value.mean(1)
    np.testing.assert_allclose(found.value, values, rtol=1e-5)
    expected = prior.percentile(prior.whiten(found.latents))
    np.testing.assert_allclose(found.percentile, expected)
    assert {name: rows.shape for name, rows in found.curves.items()} == dict.fromkeys(
        ("value", "score", "percentile", "diversity"), (3, N)
    )


def test_what_is_wanted_happens(simulator, prior):
    config = wl.OptimisationConfig(num_iterations=30, num_rollouts=4, eval_every=10, eval_rollouts=8)
    means = {}
    for target in ("increase_hidden_2", "decrease_hidden_2"):
        found = optimised(simulator, prior, 6, target, config=config, report_rollouts=32)
        means[target] = found.value.mean() - found.start_value.mean()
    assert means["decrease_hidden_2"] < 0 < means["increase_hidden_2"]


CHANGES = {
    "target": dict(target="decrease_hidden_2"),
    "step": dict(step=1),
    "config": dict(config=dataclasses.replace(SMALL, lr=0.3)),
    "seed": dict(seed=1),
    "directions": dict(target="increase_hx_direction_1_pca", directions=PCA),
    "places": dict(target="reach_zero", places={"zero": wl.Place(torch.zeros(8))}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_argument_changes_the_latents(simulator, prior, name):
    start = optimised(simulator, prior).start
    plain, other = (optimised(simulator, prior, start, **one).latents for one in ({}, CHANGES[name]))
    assert not torch.equal(plain, other)


def test_the_prior_and_the_length_of_a_sum_count(simulator, prior, rollouts):
    start = optimised(simulator, prior).start
    other = wl.latent_prior(simulator, rollouts, 20, seed=3)
    plain, under_other = (optimised(simulator, one, start).latents for one in (prior, other))
    assert not torch.equal(plain, under_other)
    short, long = (optimised(simulator, prior, start, step="sum", num_steps=n).value for n in (2, 4))
    assert not np.allclose(short, long)


def test_report_rollouts_change_the_reported_value_alone(simulator, prior):
    one, other = (optimised(simulator, prior, report_rollouts=n) for n in (2, 5))
    assert torch.equal(one.latents, other.latents)
    assert not np.array_equal(one.value, other.value)
    assert not np.array_equal(one.start_value, other.start_value)


def test_batches_change_rounding_alone(simulator, prior):
    one, other = (optimised(simulator, prior, batch_size=n) for n in (64, 2))
    torch.testing.assert_close(one.latents, other.latents, rtol=1e-3, atol=1e-3)


def test_it_begins_at_random_latents_of_the_prior_or_at_recorded_frames(simulator, prior, rollouts):
    drawn = optimised(simulator, prior, 5).start
    assert drawn.shape == (5, prior.mean.shape[0])
    assert not torch.equal(drawn, optimised(simulator, prior, 5, seed=2).start)
    k = simulator.model.config.num_initializing_steps
    frames = rollouts.windows(k, anchor="start", pad="none").batch([0, 1]).obs
    begun = optimised(simulator, prior, frames).start
    torch.testing.assert_close(begun, wl.starting_latents(simulator, frames)[0])


def test_the_defaults_are_those_of_the_script():
    asked = {name: field.default for name, field in Args.__dataclass_fields__.items()}
    config = vars(wl.OptimisationConfig())
    assert config == {name: asked[name] for name in config}
    verb = {name: one.default for name, one in inspect.signature(wl.optimise_latents).parameters.items()}
    shared = {"step", "report_rollouts", "batch_size", "seed"}
    assert {name: verb[name] for name in shared} == {name: asked[name] for name in shared}
    assert verb["num_steps"] == asked["num_sim_steps"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(target="increase_speed"), "no function 'speed'"),
        (dict(target="fly"), "'fly' is no target"),
        (dict(target="reach_home"), "there are: none: give"),
        (dict(target="increase_hx_direction", directions=PCA), "names 2 targets, such as increase_hx_dir"),
        (dict(step=9), "--step 9 of increase_hidden_2 lies beyond the rollout"),
    ],
)
def test_what_cannot_be_is_refused(simulator, prior, changed, message):
    with pytest.raises(UsageError, match=message):
        optimised(simulator, prior, **changed)


def test_too_few_levels_for_a_prior_are_refused(simulator, made):
    with pytest.raises(UsageError, match="needs 4 or more"):
        wl.latent_prior(simulator, wl.Rollouts.open(made / "store"))


def test_what_is_printed_is_short(simulator, prior):
    text = repr(optimised(simulator, prior))
    assert text.startswith("OptimisedLatents(value=array(")
    assert "tensor" not in text
