"""The straight-through gradient against rollouts: forward equals backward derivatives, paths add up, and
planted truths come out.
"""

import json

import numpy as np
import pytest
import torch

from analysis import gradient_check
from common.checkpoints import load_checkpoint
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator
from generative.starts import InformedStarts
from interpret.attribution.gradient_estimator import (
    PATHS,
    QUANTITIES,
    cross_half_agreement,
    gradient_agreement,
    holding_place,
    noise_ceiling,
    perturbations,
    predicted_and_measured_changes,
    quantities,
    to_float32,
)
from rollouts.store import Rollouts
from tests.helpers.refusal_checks import HUGE, refused_at_once
from tests.helpers.toy_simulator import save_toy_files, toy_simulator
from tests.helpers.toy_world import toy_config

B = 6
STEPS = 4


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


def latents(n=B, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = toy_config().latent_size
    return torch.randn(n, size, generator=generator), 0.3 * torch.randn(n, size, generator=generator)


def backward(simulator, z, move, keys, unit, **given):
    """The predicted changes [quantities, T, B] by a backward pass for every quantity and step."""
    moving = z.clone().requires_grad_()
    out = simulator.simulate(moving, STEPS, keys, grad=True, ends=False, **given)
    rows = quantities(out, out.action, unit).sum(-1)
    gradients = [torch.autograd.grad(x, moving, retain_graph=True)[0] for x in rows.flatten()]
    return torch.stack([(g * move).sum(-1) for g in gradients]).unflatten(0, rows.shape)


def test_predictions_are_the_gradient_that_saliency_uses_path_by_path(simulator):
    (z, move), keys, unit = latents(), NoiseKeys(0, np.arange(B)), torch.arange(B)
    predicted, _ = predicted_and_measured_changes(simulator, z, move, keys, STEPS, unit)
    assert predicted.shape == (3, 5, STEPS, B)
    mixed, environment = (
        backward(simulator, z, move, keys, unit, detach_actions=detached) for detached in (False, True)
    )
    for path, expected in (("mixed", mixed), ("environment", environment), ("agent", mixed - environment)):
        torch.testing.assert_close(predicted[PATHS.index(path)], expected, rtol=1e-3, atol=1e-4)
    assert (mixed - environment)[:, 1:].abs().max() > 1e-3
    assert not (mixed - environment)[0, 0].any()


def test_a_simulator_in_bf16_is_checked_in_float32():
    (z, move), keys, unit = latents(), NoiseKeys(0, np.arange(B)), torch.arange(B)
    half = toy_simulator(precision="bf16")
    whole = toy_simulator()
    half.model.load_state_dict(whole.model.state_dict())
    predicted, _ = predicted_and_measured_changes(to_float32(half), z, move, keys, 2, unit)
    assert torch.equal(predicted, predicted_and_measured_changes(whole, z, move, keys, 2, unit)[0])


def test_measurements_are_differences_of_common_noise_rollouts(simulator):
    (z, move), keys, unit = latents(seed=2), NoiseKeys(0, np.arange(B)), torch.arange(B)
    move = 20 * move  # so far that actions change
    _, measured = predicted_and_measured_changes(simulator, z, move, keys, STEPS, unit)
    base = simulator.simulate(z, STEPS, keys, ends=False)
    for path, given in (("mixed", {}), ("environment", {"actions": base.action})):
        up, down = (
            simulator.simulate(z + s * move, STEPS, keys, hidden=base.hidden[0], ends=False, **given)
            for s in (1, -1)
        )
        ours = measured[PATHS.index(path)]
        torch.testing.assert_close(ours[0], (up.value - down.value) / 2)
        torch.testing.assert_close(ours[3], (up.extra["reward_prob"] - down.extra["reward_prob"]) / 2)
        torch.testing.assert_close(ours[4], (up.extra["done_prob"] - down.extra["done_prob"]) / 2)
        b = 2
        t = 3
        torch.testing.assert_close(ours[1, t, b], (up.logits - down.logits)[t, b, base.action[t, b]] / 2)
        torch.testing.assert_close(ours[2, t, b], (up.hidden - down.hidden)[t + 1, b, unit[b]] / 2)
    torch.testing.assert_close(measured[0], measured[2] - measured[1])
    assert measured[0].any()


def test_the_estimator_predicts_the_toy_world_and_a_shuffled_one_does_not(simulator):
    n = 40
    rollouts = 48
    z, move = latents(n, seed=1)
    many = [x.repeat_interleave(rollouts, 0) for x in (z, 0.3 * move, torch.arange(n) % 8)]
    keys = NoiseKeys(0, np.repeat(np.arange(n), rollouts), np.tile(np.arange(rollouts), n))
    predicted, measured = (
        x.unflatten(-1, (n, rollouts)).mean(-1).numpy()
        for x in predicted_and_measured_changes(simulator, *many[:2], keys, 2, many[2])
    )
    environment = PATHS.index("environment")
    hidden = QUANTITIES.index("hidden")
    right = gradient_agreement(
        predicted[environment, hidden, 0], measured[environment, hidden, 0], np.arange(n)
    )
    wrong = gradient_agreement(
        np.roll(predicted[environment, hidden, 0], 1), measured[environment, hidden, 0], np.arange(n)
    )
    assert right["correlation"][0] > 0.5
    assert right["sign"][0] > 0.6
    assert right["correlation"][1] > wrong["correlation"][0]
    assert abs(wrong["correlation"][0]) < 0.4


def test_agreement_of_planted_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = 2 * x + rng.normal(size=400)
    found = gradient_agreement(x, y, np.arange(400))
    assert found["slope"][0] == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found["slope"][1] < 2.05 < found["slope"][2]
    assert found["correlation"][0] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["sign"][0] == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    assert gradient_agreement(y, x, np.arange(400))["slope"][0] == pytest.approx(
        np.polyfit(y, x, 1)[0]
    )  # and not its inverse
    assert gradient_agreement(-x, y, np.arange(400))["sign"][0] == pytest.approx(1 - found["sign"][0])


def test_intervals_are_by_cluster_and_what_never_changes_is_not_judged():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30))
    alone = gradient_agreement(x, y, np.arange(30))
    thrice = gradient_agreement(np.repeat(x, 9), np.repeat(y, 9), np.repeat(np.arange(30), 9))
    blind = gradient_agreement(np.repeat(x, 9), np.repeat(y, 9), np.arange(270))

    def width(found):
        return found["correlation"][2] - found["correlation"][1]

    assert width(thrice) == pytest.approx(width(alone), rel=0.05)
    assert width(blind) < 0.5 * width(alone)
    assert gradient_agreement(x, np.zeros(30), np.arange(30)) == {
        name: [None] * 3 for name in ("slope", "correlation", "sign")
    }
    assert gradient_agreement(x, np.where(np.arange(30) < 25, 0, x), np.arange(30))["sign"][0] == 1


