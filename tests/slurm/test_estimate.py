"""Estimates of time, memory and disk follow the flags and the measured rates."""

import json

import pytest

from common.errors import UsageError
from common.launcher import Launch
from slurm.estimate import Estimate, Rates, estimate, read_rates
from slurm.submit import described, with_limits

ROWS = [
    {"name": "train", "what": "half-rec", "per_second": 1000, "peak_gb": 3.0},
    {"name": "train", "what": "half-rec", "per_second": 500, "peak_gb": 9.0},
    {
        "name": "record",
        "what": "",
        "per_second": 50,
        "peak_gb": 1.0,
        "steps_per_episode": 80,
        "bytes_per_step": 300,
    },
    {"name": "train_gen_model", "what": "small painter", "per_second": 10, "peak_gb": 2.0},
    {"name": "train_gen_model", "what": "small latent", "per_second": 20, "peak_gb": 4.0},
    {"name": "train_gen_model", "what": "small motion", "per_second": 100, "peak_gb": 1.0},
    {"name": "train_gen_model", "what": "small tiles", "per_second": 10, "peak_gb": 1.0},
    {"name": "train_gen_model", "what": "small joint", "skipped": "out of time"},
    {"name": "record_gen_samples", "what": "", "per_second": 200, "peak_gb": 1.0, "bytes_per_step": 500},
    {"name": "saliency_exps", "what": "", "per_second": 4, "peak_gb": 5.0, "draws": 9, "bytes_per_map": 1000},
    {
        "name": "train_dt",
        "what": "coinrun",
        "per_second": 100,
        "peak_gb": 1.0,
        "batch_size": 8,
        "window_steps": 20,
        "num_batches": 50,
    },
]  # fmt: skip
RATES = Rates(ROWS, "a machine")
STAGES = {
    "painter_batches": 10,
    "latent_batches": 20,
    "motion_batches": 5,
    "tiles_batches": 0,
    "joint_batches": 0,
}
MODEL = {
    "interpreting_params_name": "small",
    "batch_size": 4,
    "motion_batch_size": 50,
    "num_sim_steps": 8,
    "num_batches": None,
    "epochs": None,
} | STAGES


def seconds(script: str, **flags) -> float:
    return estimate(script, flags, RATES).hours * 3600


def test_time_follows_the_size_and_the_faster_of_two_precisions():
    assert seconds("train", param_name="half-rec", num_timesteps=5000) == pytest.approx(5)
    assert seconds("record", num_episodes=10) == pytest.approx(16)
    assert seconds("record_gen_samples", num_samples=50, num_sim_steps=8, action_grid=False) == pytest.approx(
        2
    )


def test_a_world_models_time_is_that_of_its_stages():
    found = estimate("train_gen_model", MODEL, RATES)
    assert found.hours * 3600 == pytest.approx(10 * 32 / 10 + 20 * 32 / 20 + 5 * 400 / 100)
    assert found.memory_gb == 4
    twice = estimate("train_gen_model", MODEL | {"num_batches": 70}, RATES)
    assert twice.hours == pytest.approx(2 * found.hours)


def test_maps_cost_by_function_and_draw():
    flags = {"sample_ids": ["0", "to", "100"], "saliency_func_type": ["value", "action"], "draws": 9}
    found = estimate("saliency_exps", flags, RATES)
    assert found.hours * 3600 == pytest.approx(50)
    assert found.disk_gb * 1e9 == pytest.approx(200_000)
    assert seconds("saliency_exps", **flags | {"draws": 18}) == pytest.approx(100)
    assert seconds("saliency_exps", **flags | {"sample_ids": ["3", "9"]}) == pytest.approx(1)


def test_the_presets_sizes_stand_in_for_flags_that_are_left_out():
    left_out = {"param_name": "coinrun", "num_batches": None, "batch_size": None, "window_steps": None}
    assert seconds("train_dt", **left_out) == pytest.approx(80)
    assert seconds("train_dt", **left_out | {"num_batches": 100, "batch_size": 4}) == pytest.approx(80)
    assert seconds("train_dt", **left_out | {"window_steps": 40}) == pytest.approx(160)


