"""Training a world model from a store: keyed batches, the log, resuming to the same bits, and clear refusals."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from toy_world import toy_agent, toy_config, toy_episode, with_agent, write_toy_store

import train_gen_model
from agents.actor_critic import save_agent
from common.checkpoints import BadCheckpoint, load_checkpoint
from common.runs import UsageError, file_id
from generative import trainer as trainer_module
from generative.config import LossScales, TrainConfig
from generative.data import WindowSource, held_out, read_ahead
from generative.model import load_world_model
from generative.progress import CLOCK_COLUMNS, COLUMNS
from generative.trainer import Trainer
from rollouts.store import BadStore, Rollouts

ROOT = Path(__file__).parents[1]
SHORT = TrainConfig(num_batches=6, batch_size=3, num_sim_steps=4, log_interval=2, save_interval=2, validation_batches=1, warmup=2)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store and the agent that recorded it."""
    path, rng = tmp_path_factory.mktemp("recorded"), np.random.default_rng(0)
    save_agent(path / "agent.safetensors", toy_agent(), {"env": {"env_name": "toy"}})
    agent = toy_agent()
    episodes = [with_agent(toy_episode(rng, 12), agent) for _ in range(40)]
    write_toy_store(path / "store", episodes, agent, policy_id=file_id(path / "agent.safetensors"))
    return path


def source(path, steps=4, share=0.2, seed=0):
    store = Rollouts.open(path / "store")
    return WindowSource(store.windows(3 + steps - 1, min_steps=3), store.episodes["level_seed"], share, seed)


def make(recorded, directory, config=SHORT, scales=LossScales(), seed=0, **changed):
    directory.mkdir(exist_ok=True)
    windows, device = source(recorded, seed=seed), torch.device("cpu")
    return Trainer(toy_config(**changed), config, scales, windows, toy_agent(), directory, seed, device, {})


def rows(directory):
    with open(directory / "progress.csv") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in csv.DictReader(file)]