def test_the_ceiling_is_the_correlation_that_the_truth_would_reach():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    for noise, other in ((0.3, 0.0), (1.0, 0.5), (0.2, 2.0)):
        predicted, measured = (truth + size * rng.normal(size=(2, 20_000)) for size in (noise, other))
        assert noise_ceiling(predicted, measured) == pytest.approx(
            cross_half_agreement(predicted, measured, np.arange(20_000) % 50)["correlation"][0], abs=0.03
        )
    assert noise_ceiling(np.stack([truth, -truth]), measured) == 0
    assert noise_ceiling(np.zeros((2, 9)), np.ones((2, 9))) is None


def test_a_gradient_that_knows_only_its_own_rollouts_luck_is_not_believed():
    """Prediction and measurement share their noise, half by half, and nothing else: the same rollouts would
    agree perfectly.
    """
    luck = np.random.default_rng(0).normal(size=(2, 2000))
    assert gradient_agreement(luck.mean(0), luck.mean(0), np.arange(2000))["correlation"][0] == pytest.approx(
        1
    )
    assert abs(cross_half_agreement(luck, luck, np.arange(2000))["correlation"][0]) < 0.05
    one, other = cross_half_agreement(
        np.stack([luck[0], luck[1]]), np.stack([luck[1], luck[0]]), np.arange(2000)
    )["slope"][:2]
    assert one == pytest.approx(1)
    assert other == pytest.approx(1)


def test_moves_have_their_length_and_keep_to_the_sphere():
    z, noise = latents()
    moves = perturbations(z, noise, 0.1, spherical=False)
    torch.testing.assert_close(moves.norm(dim=-1), 0.1 * z.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(moves, noise), torch.ones(B))
    point = torch.nn.functional.normalize(z, dim=-1)
    moves = perturbations(point, noise, 0.1, spherical=True)
    torch.testing.assert_close(moves.norm(dim=-1), torch.full((B,), 0.1))
    torch.testing.assert_close((moves * point).sum(-1), torch.zeros(B), atol=1e-6, rtol=0)


