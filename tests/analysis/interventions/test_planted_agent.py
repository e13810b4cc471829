"""An agent in CoinRun itself whose one direction is known to keep it from jumping: the pipeline finds that in
the game and in the simulator.
"""

import json
import subprocess

import numpy as np
import pytest
import torch
import yaml

import confirm
import record
from agents.actor_critic import load_agent, save_agent
from analysis.interventions.experiment import Experiment, play_control, play_tested, state_sample
from analysis.interventions.run import Settings, choose_points
from common.checkpoints import load_checkpoint, save_checkpoint
from common.cli import parse
from common.runs import file_id
from common.stats import estimate, level_weights, mean
from envs.procgen import ProcgenConfig
from generative.simulator_file import load_simulator
from interpret.directions.directions import save_directions
from interpret.forks.fork_points import recording_seed
from interpret.forks.worlds import RealWorld, SimulatedWorld
from interpret.interventions.arms import Arm, strength_arms
from interpret.interventions.edit import Edit
from interpret.interventions.effects import EVENTS
from interpret.interventions.interventions import bind
from interpret.interventions.shared_nulls import dosed, logit_shifts
from rollouts.states import replay_env
from rollouts.store import Rollouts
from tests.helpers.planted_agent import CALM, GAIN, UP, plant

pytestmark = pytest.mark.usefixtures("float32")
JUMP = EVENTS.index("jump")
AGENT = "pretrained/coinrun_easy_200/seed_0_finished/model.safetensors"
SIMULATOR = "pretrained/coinrun_simulator/model.safetensors"


@pytest.fixture(scope="module")
def planted(world):
    states = torch.from_numpy(world.store.hidden_after())
    return plant(load_agent(world.agent_file)[0], states)


@pytest.fixture(scope="module")
def worlds(world, planted):
    agent, _ = planted
    simulator = load_simulator(world.world_model_file, world.agent_file, device="cpu")[0]
    frames = simulator.model.config.num_initializing_steps
    points = choose_points(Settings(scenes="any", num_fork_points=13), world.store, frames)
    env = replay_env(world.store, 16, 1)
    makers = {
        "real": lambda policy: RealWorld(env, policy),
        "simulator": lambda policy: SimulatedWorld(simulator, policy),
    }
    names, seed = world.store.manifest["action_names"], recording_seed(world.store)
    yield {
        name: Experiment(world_of, agent, names, points, 12, seed, 2, 16) for name, world_of in makers.items()
    }
    env.close()


def jump_effect(experiment, directions, edit):
    control = play_control(experiment)
    sample = state_sample(control, 0, "cpu")
    one = dosed(edit, directions, experiment.agent, sample, 0.1)
    tested = play_tested(experiment, strength_arms(bind([one], {"one": directions}), (1.0,)))
    change = tested["outcomes"][0, JUMP] - control["outcomes"][JUMP]
    return estimate(mean(level_weights(experiment.points.layout), change))


@pytest.mark.parametrize("name", ["real", "simulator"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_planted_direction_stops_jumps_in_game_and_simulator(worlds, planted, name, sign):
    edit = Edit("add", (CALM,), values=(sign,), mode="state")
    effect = jump_effect(worlds[name], planted[1], edit)
    assert (effect.high < 0) if sign > 0 else (effect.low > 0)


def jump_shift(policy, directions, sample, direction):
    """Mean change of the log odds of jumps under a push of half a standard deviation."""
    push = Edit("add", (direction,), values=(0.5,), mode="state")
    up = np.isin(np.arange(15), UP)
    return logit_shifts(Arm("tested", 1.0, bind([push], {"one": directions})), policy, sample, [up])[0]


def test_the_push_moves_the_log_odds_of_jumps_by_its_size_and_other_pushes_do_not(worlds, planted, world):
    agent, directions = planted
    sample = state_sample(play_control(worlds["real"]), 0, "cpu")
    assert jump_shift(agent, directions, sample, CALM) == pytest.approx(-0.5 * GAIN, abs=0.01)
    untouched = load_agent(world.agent_file)[0]
    for other in range(1, len(directions)):
        found, usual = (jump_shift(policy, directions, sample, other) for policy in (agent, untouched))
        assert found == pytest.approx(usual, abs=0.1)


def test_where_it_stands_alone_no_other_direction_moves_the_log_odds_of_jumps(worlds, world):
    states = torch.from_numpy(world.store.hidden_after())
    agent, directions = plant(load_agent(world.agent_file)[0], states, alone=True)
    sample = state_sample(play_control(worlds["real"]), 0, "cpu")
    assert jump_shift(agent, directions, sample, CALM) == pytest.approx(-0.5 * GAIN, abs=0.01)
    for other in range(1, len(directions)):
        assert jump_shift(agent, directions, sample, other) == pytest.approx(0, abs=0.01)


@pytest.mark.slow
def test_confirm_finds_the_planted_direction_of_the_reference_agent(tmp_path):
    """Files, registration, recording, both worlds: everything that a user does."""
    agent, meta = load_agent(AGENT)
    record_args = "--exp_name {} --agent_file {} --start_level 10000 --num_levels 90000 --num_episodes {} "
    record_args += "--num_threads 1 --device cpu --out_dir {}"
    record.main(parse(record.Args, "", record_args.format("plain", AGENT, 12, tmp_path).split()))
    states = torch.from_numpy(Rollouts.open(tmp_path / "data/plain").hidden_after())
    planted, directions = plant(agent, states, alone=True, gain=0.4)
    agent_file, model_file = tmp_path / "planted.safetensors", tmp_path / "model.safetensors"
    save_agent(agent_file, planted, {"env": vars(ProcgenConfig())} | meta)
    tensors, about = load_checkpoint(SIMULATOR)
    save_checkpoint(model_file, tensors, about | {"agent": about["agent"] | {"id": file_id(agent_file)}})
    save_directions(
        tmp_path / "d.safetensors", directions.first(4).with_provenance(agent=file_id(agent_file))
    )
    record.main(parse(record.Args, "", record_args.format("sealed", agent_file, 70, tmp_path).split()))
    folder = tmp_path / "hypotheses"
    folder.mkdir()
    fields = {
        "sentence": "pushed along calm, it jumps less", "agent": file_id(agent_file),
        "directions": directions.first(4).id,
        "edit": {"kind": "add", "directions": [CALM], "values": [1.0], "mode": "state"},
        "kl": 0.1, "scenes": "any", "steps": 8, "event": "jump", "change": "fall", "smallest_effect": 0.02,
        "n": 36, "null_points": 36, "num_nulls": 19, "levels": [10_000, 90_000],
    }  # fmt: skip
    (folder / "calm.yaml").write_text(yaml.safe_dump(fields))
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "register"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    words = (
        f"{folder / 'calm.yaml'} --agent_file {agent_file} --world_model_file {model_file} --num_threads 1 "
    )
    words += f"--data_dir {tmp_path / 'data/sealed'} --direction_files {tmp_path / 'd.safetensors'} "
    confirm.main(parse(confirm.Args, "", (words + f"--device cpu --out_dir {tmp_path}").split()))
    found = json.loads((tmp_path / "confirm_precomp/latest/numbers.json").read_text())
    for world in ("real", "simulator"):
        one = found["hypotheses"][0]["worlds"][world]
        assert one["effects"]["jump"][2] < -0.02
        assert one["nulls"]["KL-matched"]["p"] == 1 / 20  # no random push of that KL does as much
        assert one["verdict"] == "confirmed"
