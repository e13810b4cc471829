"""Training a Decision Transformer: the log, exact resuming, schedules, flags, refusals."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train_dt
from agents.actor_critic import save_agent
from common.checkpoints import BadCheckpoint, load_checkpoint
from common.cli import parse
from common.distributed import DistContext
from common.errors import UsageError
from common.throughput import CLOCK_COLUMNS
from decision.config import TrainConfig
from decision.features import feature_statistics, store_features
from decision.model import DecisionTransformer
from decision.model_file import load_dt
from decision.optim import decay_groups, learning_rate, make_optimizer
from decision.trainer import COLUMNS, Trainer
from decision.windows import DTWindows
from rollouts.split import layout_scores
from rollouts.store import Rollouts
from tests.helpers.decision.toy_decision import small_config, small_model
from tests.helpers.made_store import make_store
from tests.helpers.toy_world import toy_agent, toy_episode, with_agent, write_toy_store

ROOT = Path(__file__).parents[2]
SHORT = TrainConfig(
    num_batches=6,
    batch_size=3,
    window_steps=5,
    log_interval=2,
    save_interval=4,
    validation_batches=1,
    warmup_steps=2,
    train_split=0.8,
    lr=1e-2,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store and the agent that recorded it."""
    path = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(path / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    episodes = [with_agent(toy_episode(rng, 12), agent) for _ in range(80)]
    for episode in episodes[::5]:
        episode["reward"][-1] = 0
    write_toy_store(path / "store", episodes, agent, 2)
    return path


def make(recorded, directory, config=SHORT, seed=0, rollouts=None, **model):
    directory.mkdir(exist_ok=True)
    windows = DTWindows(Rollouts.open(recorded / "store"), config.window_steps)
    sampler = train_dt.make_sampler(windows, config, seed)
    torch.manual_seed(seed)
    network = DecisionTransformer(small_config(**({"state_embedding": "patches"} | model)))
    device = torch.device("cpu")
    return Trainer(network, config, windows, sampler, directory, seed, device, {}, rollouts=rollouts)


def rows(directory):
    with open(directory / "progress.csv") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in csv.DictReader(file)]


