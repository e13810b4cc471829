"""The demo's plan: faster machines compute more, within the time limit, and the plan is found again."""

import dataclasses
import itertools

import pytest

import demo
from analysis.demo_report import plan as demo_plan
from analysis.demo_report.commands import OWN_EPISODES
from analysis.demo_report.plan import (
    LEAST,
    REFERENCE,
    Rates,
    Sizes,
    choose_sizes,
    estimate_seconds,
    interpolate_sizes,
    is_small,
    make_plan,
    plan_table,
    read_plan,
    seconds,
    steps_of,
)
from common.runs import UsageError
from common.stats import FEWEST_CLUSTERS

STEPS = steps_of("coinrun")


def machine(times: float) -> Rates:
    """One that is `times` as fast as the reference."""
    return Rates(**{name: times * value for name, value in vars(REFERENCE).items()})


def test_sizes_fall_with_speed_and_rise_with_time():
    made = [vars(choose_sizes(STEPS, machine(times), 10)) for times in (8, 1, 0.6, 0.4, 0.01)]
    for faster, slower in itertools.pairwise(made):
        assert all(faster[name] >= slower[name] for name in faster)
    assert made[0] == vars(Sizes())
    assert made[-1] == vars(LEAST)
    assert made[0] != made[2] != made[-1]
    assert (
        choose_sizes(STEPS, machine(0.5), 20).num_batches > choose_sizes(STEPS, machine(0.5), 8).num_batches
    )


@pytest.mark.parametrize("times", [0.42, 0.6, 1, 3])
def test_the_plan_ends_within_the_time_limit(times):
    sizes = choose_sizes(STEPS, machine(times), 10)
    assert sum(estimate_seconds(STEPS, sizes, machine(times)).values()) < 600


def test_the_least_sizes_still_have_intervals():
    episodes = LEAST.eval_episodes // OWN_EPISODES
    counts = LEAST.gradient_states, LEAST.saliency_samples, LEAST.saliency_states, LEAST.num_hazards, episodes
    assert min(counts) >= FEWEST_CLUSTERS


def test_small_sizes_are_known_as_such():
    assert is_small(LEAST)
    assert not is_small(Sizes())
    by_speed = [is_small(choose_sizes(STEPS, machine(times), 10)) for times in (0.4, 0.6, 1, 3)]
    assert by_speed == sorted(by_speed, reverse=True)


def test_a_step_costs_more_where_its_own_rate_is_lower():
    cost = STEPS["train a world model"][0]
    size = 50
    slow = dataclasses.replace(REFERENCE, simulating=REFERENCE.simulating / 2)
    work = cost.fixed + cost.unit * size
    assert seconds(cost, size, slow) - seconds(cost, size, REFERENCE) == pytest.approx(work)
    assert seconds(cost, size, dataclasses.replace(REFERENCE, training=1.0)) == seconds(cost, size, REFERENCE)


def test_every_size_is_planned_for_and_lies_between_least_and_most():
    assert {field for _, field in STEPS.values()} == {field.name for field in dataclasses.fields(Sizes)}
    assert interpolate_sizes(0) == LEAST
    assert interpolate_sizes(1) == Sizes()


def test_the_plan_is_saved_and_printed(tmp_path):
    assert read_plan(tmp_path) is None
    plan = make_plan(tmp_path, STEPS, machine(0.5), 10, {"num_batches": 7})
    assert read_plan(tmp_path) == plan
    assert plan["sizes"]["num_batches"] == 7
    text = plan_table(STEPS, plan)
    assert all(title in text for title in STEPS)
    assert "total" in text
    assert "longer" not in text
    assert "longer" in plan_table(STEPS, make_plan(tmp_path, STEPS, machine(0.01), 10, {}))


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 0, "sizes": {}, "rates": {}}'])
def test_a_plan_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="delete it"):
        read_plan(tmp_path)


@pytest.fixture
def timed(monkeypatch):
    """A demo that thinks it has timed the machine."""
    monkeypatch.setattr(demo, "measure_rates", lambda *_: machine(0.8))


def test_the_same_command_finds_its_sizes_again(tmp_path, timed, monkeypatch, capsys):
    first = demo.plan_sizes(demo.Args(minutes=10), tmp_path)
    monkeypatch.setattr(demo, "measure_rates", lambda *_: pytest.fail("timed again"))
    assert demo.plan_sizes(demo.Args(minutes=10), tmp_path) == first
    assert capsys.readouterr().out.count("Planned") == 2


@pytest.mark.parametrize(
    "flags", [{"minutes": 4}, {"num_timesteps": 64}, {"num_episodes": 9}, {"num_batches": 3}]
)
def test_flags_change_the_sizes_and_another_plan_is_not_overwritten(tmp_path, timed, flags):
    usual = demo.plan_sizes(demo.Args(), tmp_path / "a")
    assert demo.plan_sizes(demo.Args(**flags), tmp_path / "b") != usual
    with pytest.raises(UsageError, match="another --out_dir"):
        demo.plan_sizes(demo.Args(**flags), tmp_path / "a")


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_an_invalid_time_limit_is_refused(tmp_path, minutes):
    with pytest.raises(UsageError, match="--minutes"):
        demo.main(demo.Args(minutes=minutes, out_dir=tmp_path))


@pytest.mark.parametrize("name", ["num_timesteps", "num_episodes", "num_batches"])
def test_a_size_below_one_is_refused_before_a_plan_is_made(tmp_path, name):
    with pytest.raises(UsageError, match=f"--{name} is 0: give 1 or more"):
        demo.main(demo.Args(out_dir=tmp_path, **{name: 0}))
    assert not list(tmp_path.iterdir())


def test_timing_takes_the_fastest_round(monkeypatch):
    clock = iter([0, 9, 10, 12, 20, 25])  # begun and ended, three rounds
    monkeypatch.setattr(demo_plan.time, "perf_counter", lambda: next(clock))
    calls = []
    assert demo_plan._seconds_of(lambda: calls.append(1)) == 2
    assert len(calls) == 4