def test_what_was_not_measured_has_no_estimate():
    assert estimate("train", {"param_name": "hard", "num_timesteps": 5}, RATES) is None
    assert estimate("analysis.true_q", {}, RATES) is None
    assert estimate("train_gen_model", MODEL | {"joint_batches": 3}, RATES) is None
    assert estimate("train_gen_model", MODEL | {"epochs": 3}, RATES) is None
    assert estimate("record", {"num_episodes": 5}, None) is None


REFUSED = {
    "train": [("num_timesteps", 0), ("param_name", "nowhere")],
    "record": [("num_episodes", -1)],
    "train_gen_model": [("num_batches", 0), ("epochs", 0), ("batch_size", 0), ("motion_batch_size", 2**99)]
    + [("num_sim_steps", 0), ("painter_batches", -1), ("interpreting_params_name", "nowhere")],
    "record_gen_samples": [("num_samples", 0), ("num_sim_steps", -3)],
    "saliency_exps": [("draws", 0)],
    "train_dt": [("num_batches", -1), ("batch_size", 0), ("window_steps", 0), ("param_name", "nowhere")],
}
SOUND = {
    "train": {"param_name": "half-rec", "num_timesteps": 5},
    "record": {"num_episodes": 5},
    "train_gen_model": MODEL,
    "record_gen_samples": {"num_samples": 3, "num_sim_steps": 4, "action_grid": False},
    "saliency_exps": {"sample_ids": ["0"], "saliency_func_type": ["value"], "draws": 9},
    "train_dt": {"param_name": "coinrun", "num_batches": 1, "batch_size": 1, "window_steps": 1},
}


@pytest.mark.parametrize("rates", [RATES, None], ids=["measured", "not measured"])
@pytest.mark.parametrize(
    ("script", "flag", "value"), [(script, *one) for script, wrong in REFUSED.items() for one in wrong]
)
def test_a_value_that_the_script_would_refuse_is_one_line(script, flag, value, rates):
    estimate(script, SOUND[script], rates)
    with pytest.raises(UsageError, match=f"{flag} is {value}|unknown preset 'nowhere'") as refused:
        estimate(script, SOUND[script] | {flag: value}, rates)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "ids", ["0 to", "to 5", "to", "5 to 2", "a", "1 to b", "0 to 5 6", "-1", "1.5", "", f"0 to {10**30}"]
)
def test_samples_that_are_none_are_one_line(ids):
    with pytest.raises(UsageError, match="^--sample_ids "):
        estimate("saliency_exps", SOUND["saliency_exps"] | {"sample_ids": ids.split()}, RATES)


def test_rates_are_those_of_the_device(tmp_path):
    content = {"device": {"name": "one core"}, "rows": ROWS}
    (tmp_path / "machine_speed_cpu.json").write_text(json.dumps(content))
    assert read_rates(False, tmp_path) == Rates(ROWS, "one core")
    assert read_rates(True, tmp_path) is None


def test_limits_are_twice_the_estimate_unless_they_are_given():
    found = Estimate(8.0, 3.0, 1.0, "measured")
    launch = with_limits(Launch(array="4"), found)
    assert (launch.time, launch.mem) == ("04:00:00", "6144M")
    assert "about 2 h in each of 4 jobs and 3 GB of memory, 1 GB on disk in all (measured)" in described(
        found, launch
    )
    assert with_limits(Launch(sweep=("seed", "0", "1")), found).time == "16:00:00"
    here = Launch("local")
    assert with_limits(here, found) == here
    assert described(found, here).endswith("; no limits on this machine")
    assert described(None, here).endswith("; no limits on this machine")
    several = with_limits(Launch(processes=3), found)
    assert several.mem == "18432M"
    assert "and 9 GB of memory" in described(found, several)
    kept = with_limits(Launch(time="5:00:00", mem="9G"), found)
    assert (kept.time, kept.mem) == ("5:00:00", "9G")
    least = with_limits(Launch(), Estimate(0.001, 0.1, 0.0, ""))
    assert (least.time, least.mem) == ("00:10:00", "2048M")