def same_state(one, other):
    a, b = (load_checkpoint(path / "train_state.safetensors")[0] for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_log_holds_training_and_held_out_windows(recorded, tmp_path):
    make(recorded, tmp_path / "run").train()
    log = rows(tmp_path / "run")
    assert [row["batch"] for row in log] == ["2", "4", "6"]
    assert set(log[0]) == set(COLUMNS) - set(CLOCK_COLUMNS)
    assert all(np.isfinite(float(value)) for row in log for value in row.values())
    assert float(log[0]["loss"]) == pytest.approx(np.log(5), abs=0.3)
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize("stopped", [1, 2, 4, 5])
def test_a_run_that_stops_goes_on_as_if_it_had_not(recorded, tmp_path, monkeypatch, stopped):
    """With dropout, whose random numbers belong to the batch too."""
    make(recorded, tmp_path / "whole", dropout=0.2).train()
    update = Trainer.update

    def interrupted(self, batch):
        update(self, batch)
        if self.batches == stopped:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", interrupted)
        make(recorded, tmp_path / "broken", dropout=0.2).train()
    again = make(recorded, tmp_path / "broken", dropout=0.2)
    assert again.batches == stopped
    again.train()
    assert same_state(tmp_path / "whole", tmp_path / "broken")
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")
    for name in ("model_4.safetensors", "model_6.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


@pytest.mark.slow
def test_killed_outright_and_started_again_it_ends_with_the_same_bits(recorded, tmp_path):
    command = [sys.executable, str(ROOT / "train_dt.py"), "--data_dir", str(recorded / "store")]
    command += ["--agent_file", str(recorded / "agent.safetensors"), "--param_name", "tiny"]
    command += ["--batch_size", "2", "--window_steps", "3", "--num_batches", "60", "--save_interval", "3"]
    command += ["--device", "cpu", "--log_level", "40"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(command, cwd=tmp_path / "whole", check=True, **run)
    process = subprocess.Popen(command, cwd=tmp_path / "killed", **run)
    deadline = time.monotonic() + 120
    while (
        process.poll() is None
        and not list((tmp_path / "killed").rglob("model_6.safetensors"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, cwd=tmp_path / "killed", check=True, **run)
    whole, killed = (next((tmp_path / name).rglob("done.json")).parent for name in ("whole", "killed"))
    assert same_state(whole, killed)
    assert rows(whole) == rows(killed)
    assert (whole / "model_60.safetensors").read_bytes() == (killed / "model_60.safetensors").read_bytes()


def test_the_best_checkpoint_has_the_least_validation_loss(recorded, tmp_path):
    trainer = make(recorded, tmp_path / "run", replace(SHORT, lr=0.5))
    trainer.train()
    losses = {int(row["batch"]): float(row["val_loss"]) for row in rows(tmp_path / "run")}
    best, meta = load_dt(tmp_path / "run" / "best.safetensors")
    assert meta["batches"] == min(losses, key=losses.get)
    trainer.model = best
    assert trainer.validate()["val_loss"] == pytest.approx(min(losses.values()), rel=1e-4)


CHANGES = [
    dict(batch_size=4),
    dict(window_steps=3),
    dict(optimizer="Adam"),
    dict(optimizer="SGD"),
    dict(lr=2e-2),
    dict(lr_end=5e-3),
    dict(scheduler="linear_with_warmup"),
    dict(warmup_steps=0),
    dict(weight_decay=0.5),
    dict(gradient_clip=0.01, optimizer="SGD"),
    dict(train_split=0.5),
    dict(pct_traj=0.2),
    dict(length_weighted=False),
    dict(prob_go_from_end=0.9),
    dict(num_batches=4),
]


@pytest.fixture(scope="module")
def base(recorded, tmp_path_factory):
    return trained(recorded, tmp_path_factory.mktemp("base"), SHORT)


def trained(recorded, directory, config, seed=0):
    trainer = make(recorded, directory, replace(config, save_interval=100), seed)
    trainer.train()
    return torch.cat([p.flatten() for p in trainer.model.parameters()]).detach()


def test_the_same_settings_give_the_same_weights(recorded, tmp_path, base):
    assert torch.equal(trained(recorded, tmp_path, SHORT), base)


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_every_setting_changes_what_is_learned(recorded, tmp_path, base, changed):
    assert not torch.equal(trained(recorded, tmp_path, replace(SHORT, **changed)), base)


def test_the_seed_changes_what_is_learned(recorded, tmp_path, base):
    assert not torch.equal(trained(recorded, tmp_path, SHORT, seed=1), base)


def test_every_training_setting_is_among_those_tried():
    elsewhere = {"num_cycles", "log_interval", "save_interval", "validation_batches"}
    elsewhere |= {"eval_interval", "eval_episodes"}
    assert {f.name for f in fields(TrainConfig)} == {name for c in CHANGES for name in c} | elsewhere


LR = TrainConfig(num_batches=11, lr=1.0, lr_end=0.2, warmup_steps=2, num_cycles=2)


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("constant", {0: 1, 5: 1, 10: 1}),
        ("constant_with_warmup", {0: 0.5, 1: 1, 10: 1}),
        ("linear_with_warmup", {0: 0.5, 1: 1, 2: 1, 6: 0.6, 10: 0.2}),
        ("cosine", {0: 1, 5: 0.6, 10: 0.2}),
        ("cosine_with_warmup", {0: 0.5, 2: 1, 6: 0.6, 4: 0.2 + 0.8 * (1 + np.cos(np.pi / 4)) / 2, 10: 0.2}),
        ("cosine_with_restarts", {0: 0.5, 2: 1, 4: 0.6, 6: 1, 8: 0.6, 10: 0.2}),
    ],
)
def test_learning_rates_follow_the_schedule(scheduler, rates):
    config = replace(LR, scheduler=scheduler)
    assert {batch: learning_rate(config, batch) for batch in rates} == pytest.approx(rates)


def test_cycles_restart_the_cosine():
    rates = [
        [learning_rate(replace(LR, scheduler="cosine_with_restarts", num_cycles=n), b) for b in range(11)]
        for n in (1, 4)
    ]
    assert sum(rate == 1 for rate in rates[0]) == 2  # the end of the warm-up and the begin of the cycle
    assert sum(rate == 1 for rate in rates[1]) == 5


def test_matrices_decay_and_biases_embeddings_and_norms_do_not():
    model = small_model(state_embedding="impala")
    decayed, not_decayed = (group["params"] for group in decay_groups(model, 0.3))
    name_of = {id(p): name for name, p in model.named_parameters()}
    assert {id(p) for p in decayed + not_decayed} == set(name_of)
    assert len(decayed) + len(not_decayed) == len(name_of)
    names = [name_of[id(p)] for p in decayed]
    assert {"blocks.0.attn.qkv.weight", "action_head.weight", "embed.return_to_go.weight"} <= set(names)
    assert "embed.state.encoder.stages.0.conv.weight" in names
    rest = {name_of[id(p)] for p in not_decayed}
    assert {"embed.action.weight", "embed.time.weight", "embed.kind.weight"} <= rest
    assert {"blocks.0.ln1.w", "blocks.0.ln1.b", "ln_final.w", "blocks.0.mlp.linear_in.bias"} <= rest
    assert not any(name.endswith("bias") or ".ln" in name for name in names)


def test_a_frozen_encoder_is_not_optimised():
    model = small_model(state_embedding="agent")
    encoder = {id(p) for p in model.embed.state.encoder.parameters()}
    optimizer = make_optimizer(model, SHORT)
    assert not encoder & {id(p) for group in optimizer.param_groups for p in group["params"]}


def test_rollouts_are_logged_when_they_are_due(recorded, tmp_path):
    seen = []

    class Rollouts:
        columns = ("return_asked_10",)

        def __call__(self, model):
            seen.append(model.training)
            return {"return_asked_10": 7.0}

    trainer = make(recorded, tmp_path, replace(SHORT, eval_interval=4), rollouts=Rollouts())
    trainer.train()
    assert [row["return_asked_10"] for row in rows(tmp_path)] == ["", "7.0", ""]
    assert seen == [False]
    assert trainer.model.training


def test_rollouts_in_the_game_ask_for_the_highest_return_by_default(recorded, here, caplog):
    args = arguments(recorded)
    game = {"env_name": "dodgeball", "distribution_mode": "easy"}
    meta = {"env": game, "returns": {"min": 0.0, "max": 10.0}}
    config = replace(SHORT, eval_interval=2, eval_episodes=3)
    played = train_dt.periodic_rollouts(args, config, meta, DistContext())
    assert played.columns == ("return_asked_10",)
    assert [job.level for job in played.jobs] == [200, 201, 202]
    assert played.env.num == 3
    assert not caplog.records
    asked = arguments(recorded, target_returns=(3.0, 12.0))
    train_dt.periodic_rollouts(asked, config, meta, DistContext())
    assert "returns 12 lie outside the training data, which has 0 to 10" in caplog.text
    with pytest.raises(UsageError, match="not recorded in a game of Procgen"):
        train_dt.main(arguments(recorded, eval_interval=1))


def test_a_loss_that_is_not_finite_stops_training(recorded, tmp_path):
    trainer = make(recorded, tmp_path / "run")
    with torch.no_grad():
        trainer.model.action_head.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="loss of batch 1 is not finite: lower --lr"):
        trainer.train()
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_features_are_the_encoders_and_made_once(recorded, tmp_path, monkeypatch):
    store, encoder = Rollouts.open(recorded / "store"), toy_agent().encoder
    found = store_features(store, encoder, tmp_path)
    frames = torch.from_numpy(store.steps("obs"))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found).float(), encoder(frames), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr("decision.features._encode", None)
    assert np.array_equal(store_features(store, encoder, tmp_path), found)


def test_statistics_are_those_of_the_chosen_rows():
    features = np.random.default_rng(0).normal(3, 2, (100, 4)).astype(np.float16)
    rows = np.arange(0, 100, 3)
    mean, std = feature_statistics(features, rows)
    np.testing.assert_allclose(mean, features[rows].astype(float).mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, features[rows].astype(float).std(0), rtol=1e-5)


def test_training_and_validation_have_different_layouts(recorded):
    windows = DTWindows(Rollouts.open(recorded / "store"), 3)
    sampler = train_dt.make_sampler(windows, SHORT, 0)
    level = windows.rollouts.episodes["level_seed"]
    assert not set(level[sampler.training]) & set(level[sampler.validation])
    assert (layout_scores(level)[sampler.validation] < 0.2).all()
    assert len(sampler.training) + len(sampler.validation) == windows.known.sum()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(recorded, **changed):
    small = dict(batch_size=2, window_steps=3, num_batches=2, log_interval=1, save_interval=1)
    given = dict(agent_file=recorded / "agent.safetensors", data_dir=recorded / "store", device="cpu")
    return train_dt.Args(**({"param_name": "tiny"} | given | small | changed))


def test_the_same_command_again_is_done_and_new_starts_another(recorded, here):
    train_dt.main(arguments(recorded))
    run = next(Path("results/decision_transformers/test").iterdir())
    written = (run / "model_2.safetensors").stat().st_mtime_ns
    train_dt.main(arguments(recorded))
    assert (run / "model_2.safetensors").stat().st_mtime_ns == written
    train_dt.main(arguments(recorded, new=True))
    assert len(list(run.parent.iterdir())) == 2
    model, meta = load_dt(run / "model_2.safetensors")
    assert meta["action_names"] == list("udlrn")
    assert meta["returns"] == {"min": 0.0, "mean": pytest.approx(meta["returns"]["mean"]), "max": 10.0}
    assert json.loads((run / "manifest.json").read_text())["inputs"]["data_dir"] == meta["data"]
    frozen = toy_agent().encoder.state_dict()
    found = model.embed.state.encoder.state_dict()
    assert all(torch.equal(found[name], frozen[name]) for name in frozen)
    assert model.embed.state.std.min() > 0
    assert not torch.equal(model.embed.state.mean, torch.zeros(16))


@pytest.mark.parametrize("kind", ["impala", "patches"])
def test_frames_need_no_agent(recorded, here, kind):
    train_dt.main(arguments(recorded, agent_file=None, state_embedding=kind, model_type="clone_transformer"))
    (file,) = here.rglob("model_2.safetensors")
    model, _ = load_dt(file)
    assert model.config.state_embedding == kind
    assert not model.config.conditioned


def test_flags_of_both_seeds_are_understood():
    words = "--embed_dim 32 --num_layers 2 --num_heads 2 --max_steps 7 --learning_rate 0.1 --save_every 5"
    args = parse(train_dt.Args, "", (words + " --trajectory_path d --warm_up_steps 3").split())
    assert (args.d_model, args.n_layers, args.n_heads, args.num_batches) == (32, 2, 2, 7)
    assert (args.lr, args.save_interval, args.data_dir, args.warmup_steps) == (0.1, 5, Path("d"), 3)


def resolved(recorded, **changed):
    agent = toy_agent() if changed.pop("with_agent", True) else None
    return train_dt.resolve(arguments(recorded, **changed), Rollouts.open(recorded / "store"), agent)


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        (dict(n_ctx=2), 1),
        (dict(n_ctx=26), 9),
        (dict(n_ctx=3, model_type="clone_transformer"), 2),
        (dict(context_length=7), 7),
    ],
)
def test_a_context_in_tokens_is_one_of_whole_steps(recorded, flags, steps):
    assert resolved(recorded, **flags)[0].context_length == steps