def same_state(one, other):
    a, b = (load_checkpoint(path / "train_state.safetensors")[0] for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_log_holds_every_term_for_training_and_held_out_levels(recorded, tmp_path):
    make(recorded, tmp_path / "run").train()
    log = rows(tmp_path / "run")
    assert [row["batch"] for row in log] == ["2", "4", "6"]
    assert set(log[0]) == set(COLUMNS) - set(CLOCK_COLUMNS)
    assert all(np.isfinite(float(value)) for row in log for value in row.values())
    assert float(log[-1]["psnr"]) == pytest.approx(-10 * np.log10(float(log[-1]["image"]) / (8 * 8 * 3)), abs=1e-4)
    assert any(path.name.startswith("events.out") for path in (tmp_path / "run").iterdir())


def test_training_depends_on_seed_and_flags_and_on_nothing_else(recorded, tmp_path):
    make(recorded, tmp_path / "a").train()
    make(recorded, tmp_path / "b").train()
    assert same_state(tmp_path / "a", tmp_path / "b") and rows(tmp_path / "a") == rows(tmp_path / "b")
    make(recorded, tmp_path / "c", seed=1).train()
    assert not same_state(tmp_path / "a", tmp_path / "c")
    for i, change in enumerate([dict(lr=1e-3), dict(warmup=1), dict(grad_clip_norm=0.01), dict(agent_share=1.0)]):
        make(recorded, tmp_path / f"d{i}", replace(SHORT, **change)).train()
        assert not same_state(tmp_path / "a", tmp_path / f"d{i}"), change


def test_every_batch_has_noise_of_its_own_and_validation_always_the_same(recorded, tmp_path, monkeypatch):
    real, drawn = trainer_module.loss_terms, {True: [], False: []}

    def watched(model, segment, noise, *rest):
        drawn[torch.is_grad_enabled()].append(noise.z.clone())
        return real(model, segment, noise, *rest)

    monkeypatch.setattr(trainer_module, "loss_terms", watched)
    make(recorded, tmp_path / "run").train()
    assert len(drawn[True]) == 6 and len(torch.stack(drawn[True]).unique(dim=0)) == 6
    assert len(drawn[False]) == 3 and len(torch.stack(drawn[False]).unique(dim=0)) == 1


def test_the_agents_terms_are_left_out_of_training_but_not_of_validation_when_unweighted(recorded, tmp_path):
    make(recorded, tmp_path / "run", scales=LossScales(loss_scale_hx=0, loss_scale_act_log_probs=0)).train()
    last = rows(tmp_path / "run")[-1]
    assert last["hx"] == "" and float(last["val_hx"]) > 0 and float(last["val_act_log_probs"]) > 0


def test_a_run_that_stopped_between_rows_and_saves_goes_on_as_if_it_had_not(recorded, tmp_path, monkeypatch):
    config = replace(SHORT, log_interval=3, save_interval=2)
    make(recorded, tmp_path / "whole", config).train()
    real, seen = trainer_module.loss_terms, []

    def fails_at_fifth(*given):
        seen.append(1)
        if len(seen) == 6:  # four batches and a validation went before
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(trainer_module, "loss_terms", fails_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        make(recorded, tmp_path / "broken", config).train()
    monkeypatch.setattr(trainer_module, "loss_terms", real)
    again = make(recorded, tmp_path / "broken", config)
    assert again.batches == 4
    again.train()
    assert same_state(tmp_path / "whole", tmp_path / "broken") and rows(tmp_path / "whole") == rows(tmp_path / "broken")


COMMAND = [sys.executable, str(ROOT / "train_gen_model.py"), "--interpreting_params_name", "tiny"]
COMMAND += ["--batch_size", "2", "--num_sim_steps", "3", "--num_batches", "30"]
COMMAND += ["--save_interval", "3", "--log_interval", "5", "--device", "cpu", "--log_level", "40"]


def test_killed_outright_and_started_again_it_ends_with_the_same_bits(recorded, tmp_path):
    command = COMMAND + ["--agent_file", str(recorded / "agent.safetensors"), "--data_dir", str(recorded / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    run = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    subprocess.run(command, cwd=tmp_path / "whole", check=True, **run)
    process = subprocess.Popen(command, cwd=tmp_path / "killed", **run)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list((tmp_path / "killed").rglob("model_6.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not list((tmp_path / "killed").rglob("done.json"))
    subprocess.run(command, cwd=tmp_path / "killed", check=True, **run)
    whole, killed = (next((tmp_path / name).rglob("done.json")).parent for name in ("whole", "killed"))
    assert whole.parent == tmp_path / "whole" / "generative" / "results" / "test_tgm"
    assert same_state(whole, killed) and rows(whole) == rows(killed)
    assert (whole / "model_30.safetensors").read_bytes() == (killed / "model_30.safetensors").read_bytes()


def test_a_term_that_is_not_finite_stops_training_and_is_named(recorded, tmp_path, monkeypatch):
    real, seen = trainer_module.loss_terms, []

    def poisoned(*given):
        terms = real(*given)
        seen.append(1)
        if len(seen) == 5:  # the fourth batch, after one validation
            terms["reward"] = terms["reward"] * float("nan")
        return terms

    monkeypatch.setattr(trainer_module, "loss_terms", poisoned)
    with pytest.raises(FloatingPointError, match="reward, loss not finite at batch 3.*train_state"):
        make(recorded, tmp_path / "run").train()
    tensors, meta = load_checkpoint(tmp_path / "run" / "train_state.safetensors")
    assert meta["batches"] == 2 and all(torch.isfinite(x).all() for x in tensors.values())


def test_held_out_levels_depend_on_the_level_alone():
    levels = np.repeat(np.arange(1000), 2)
    out = held_out(levels, 0.1)
    assert 60 < out[::2].sum() < 140 and (out[::2] == out[1::2]).all()
    assert np.array_equal(held_out(levels[500:1500], 0.1), out[500:1500])
    assert not held_out(levels, 0.0).any() and not held_out(np.zeros(5, int), 0.5).any()
    few = held_out(np.arange(2), 0.01)
    assert few.sum() == 1
    assert out.sum() < held_out(levels, 0.3).sum()


def test_batches_are_keyed_by_step_and_keep_levels_apart(recorded):
    one, other = source(recorded), source(recorded)
    assert torch.equal(one.train_batch(3, 8).obs, other.train_batch(3, 8).obs)
    assert not torch.equal(one.train_batch(3, 8).obs, one.train_batch(4, 8).obs)
    assert not torch.equal(one.train_batch(3, 8).obs, source(recorded, seed=1).train_batch(3, 8).obs)
    levels = Rollouts.open(recorded / "store").episodes["level_seed"]
    draws = (("train", one.train_batch), ("held out", one.validation_batch))
    seen = {split: {int(levels[e]) for i in range(20) for e in draw(i, 8).episode} for split, draw in draws}
    assert seen["train"] and seen["held out"] and not seen["train"] & seen["held out"]
    assert seen["held out"] == {int(x) for x in np.unique(levels)[held_out(np.unique(levels), 0.2)]}
    assert not len(source(recorded, share=0).validation)


def test_reading_ahead_keeps_order_raises_errors_and_stops():
    assert list(read_ahead(lambda i: i * i, 2, 9)) == [i * i for i in range(2, 9)]

    def breaks(i):
        if i == 3:
            raise BadStore("damaged")
        return i

    got = []
    with pytest.raises(BadStore):
        for x in read_ahead(breaks, 0, 9):
            got.append(x)
    assert got == [0, 1, 2]
    made = []
    endless = read_ahead(made.append, 0, 10**9)
    next(endless)
    endless.close()
    count = len(made)
    time.sleep(0.3)
    assert len(made) == count <= 5


def parse(*words):
    return tyro.cli(train_gen_model.Args, args=["--agent_file", "agent", *words])


def test_flags_of_both_generations_are_understood():
    scales = ("--loss_scale_obs", "2", "--loss_scale_kl", "3", "--loss_scale_bottleneck", "4")
    args = parse("--tgm_exp_name", "x", "--num_sim_steps", "7", *scales)
    assert (args.gen_mod_exp_name, args.num_sim_steps) == ("x", 7)
    assert (args.scales.loss_scale_obs, args.scales.loss_scale_kl, args.scales.loss_scale_bottleneck) == (2, 3, 4)
    assert parse("--gen_mod_exp_name", "y").gen_mod_exp_name == "y"
    with pytest.raises(SystemExit):
        parse("--loss_scale_gen_adv", "1")


def test_flags_stand_over_the_preset():
    words = "--batch_size 5 --lr 0.5 --num_initializing_steps 4 --log_interval 9 --save_interval 8"
    args = parse("--interpreting_params_name", "tiny", *words.split())
    model, train = train_gen_model.resolve(args, toy_agent(), (64, 64, 3))
    plain_model, plain = train_gen_model.resolve(parse("--interpreting_params_name", "tiny"), toy_agent(), (64, 64, 3))
    assert (train.batch_size, train.lr, train.log_interval, train.save_interval, model.num_initializing_steps) == (5, 0.5, 9, 8, 4)
    assert train == replace(plain, batch_size=5, lr=0.5, log_interval=9, save_interval=8)
    assert model == replace(plain_model, num_initializing_steps=4)
    assert (model.num_actions, model.hidden_size, model.bounded_hidden) == (5, 8, True)
    for words in (["--batch_size", "0"], ["--num_sim_steps", "0"], ["--num_initializing_steps", "1"]):
        with pytest.raises(UsageError):
            train_gen_model.resolve(parse(*words), toy_agent(), (64, 64, 3))
    with pytest.raises(UsageError, match="tiny, small, paper"):
        train_gen_model.resolve(parse("--interpreting_params_name", "huge"), toy_agent(), (64, 64, 3))


def test_epochs_are_passes_over_the_training_steps(recorded):
    windows = source(recorded)
    config = train_gen_model.with_epochs(parse("--epochs", "3"), SHORT, windows)
    assert config.num_batches == 3 * len(windows.training) // (3 * 4) and replace(config, num_batches=6) == SHORT
    assert train_gen_model.with_epochs(parse(), SHORT, windows) == SHORT
    with pytest.raises(UsageError, match="give one"):
        train_gen_model.with_epochs(parse("--epochs", "3", "--num_batches", "2"), SHORT, windows)


@pytest.fixture()
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(recorded, **changed):
    small = dict(batch_size=2, num_sim_steps=3, num_batches=2, log_interval=1, save_interval=1)
    given = dict(agent_file=recorded / "agent.safetensors", data_dir=recorded / "store", device="cpu")
    return train_gen_model.Args(**({"interpreting_params_name": "tiny"} | given | small | changed))


def test_the_same_command_again_is_done_and_new_starts_another_from_given_weights(recorded, here):
    train_gen_model.main(arguments(recorded))
    run = next(Path("generative/results/test_tgm").iterdir())
    written = (run / "model_2.safetensors").stat().st_mtime_ns
    train_gen_model.main(arguments(recorded))
    assert (run / "model_2.safetensors").stat().st_mtime_ns == written
    model, meta = load_world_model(run / "model_2.safetensors")
    assert meta["agent"]["id"] == file_id(recorded / "agent.safetensors") and meta["action_names"] == list("udlrn") and meta["batches"] == 2
    assert meta["env"]["env_name"] == "toy" and json.loads((run / "manifest.json").read_text())["inputs"]["data_dir"] == meta["data"]
    train_gen_model.main(arguments(recorded, new=True))
    train_gen_model.main(arguments(recorded, model_file=run / "model_2.safetensors", lr=1e-30))
    assert len(list(run.parent.iterdir())) == 3
    with_lr = [path.parent for path in run.parent.glob("*/config.json") if "1e-30" in path.read_text()]
    later = [load_world_model(path / "model_2.safetensors")[0] for path in with_lr]
    for one, other in zip(later[0].parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(UsageError, match="num_initializing_steps"):
        train_gen_model.main(arguments(recorded, model_file=run / "model_2.safetensors", num_initializing_steps=2))


def test_agents_and_stores_that_do_not_belong_together_are_refused_in_one_line(recorded, here):
    agent = toy_agent(hidden_size=6)
    save_agent(here / "narrow.safetensors", agent, {"env": {"env_name": "toy"}})
    save_agent(here / "elsewhere.safetensors", toy_agent(), {"env": {"env_name": "maze"}})
    cases = {"narrow": "width 8.*have 6", "elsewhere": "recorded in toy.*plays maze"}
    for name, message in cases.items():
        with pytest.raises(UsageError, match=message):
            train_gen_model.main(arguments(recorded, agent_file=here / f"{name}.safetensors"))
    store = Rollouts.open(recorded / "store")
    for change, message in ((dict(num_actions=4), "4 actions"), (dict(hidden_size=0), "no hidden states")):
        store.manifest = store.manifest | change
        with pytest.raises(UsageError, match=message):
            train_gen_model.check_store(store, toy_agent(), {}, Path("agent"))
        store = Rollouts.open(recorded / "store")
    store.step_fields["obs"] = store.step_fields["obs"]._replace(shape=(64, 64, 3))
    with pytest.raises(UsageError, match="frames of"):
        train_gen_model.check_store(store, toy_agent(), {}, Path("agent"))
    with pytest.raises(BadStore):
        train_gen_model.main(arguments(recorded, data_dir=here / "nowhere"))
    with pytest.raises(BadCheckpoint):
        train_gen_model.main(arguments(recorded, agent_file=here / "nobody.safetensors"))
    assert not Path("generative").exists()


def test_episodes_too_short_for_a_window_are_said_to_be(recorded):
    store = Rollouts.open(recorded / "store")
    with pytest.raises(UsageError, match="long enough"):
        WindowSource(store.windows(40, min_steps=40), store.episodes["level_seed"], 0.1, 0)