def test_a_move_that_holds_the_place_keeps_all_else(simulator):
    z, noise = latents()
    move = perturbations(z, noise, 0.01, spherical=False)
    held = holding_place(simulator, z, move)

    def change(step):
        after, before = (simulator.model.start_head(z + sign * step) for sign in (1, -1))
        return [(a - b).abs().flatten(1).amax(1) / 2 for a, b in zip(after, before)]

    with torch.no_grad():
        codes, phase, motion, pose = (new / old for new, old in zip(change(held), change(move)))
    assert phase.max() < 0.05
    assert motion.max() < 0.05
    assert codes.min() > 0.3
    assert pose.median() > 0.3
    torch.testing.assert_close(holding_place(simulator, z, held), held)


@pytest.fixture(scope="module", params=["gaussian", "sphere"])
def made(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    save_toy_files(path, latent=request.param)
    return path


def check(made, out_dir, **changed):
    given = dict(num_states=12, num_rollouts=4, horizons=(0, 2), out_dir=out_dir) | changed
    gradient_check.main(
        gradient_check.Args(made / "model.safetensors", made / "agent.safetensors", made / "store", **given)
    )
    return max(out_dir.iterdir(), key=lambda run: run.stat().st_mtime_ns)


def test_the_artefact_says_path_by_path_what_may_be_shown(made, tmp_path):
    directory = check(made, tmp_path)
    result = json.loads((directory / "gradient_check.json").read_text())
    arrays, axes = load_checkpoint(directory / "changes.safetensors")
    assert arrays["predicted"].shape == arrays["measured"].shape == (2, 3, 5, 2, 12)
    assert axes["paths"] == list(PATHS)
    assert (directory / "gradient_check.png").exists()
    assert result["states"] == 12
    assert 1 < result["levels"] <= 3
    assert len(result["cells"]) == 3 * 5 * 2
    for cell in result["cells"]:
        p = PATHS.index(cell["path"])
        q = QUANTITIES.index(cell["quantity"])
        h = (0, 2).index(cell["k"])
        order = {"predicted": (0, 1), "measured": (1, 0)}
        x, y = (
            np.concatenate([arrays[name][half, p, q, h] for half in halves]) for name, halves in order.items()
        )
        middle, low, _ = cell["correlation"]
        if middle is not None:
            assert middle == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
        unsure = middle is None or middle < 0.3 or low is None or low <= 0
        assert cell["greyed"] == (unsure or not cell["ceiling"])
    still = [
        cell
        for cell in result["cells"]
        if cell["path"] == "agent" and cell["k"] == 0 and cell["quantity"] == "value"
    ]
    assert still[0]["correlation"] == [None] * 3
    assert still[0]["greyed"]
    before = (directory / "changes.safetensors").stat().st_mtime_ns
    assert check(made, tmp_path) == directory
    assert (directory / "changes.safetensors").stat().st_mtime_ns == before


def test_every_flag_of_the_check_changes_its_numbers(made, tmp_path):
    if "sphere" in str(made):
        pytest.skip("does not depend on the prior; the Gaussian one covers it")
    base = load_checkpoint(check(made, tmp_path) / "changes.safetensors")[0]["predicted"]
    for change in (
        dict(seed=1),
        dict(share=0.2),
        dict(hold_place=True),
        dict(num_rollouts=2),
        dict(horizons=(1, 2)),
        dict(num_states=11),
    ):
        other = load_checkpoint(check(made, tmp_path, **change) / "changes.safetensors")[0]["predicted"]
        assert other.shape != base.shape or not torch.equal(other, base), change
    again = load_checkpoint(check(made, tmp_path, batch_size=8, new=True) / "changes.safetensors")[0][
        "predicted"
    ]
    off = (again - base).abs().amax((0, 1, 2, 3)) / base.abs().max()
    assert (off > 1e-4).sum() <= 1  # rounding may carry a rollout of a state over a pixel's edge
    assert off.max() < 0.05


def test_sizes_that_cannot_be_had_are_refused_before_work_begins(made, tmp_path):
    sizes = (
        dict(num_rollouts=3),
        dict(num_states=1),
        dict(share=0.0),
        dict(horizons=(-1,)),
        dict(horizons=()),
        dict(batch_size=0),
    )
    for wrong in (*sizes, dict(num_rollouts=HUGE), dict(horizons=(HUGE,))):
        refused_at_once(lambda out: check(made, out, **wrong), tmp_path, tmp_path, f"--{next(iter(wrong))}")


def test_states_beyond_the_store_are_lowered_before_work_begins(made, caplog):
    simulator = load_simulator(made / "model.safetensors", made / "agent.safetensors")[0]
    starts = InformedStarts(simulator, Rollouts.open(made / "store"), 0)
    asked = gradient_check.Args(made / "model.safetensors", made / "agent.safetensors", num_states=10**6)
    assert gradient_check.fit_flags(asked, simulator, starts).num_states == starts.count
    assert f"--num_states 1000000 to {starts.count} ({starts.count} starting places)" in caplog.text