MODEL_FLAGS = dict(
    model_type="clone_transformer",
    d_model=32,
    n_layers=1,
    n_heads=2,
    d_mlp=17,
    max_timestep=9,
    layer_norm="LNPre",
    gated_mlp=True,
    activation_fn="relu",
    time_embedding="linear",
    dropout=0.3,
    rtg_scale=2.0,
    gamma=0.9,
)


@pytest.mark.parametrize("name", MODEL_FLAGS)
def test_flags_stand_over_the_preset(recorded, name):
    before = vars(resolved(recorded)[0])
    after = vars(resolved(recorded, **{name: MODEL_FLAGS[name]})[0])
    assert after[name] == MODEL_FLAGS[name] != before[name]
    assert {n for n in after if after[n] != before[n]} == {name}


def test_a_discount_reaches_the_windows(recorded, here, monkeypatch):
    seen = []
    init = DTWindows.__init__

    def spy(self, rollouts, length, gamma, features):
        seen.append((length, gamma))
        init(self, rollouts, length, gamma, features)

    monkeypatch.setattr(DTWindows, "__init__", spy)
    train_dt.main(arguments(recorded, gamma=0.5))
    assert seen == [(3, 0.5)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(n_ctx=3), "--n_ctx is 3"),
        (dict(n_ctx=5, context_length=2), "give one of them"),
        (dict(with_agent=False), "state_embedding agent needs --agent_file"),
        (dict(state_embedding="patches"), "--agent_file has no effect on state_embedding patches"),
        (dict(param_name="huge"), "tiny, small, coinrun, paper"),
        (dict(lr=-1.0), "lr is -1.0"),
        (dict(eval_interval=3, log_interval=2), "a multiple of log_interval, 2"),
        (dict(target_returns=(1.0,)), "--target_returns has an effect"),
        (dict(target_returns=(1.0,), eval_interval=1, model_type="clone_transformer"), "has an effect"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(train_split=0.0), "train_split is 0.0"),
        (dict(d_model=2**20), "d_model is 1048576"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(recorded, flags, message):
    with pytest.raises(UsageError, match=message):
        resolved(recorded, **flags)


def test_other_files_are_refused(recorded):
    with pytest.raises(BadCheckpoint, match="not a decision transformer"):
        load_dt(recorded / "agent.safetensors")


def test_episodes_of_unknown_return_are_left_out_and_counted(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train_dt.make_sampler(DTWindows(make_store(tmp_path / "s", [4, 5, 6]), 3), SHORT, 0)
    assert "left out 1 episodes that a simulation cut short" in caplog.text
