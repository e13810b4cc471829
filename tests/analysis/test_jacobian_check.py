"""Written scores: small ones change later scores as the Jacobian says, along memory and in the simulator;
every flag changes a named output.
"""

import numpy as np
import pytest
import torch

from analysis.io.steps import read_numbers, read_part
from analysis.jacobian_analysis_precompute import main as compute_jacobians
from analysis.jacobian_check import Args, main
from analysis.lagged.stored_jacobians import find_jacobians
from common.runs import UsageError
from generative.simulator_file import load_simulator
from interpret.attribution.written_scores import effect_in_simulator, effect_on_memory
from rollouts.store import Rollouts
from tests.helpers.jacobian_store import asked, make_jacobian_files, record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with all files, and its finished Jacobians."""
    path = make_jacobian_files(tmp_path_factory.mktemp("made"))
    compute_jacobians(asked(path, path / "results", keep_float=True))
    return path


def run(made, out, **changed):
    files = {"world_model_file": made / "model.safetensors", "agent_file": made / "agent.safetensors"}
    small = dict(written_lags=(1, 3), size=0.01, num_episodes=40, data_dir=made / "simulated", log_level=40)
    found = made / "results" / "jacobians_precomp" / "latest"
    main(Args(**(files | small | {"jacobians_dir": found, "out_dir": out} | changed)))
    return (out / "jacobian_check_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def usual(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("usual"))


def rows_of(directory) -> dict:
    return {(row["lag"], row["path"]): row for row in read_numbers(directory)["rows"]}


@pytest.mark.parametrize("lag", [1, 3])
def test_small_changes_along_memory_are_those_that_the_jacobian_predicts(usual, lag):
    row = rows_of(usual)[lag, "agent"]
    assert row["correlation"][0] > 0.99
    assert row["slope"][0] == pytest.approx(1, abs=0.05)


def test_a_change_at_another_step_is_not_what_is_predicted(made):
    stored = find_jacobians(made / "results")
    store = Rollouts.open(made / "simulated")
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    episodes = stored.samples["episode"][:30]
    change = 0.01 * stored.directions.write[:, 0].float().expand(30, -1)
    raw = stored.arrays["hidden/agent"][:30] @ stored.directions.write[:, 0].numpy()
    for lag in (1, 2):
        found = (
            effect_on_memory(simulator.agent, store, episodes, stored.directions, (3 - lag, 3), change) / 0.01
        )
        np.testing.assert_allclose(found, raw[:, lag], atol=0.02)
        assert np.abs(found.numpy() - raw[:, lag + 1]).max() > 0.05


def test_in_the_simulator_nothing_else_happens_while_the_actions_stay(made):
    stored = find_jacobians(made / "results")
    store = Rollouts.open(made / "simulated")
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    given = store, stored.samples["episode"][:30], stored.directions, (1, 3)
    none = torch.zeros(30, 8)
    assert (effect_in_simulator(simulator, *given, none) == 0).all()
    tiny = 1e-3 * stored.directions.write[:, 0].float().expand(30, -1)
    memory = effect_on_memory(simulator.agent, *given, tiny)
    everything = effect_in_simulator(simulator, *given, tiny)
    same = (memory - everything).abs().amax(1) < 1e-5  # no action changed
    assert same.float().mean() > 0.8
    large = 30 * stored.directions.write[:, 0].float().expand(30, -1)
    changed = effect_in_simulator(simulator, *given, large) - effect_on_memory(simulator.agent, *given, large)
    assert (changed.abs().amax(1) > 1e-3).any()


@pytest.mark.parametrize(
    ("changed", "array"), [({"size": 3.0}, "agent"), ({"num_episodes": 30}, "agent"), ({"seed": 1}, "total")]
)
def test_every_flag_changes_what_it_names(made, usual, tmp_path, changed, array):
    assert not np.array_equal(
        read_part(run(made, tmp_path, **changed), "lag_1")[array], read_part(usual, "lag_1")[array]
    )


def test_other_flags(made, usual, tmp_path):
    assert {lag for lag, _ in rows_of(run(made, tmp_path, written_lags=(2,)))} == {2}
    batched = read_part(run(made, tmp_path, batch_size=7, results=tmp_path / "r.json"), "lag_1")
    np.testing.assert_allclose(batched["agent"], read_part(usual, "lag_1")["agent"], atol=0.02)
    assert (tmp_path / "r.json").exists()
    first = run(made, tmp_path)
    assert run(made, tmp_path) == first
    assert run(made, tmp_path, new=True) != first


def test_invalid_input_is_refused_in_one_line(made, tmp_path):
    with pytest.raises(UsageError, match="these Jacobians have lags from 1 to 3"):
        run(made, tmp_path, written_lags=(4,))
    with pytest.raises(UsageError, match="--size is 0.0: give a number above 0"):
        run(made, tmp_path, size=0.0)
    with pytest.raises(UsageError, match="--num_episodes is 1: give 2 or more"):
        run(made, tmp_path, num_episodes=1)
    record(made, tmp_path / "other", num_samples=8, seed=3)
    with pytest.raises(UsageError, match="is not the store of"):
        run(made, tmp_path, data_dir=tmp_path / "other")
