"""Two processes against one: losses of the same steps are compared, and turns are taken."""

import json
from dataclasses import replace

import pytest

from benchmarks import two_processes
from benchmarks.two_processes import compare
from rollouts.labelling import label
from tests.helpers.coinrun_store import write_world


class Played:
    """A group whose losses and speeds are given."""

    def __init__(self, log: list[str], name: str, seconds: float, losses: list[float]):
        self.log, self.name, self.seconds, self.losses = log, name, seconds, losses
        self.step = 0

    def train(self, batches: int) -> dict:
        self.log.append(self.name)
        losses = self.losses[self.step : self.step + batches]
        self.step += batches
        return {"losses": losses, "frames": 8, "seconds": self.seconds, "cpu_seconds": self.seconds / 2}


def test_turns_alternate_and_the_largest_difference_is_found():
    log: list[str] = []
    groups = [Played(log, "one", 3.0, [1.0, 2.0, 4.0, 8.0]), Played(log, "two", 2.0, [1.0, 2.0, 4.1, 8.0])]
    found = compare(groups, 4, 1)
    assert log == ["two", "one", "one", "two", "two", "one", "one", "two"]
    assert found["ratio"][0] == pytest.approx(1.5)
    assert found["cpu_ratio"][0] == pytest.approx(1.5)
    assert found["per_second"] == pytest.approx([8 / 3, 4])
    by_step = found["differences"].pop("by_step")
    assert found["differences"] == {"largest": pytest.approx(0.1 / 4), "first_beyond": 2, "steps": 4}
    assert by_step == [0, 0, 0.02, 0]
    assert found["turns"] == 3


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    world = write_world(tmp_path / "world")
    label(world.store, range(len(world.store.entries)), 1)
    out = tmp_path / "two.json"
    args = two_processes.Args(
        agent_file=world.agent_file,
        data_dir=world.store.path,
        interpreting_params_name="tiny",
        turns=2,
        batches=3,
        batch_size=4,
        out_file=out,
        log_level=40,
    )
    two_processes.main(args)
    found = json.loads(out.read_text())["trainings"]
    assert set(found) == set(args.trainings)
    for name, one in found.items():
        apart = {kind: one[kind]["largest"] for kind in two_processes.DIFFERENCES}
        assert one["differences"]["steps"] == 6, name
        assert one["differences"]["first_beyond"] is None, name
        assert 0 < apart["differences_double"] < 1e-12 < apart["differences"] < 1e-4, name
        assert apart["differences_nudged"] < 1e-4, name
    alone = two_processes.losses_alone(
        1, two_processes.settings_of(args) | {"training": "dt", "nudge": 1e-3}, 2
    )
    assert two_processes.difference(found["dt"]["losses"][0][:2], alone)["first_beyond"] == 0
    begun = two_processes.settings_of(replace(args, world_model_file=world.world_model_file))
    from_file = two_processes.losses_alone(1, begun | {"training": "latent"}, 2)
    assert two_processes.difference(found["latent"]["losses"][0][:2], from_file)["first_beyond"] == 0
