"""Training a world model from a store: keyed batches, the log, exact resuming, clear refusals."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import common.stopping
import train_gen_model
from agents.actor_critic import save_agent
from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint
from common.cli import parse as parse_flags
from common.prefetch import prefetch
from common.runs import UsageError, file_id
from common.video import read_video
from generative.compatibility import check_recorder, recorded_by
from generative.model.config import STAGES, LossScales, TrainConfig
from generative.model.frames import frames_to_bytes
from generative.model.latent import agent_burn_in
from generative.model.world_model import WorldModel
from generative.model.world_model_file import load_world_model, save_world_model
from generative.training import trainer as trainer_module
from generative.training.data import WindowSource
from generative.training.losses import NOISE, TRAINED, loss_terms
from generative.training.partial_weights import load_partial
from generative.training.preview import preview_frames
from generative.training.progress import CLOCK_COLUMNS, COLUMNS
from generative.training.teacher_forcing import draw_noise
from generative.training.trainer import Trainer
from rollouts.labels import BadLabels, label_fields, write_labels, write_manifest
from rollouts.split import SPLIT_VERSION, episode_layouts, split_by_layout
from rollouts.store import BadStore, Rollouts
from tests.helpers.toy_world import toy_agent, toy_config, toy_episode, with_agent, write_toy_store

ROOT = Path(__file__).parents[2]
SHORT = TrainConfig(
    painter_batches=1,
    latent_batches=1,
    motion_batches=2,
    tiles_batches=1,
    joint_batches=1,
    batch_size=3,
    motion_batch_size=4,
    num_sim_steps=4,
    log_interval=2,
    save_interval=2,
    validation_batches=1,
    warmup=2,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store and the agent that recorded it."""
    path = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    save_agent(path / "agent.safetensors", toy_agent(), {"env": {"env_name": "toy"}})
    agent = toy_agent()
    episodes = [with_agent(toy_episode(rng, 12), agent) for _ in range(120)]
    for episode in episodes[::5]:
        episode["reward"][-1] = 0  # a goal that earns nothing: what ends there died
    write_toy_store(path / "store", episodes, agent, 2, policy_id=file_id(path / "agent.safetensors"))
    return path


def source(path, steps=4, seed=0, death_oversampling=0.0):
    store = Rollouts.open(path / "store")
    return WindowSource(
        store.windows(3 + steps - 1, min_steps=3), episode_layouts(store), seed, death_oversampling
    )


def make(recorded, directory, config=SHORT, scales=LossScales(), seed=0, **changed):
    directory.mkdir(exist_ok=True)
    windows = source(recorded, seed=seed, death_oversampling=config.death_oversampling)
    device = torch.device("cpu")
    return Trainer(toy_config(**changed), config, scales, windows, toy_agent(), directory, seed, device, {})


def rows(directory):
    with open(directory / "progress.csv") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in csv.DictReader(file)]


def same_state(one, other):
    a, b = (load_checkpoint(path / "train_state.safetensors")[0] for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_log_holds_every_term_of_its_stage_for_training_and_held_out_levels(recorded, tmp_path):
    make(recorded, tmp_path / "run").train()
    log = rows(tmp_path / "run")
    assert [(row["batch"], row["stage"]) for row in log] == [
        ("1", "painter"), ("2", "latent"), ("4", "motion"), ("5", "tiles"), ("6", "joint"),
    ]  # fmt: skip
    assert set(log[0]) == set(COLUMNS) - set(CLOCK_COLUMNS)
    for row in log:
        filled = {name for name, value in row.items() if value != ""}
        assert all(np.isfinite(float(row[name])) for name in filled - {"stage"})
        assert {name.removeprefix("val_") for name in filled if name.startswith("val_")} == (
            filled & {name.removeprefix("val_") for name in row if name.startswith("val_")}
        )
        assert ("motion" in filled) == (row["stage"] == "motion")
        assert ("recon" in filled) == (row["stage"] in ("painter", "latent"))
    with open(tmp_path / "run" / "progress.csv") as file:
        clocks = list(csv.DictReader(file))
    assert all(
        50 < float(row["peak_memory_mb"]) < 1e5 and 0 <= float(row["wait_share"]) < 1 for row in clocks
    )
    assert float(log[1]["psnr"]) == pytest.approx(
        -10 * np.log10(float(log[1]["recon"]) / (8 * 8 * 3)), abs=1e-4
    )
    assert any(path.name.startswith("events.out") for path in (tmp_path / "run").iterdir())


def test_training_depends_on_seed_and_flags_and_on_nothing_else(recorded, tmp_path):
    make(recorded, tmp_path / "a").train()
    make(recorded, tmp_path / "b").train()
    assert same_state(tmp_path / "a", tmp_path / "b")
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    make(recorded, tmp_path / "c", seed=1).train()
    assert not same_state(tmp_path / "a", tmp_path / "c")
    changes = [dict(lr=1e-3), dict(joint_lr=1e-3), dict(warmup=1), dict(grad_clip_norm=0.01)]
    changes += [dict(death_oversampling=0.0), dict(final_lr_fraction=1.0), dict(ema_decay=0.0)]
    changes += [dict(free_running_fraction=0.0), dict(painter_batches=2), dict(tiles_batches=0)]
    for i, change in enumerate(changes):
        make(recorded, tmp_path / f"d{i}", replace(SHORT, **change)).train()
        assert not same_state(tmp_path / "a", tmp_path / f"d{i}"), change


def test_every_stage_trains_its_own_parts(recorded, tmp_path, monkeypatch):
    trainer = make(recorded, tmp_path / "a", replace(SHORT, lr=1e-2))
    seen = []
    update = Trainer.update

    def watched(self, segment):
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        update(self, segment)
        after = self.model.state_dict()
        seen.append((self.stage, {name for name in before if not torch.equal(before[name], after[name])}))

    monkeypatch.setattr(Trainer, "update", watched)
    trainer.train()
    assert [stage for stage, _ in seen] == ["painter", "latent", "motion", "motion", "tiles", "joint"]
    for stage, changed in seen:
        assert changed, stage
        assert all(name.startswith(TRAINED[stage]) for name in changed), stage
        others = {name.split(".")[0] for name in changed}
        assert others >= {name.split(".")[0] for name in TRAINED[stage] if name} - {
            "phase_head",
            "tile_types",
        }


def test_a_stage_begins_with_a_new_optimiser_and_keeps_it_to_its_end(recorded, tmp_path, monkeypatch):
    counts = []
    update = Trainer.update

    def watched(self, batch):
        update(self, batch)
        states = [state["step"].item() for state in self.optimizer.state.values()]
        counts.append((self.stage, int(max(states)), len(self.optimizer.param_groups[0]["params"])))

    monkeypatch.setattr(Trainer, "update", watched)
    trainer = make(recorded, tmp_path / "a", replace(SHORT, painter_batches=2, latent_batches=0))
    trainer.train()
    assert [(stage, count) for stage, count, _ in counts] == [
        ("painter", 1), ("painter", 2), ("motion", 1), ("motion", 2), ("tiles", 1), ("joint", 1),
    ]  # fmt: skip
    own = [name for name, _ in trainer.model.named_parameters() if name.startswith(TRAINED["joint"])]
    assert counts[-1][2] == len(own)


def test_batches_belong_to_stages_in_order_and_a_total_keeps_their_proportions():
    config = TrainConfig(
        painter_batches=2, latent_batches=0, motion_batches=3, tiles_batches=1, joint_batches=2
    )
    expected = ["painter"] * 2 + ["motion"] * 3 + ["tiles"] + ["joint"] * 2
    assert [config.stage_of(i)[0] for i in range(8)] == expected
    assert [config.stage_of(i)[1] for i in range(8)] == [0, 1, 0, 1, 2, 0, 0, 1]
    assert config.num_batches == 8
    with pytest.raises(ValueError, match="there are 8 batches"):
        config.stage_of(8)
    for total in (1, 2, 5, 8, 80, 801):
        scaled = config.with_total(total)
        assert scaled.num_batches == total
        for stage in STAGES:
            share = config.stage_batches(stage) / 8
            assert abs(scaled.stage_batches(stage) - share * total) <= 1
    assert config.with_total(8) == config
    for bad in (dict(painter_batches=-1), {f"{stage}_batches": 0 for stage in STAGES}, dict(num_sim_steps=1)):
        with pytest.raises(ValueError):
            TrainConfig(**bad)


def test_the_latent_stage_reads_the_start_of_the_same_windows_and_needs_no_more(recorded):
    whole, short = source(recorded), source(recorded).shortened(3)
    batches = [one.train_batch(7, 5) for one in (whole, short)]
    batches += [one.validation_batch(1, 5) for one in (whole, short)]
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    noise = draw_noise(model.config, 1, 5, torch.Generator().manual_seed(0), NOISE["latent"])
    for full, start in (batches[:2], batches[2:]):
        assert len(full.mask) > len(start.mask) == model.config.num_initializing_steps
        for name in ("obs", "action", "mask", "episode", "start"):
            expected = getattr(full, name)
            assert torch.equal(getattr(start, name), expected[:3] if expected.dim() > 1 else expected), name
        terms = [loss_terms("latent", model, one, noise, toy_agent()) for one in (full, start)]
        for name, term in terms[0].items():
            torch.testing.assert_close(terms[1][name], term, msg=name)


def test_weights_to_begin_with_are_taken_where_they_fit_and_the_rest_is_named(caplog):
    torch.manual_seed(0)
    other = WorldModel(toy_config())
    model = WorldModel(toy_config(num_initializing_steps=2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    missing = load_partial(model, other.state_dict())
    assert missing == ["latent_head.global_head.0.0.weight"]
    assert all(name in caplog.text for name in missing)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in missing else other.state_dict()[name]), name
    assert load_partial(WorldModel(toy_config()), other.state_dict()) == []


def test_every_batch_has_noise_of_its_own_and_validations_and_looks_at_what_is_saved_always_the_same(
    recorded, tmp_path, monkeypatch
):
    real = trainer_module.loss_terms
    drawn = {True: [], False: []}

    def watched(stage, model, segment, noise, *rest):
        numbers = [x.flatten()[:8].tolist() for x in noise if x is not None]
        drawn[torch.is_grad_enabled()].append((stage, str(numbers)))
        return real(stage, model, segment, noise, *rest)

    monkeypatch.setattr(trainer_module, "loss_terms", watched)
    make(recorded, tmp_path / "run").train()
    assert len(drawn[True]) == 4  # the motion stage has noise of another kind
    assert len(set(drawn[True])) == 4
    assert len(drawn[False]) == 4 + 4
    assert len(set(drawn[False])) == len({stage for stage, _ in drawn[False]}) == 4


@pytest.mark.parametrize("stopped", range(1, 11))
def test_a_run_that_stops_anywhere_in_any_stage_goes_on_as_if_it_had_not(
    recorded, tmp_path_factory, monkeypatch, stopped
):
    """Each stage has two batches: a stop falls within it and at its end."""
    config = replace(SHORT, **{f"{stage}_batches": 2 for stage in STAGES}, log_interval=3, save_interval=3)
    whole = tmp_path_factory.getbasetemp() / "whole_run"
    if not whole.exists():
        make(recorded, whole, config).train()
    broken = tmp_path_factory.mktemp("broken")
    update = Trainer.update

    def interrupted(self, segment):
        update(self, segment)
        if self.batches == stopped:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", interrupted)
        make(recorded, broken, config).train()
    again = make(recorded, broken, config)
    assert again.batches == stopped
    assert again.stage == STAGES[(stopped - 1) // 2]
    again.train()
    assert same_state(whole, broken)
    assert rows(whole) == rows(broken)


@pytest.mark.parametrize("place", ["validate", "_refuse_broken", "_write_preview", "_save_state"])
def test_a_stop_between_a_batch_and_its_row_and_files_is_made_up_for(recorded, tmp_path, monkeypatch, place):
    """The batch is kept, and what was due after it, and had not been written, is written when the run goes
    on.
    """
    make(recorded, tmp_path / "whole").train()
    calls = []
    real = getattr(Trainer, place)

    def interrupted(self):
        calls.append(self.batches)
        if calls[-2:] == [2, 4]:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, place, interrupted)
        make(recorded, tmp_path / "broken").train()
    again = make(recorded, tmp_path / "broken")
    assert again.batches == 4
    again.train()
    assert same_state(tmp_path / "whole", tmp_path / "broken")
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")
    files = [
        {path.name for path in (tmp_path / run).iterdir() if "tfevents" not in path.name}
        for run in ("whole", "broken")
    ]
    assert files[0] == files[1]
    assert "preview_4.mp4" in files[0]
    for name in ("model_4.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


@pytest.mark.parametrize(("seconds", "batches"), [(0.0, [1, 2, 3, 4, 5, 6]), (1e9, [1, 2, 4, 5, 6])])
def test_training_saves_by_time_too(recorded, tmp_path, monkeypatch, seconds, batches):
    monkeypatch.setattr(common.stopping, "SAVE_SECONDS", seconds)
    seen = []
    save = Trainer._save_state
    monkeypatch.setattr(Trainer, "_save_state", lambda self: seen.append(self.batches) or save(self))
    make(recorded, tmp_path / "run").train()
    assert seen == batches


def test_checkpoints_hold_the_average_of_the_weights(recorded, tmp_path):
    only_painter = dict.fromkeys((f"{stage}_batches" for stage in STAGES), 0) | {"painter_batches": 5}
    trainer = make(recorded, tmp_path / "run", replace(SHORT, **only_painter, ema_decay=0.3, save_interval=1))
    mean = {name: x.clone() for name, x in trainer.model.state_dict().items()}
    raw = []
    real = trainer.optimizer.step

    def watched():
        real()
        raw.append({name: x.clone() for name, x in trainer.model.state_dict().items()})

    trainer.optimizer.step = watched
    trainer.train()
    for n, weights in enumerate(raw, start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        mean = {name: decay * mean[name] + (1 - decay) * x for name, x in weights.items()}
        saved = load_world_model(tmp_path / "run" / f"model_{n}.safetensors")[0].state_dict()
        for name, x in saved.items():
            torch.testing.assert_close(x, mean[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(raw[-1]["encoder.patch.0.weight"], saved["encoder.patch.0.weight"])


def test_the_best_checkpoint_is_the_one_of_the_least_validation_loss_of_its_stage(
    recorded, tmp_path, monkeypatch
):
    losses = iter([1.0, 5.0, 3.0, 4.0, None, 3.5, 2.0])

    def validate(self):
        loss = next(losses)
        if loss is None:
            raise KeyboardInterrupt
        return {"val_loss": loss}

    monkeypatch.setattr(Trainer, "validate", validate)
    batches = dict(painter_batches=1, latent_batches=0, motion_batches=5, tiles_batches=0, joint_batches=0)
    config = replace(SHORT, **batches, log_interval=1, save_interval=2)
    with pytest.raises(KeyboardInterrupt):
        make(recorded, tmp_path / "run", config).train()
    assert load_world_model(tmp_path / "run" / "best.safetensors")[1]["batches"] == 3  # not of the painter's
    make(
        recorded, tmp_path / "run", config
    ).train()  # goes on from batch 5, and remembers that 3.5 is not the best
    assert load_world_model(tmp_path / "run" / "best.safetensors")[1]["batches"] == 6


def test_the_learning_rate_rises_and_falls_in_every_stage():
    ten = {f"{stage}_batches": 10 for stage in STAGES}
    config = replace(SHORT, **ten, warmup=4, lr=1.0, joint_lr=0.5, final_lr_fraction=0.2)
    for begin, peak in ((0, 1.0), (10, 1.0), (30, 1.0), (40, 0.5)):
        rates = [config.learning_rate(begin + i) / peak for i in range(10)]
        assert rates[:4] == pytest.approx([0.25, 0.5 * 0.92, 0.75 * 0.84, 0.76])
        assert rates[9] == pytest.approx(1 - 0.8 * 0.9)
    flat = replace(config, final_lr_fraction=1.0, warmup=0)
    assert [flat.learning_rate(batch) for batch in range(50)] == [1.0] * 40 + [0.5] * 10


def test_every_save_leaves_a_film_of_real_posterior_and_open_loop(recorded, tmp_path):
    make(recorded, tmp_path / "run").train()
    frames, fps = read_video(tmp_path / "run" / "preview_6.mp4")
    rows = (
        -(-trainer_module.PREVIEW_WINDOWS // 2)
        if SHORT.batch_size >= trainer_module.PREVIEW_WINDOWS
        else -(-SHORT.batch_size // 2)
    )
    assert frames.shape == (4, rows * (8 + 4) * 3, 2 * 3 * (8 + 4) * 3, 3)
    assert fps == trainer_module.PREVIEW_FPS
    one = source(recorded).validation_batch(0, SHORT.batch_size)
    real = one.obs[2:, 0].numpy().repeat(3, 1).repeat(3, 2)
    assert np.abs(frames[:, :24, :24].astype(int) - real).mean() < 12  # H.264 is lossy


def test_open_loop_frames_are_those_of_the_simulator_and_end_black(recorded):
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    segment = source(recorded).validation_batch(0, 6)
    pictures = (
        preview_frames(model, segment, toy_agent())
        .reshape(4, 3, 12, 2, 3, 12, 3)
        .transpose(4, 0, 1, 3, 2, 5, 6)
        .reshape(3, 4, 6, 12, 12, 3)
    )
    assert (pictures[..., 8:, :, :] == 255).all()
    assert (pictures[..., 8:, :] == 255).all()
    real, posterior, free = pictures[..., :8, :8, :]
    with torch.no_grad():
        z = model.encode(segment.obs[:3], agent_burn_in(toy_agent(), segment.obs[:3])).mean
        state = model.start(z).env
        for t in range(4):
            there = segment.mask[2 + t].numpy()
            assert np.array_equal(free[t][there], frames_to_bytes(model.decode(state)).numpy()[there]), t
            assert np.array_equal(real[t][there], segment.obs[2 + t].numpy()[there])
            assert not free[t][~there].any()
            state = model.step(state, segment.action[2 + t])
    assert np.array_equal(posterior[0], free[0])
    assert not np.array_equal(posterior[1], free[1])


COMMAND = [sys.executable, str(ROOT / "train_gen_model.py"), "--interpreting_params_name", "tiny"]
COMMAND += ["--batch_size", "2", "--num_sim_steps", "3", "--num_batches", "30"]
COMMAND += ["--save_interval", "3", "--log_interval", "5", "--device", "cpu", "--log_level", "40"]


def test_killed_outright_and_started_again_it_ends_with_the_same_bits(recorded, tmp_path):
    command = COMMAND + [
        "--agent_file",
        str(recorded / "agent.safetensors"),
        "--data_dir",
        str(recorded / "store"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    run = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
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
    assert not list((tmp_path / "killed").rglob("done.json"))
    subprocess.run(command, cwd=tmp_path / "killed", check=True, **run)
    whole, killed = (next((tmp_path / name).rglob("done.json")).parent for name in ("whole", "killed"))
    assert whole.parent == tmp_path / "whole" / "results" / "world_models" / "test_tgm"
    assert same_state(whole, killed)
    assert rows(whole) == rows(killed)
    assert (whole / "model_30.safetensors").read_bytes() == (killed / "model_30.safetensors").read_bytes()


def test_a_term_that_is_not_finite_stops_training_and_is_named(recorded, tmp_path, monkeypatch):
    real = trainer_module.loss_terms
    seen = []

    def poisoned(*given):
        terms = real(*given)
        seen.append(1)
        if (
            len(seen) == 7
        ):  # the fifth batch: two stages had a batch, a validation and a look at what is saved
            terms["codes"] = terms["codes"] * float("nan")
        return terms

    monkeypatch.setattr(trainer_module, "loss_terms", poisoned)
    with pytest.raises(
        FloatingPointError,
        match="codes, loss not finite at batch 4.*last good weights are .*model_4.safetensors",
    ):
        make(recorded, tmp_path / "run").train()
    tensors, meta = load_checkpoint(tmp_path / "run" / "train_state.safetensors")
    assert meta["batches"] == 4
    assert all(torch.isfinite(x).all() for x in tensors.values())


@pytest.mark.parametrize(
    "every", [dict(log_interval=1, save_interval=1), dict(log_interval=100, save_interval=1)], ids=str
)
def test_weights_that_blew_up_take_no_checkpoints_place(recorded, tmp_path, every):
    make(recorded, tmp_path / "run", replace(SHORT, **every)).train()
    good = (tmp_path / "run" / "train_state.safetensors").read_bytes()
    again = make(recorded, tmp_path / "run", replace(SHORT, **every, joint_batches=7, joint_lr=1e30))
    with pytest.raises(
        FloatingPointError,
        match=("not finite at batch 7: .*last good weights are .*model_6.safetensors.*--world_model_file"),
    ):
        again.train()
    assert (tmp_path / "run" / "train_state.safetensors").read_bytes() == good
    assert all(int(row["batch"]) <= 6 for row in rows(tmp_path / "run"))


def test_batches_are_keyed_by_step_and_keep_levels_apart(recorded):
    one = source(recorded)
    other = source(recorded)
    assert torch.equal(one.train_batch(3, 8).obs, other.train_batch(3, 8).obs)
    assert not torch.equal(one.train_batch(3, 8).obs, one.train_batch(4, 8).obs)
    assert not torch.equal(one.train_batch(3, 8).obs, source(recorded, seed=1).train_batch(3, 8).obs)
    levels = Rollouts.open(recorded / "store").episodes["level_seed"]
    parts = split_by_layout(levels)
    for name, draw in (("train", one.train_batch), ("validation", one.validation_batch)):
        drawn = {int(levels[e]) for i in range(60) for e in draw(i, 8).episode}
        assert drawn, name
        assert drawn <= set(levels[parts == name].tolist()), name
    halves = [one.train_batch(3, 8, slice(rank, None, 2)) for rank in range(2)]
    assert torch.equal(torch.stack([half.obs for half in halves], 2).flatten(1, 2), one.train_batch(3, 8).obs)
    windows = Rollouts.open(recorded / "store").windows(6, min_steps=3)
    with pytest.raises(UsageError, match="record more .*larger --num_episodes"):
        held_out = next(str(i) for i in range(99) if split_by_layout([str(i)]) == "test")
        WindowSource(windows, np.full(len(levels), held_out), 0)


def deaths(segment):
    """Which windows hold the end of an episode that earned nothing at its last step."""
    return (segment.terminated & (segment.reward <= 0)).any(0)


def test_fatal_windows_are_drawn_more_often_and_count_less(recorded):
    plain = source(recorded)
    rich = source(recorded, death_oversampling=0.5)
    held = rich.windows.batch(rich.training)
    assert 0 < deaths(held).float().mean() < 0.4
    assert sorted(rich.deaths) == sorted(rich.training[deaths(held).numpy()])
    one = rich.train_batch(3, 4000)
    other = plain.train_batch(3, 4000)
    assert "weight" not in other.extra
    assert torch.equal(source(recorded, death_oversampling=0.5).train_batch(3, 4000).obs, one.obs)
    dead = deaths(one)
    natural = deaths(held).float().mean().item()
    weight = one.extra["weight"]
    assert dead.float().mean().item() == pytest.approx(0.5 + natural / 2, abs=0.03)
    assert (weight * dead).mean().item() == pytest.approx(natural, abs=0.02)
    assert weight.mean().item() == pytest.approx(1, abs=0.05)
    assert weight[dead].unique().numel() == weight[~dead].unique().numel() == 1
    assert weight[~dead][0] == 2
    assert weight[dead][0].item() == pytest.approx(1 / (0.5 + 0.5 / natural))
    assert torch.equal(rich.validation_batch(0, 8).obs, plain.validation_batch(0, 8).obs)
    halves = [rich.train_batch(3, 8, slice(rank, None, 2)) for rank in range(2)]
    assert torch.equal(
        torch.stack([half.extra["weight"] for half in halves], 1).flatten(),
        rich.train_batch(3, 8).extra["weight"],
    )


def test_no_fatal_window_is_no_reason_to_fail(recorded):
    store = Rollouts.open(recorded / "store")
    windows = store.windows(6, min_steps=3)
    windows.table = windows.table[
        windows.table[:, 1] + 6 < store.episodes["length"][windows.table[:, 0]]
    ]  # none reaches an end
    found = WindowSource(windows, episode_layouts(store), 0, 0.5)
    assert found.death_fraction == 0
    assert "weight" not in found.train_batch(0, 4).extra


def test_reading_ahead_keeps_order_raises_errors_and_stops():
    assert list(prefetch(lambda i: i * i, 2, 9)) == [i * i for i in range(2, 9)]

    def breaks(i):
        if i == 3:
            raise BadStore("damaged")
        return i

    got = []
    with pytest.raises(BadStore):
        for x in prefetch(breaks, 0, 9):
            got.append(x)
    assert got == [0, 1, 2]
    made = []
    endless = prefetch(made.append, 0, 10**9)
    next(endless)
    endless.close()
    count = len(made)
    time.sleep(0.3)
    assert len(made) == count <= 5


def parse(*words):
    return parse_flags(train_gen_model.Args, words=["--agent_file", "agent", *words])


def test_flags_of_both_generations_are_understood():
    scales = ("--loss_scale_obs", "2", "--loss_scale_kl", "3", "--loss_scale_bottleneck", "4")
    args = parse("--tgm_exp_name", "x", "--num_sim_steps", "7", *scales)
    assert (args.gen_mod_exp_name, args.num_sim_steps) == ("x", 7)
    assert (args.scales.loss_scale_obs, args.scales.loss_scale_kl, args.scales.loss_scale_bottleneck) == (
        2,
        3,
        4,
    )
    assert parse("--gen_mod_exp_name", "y").gen_mod_exp_name == "y"
    model, train = train_gen_model.resolve(parse("--loss_scale_gen_adv", "0"), toy_agent(), (64, 64, 3))
    assert (model, train) == train_gen_model.resolve(parse(), toy_agent(), (64, 64, 3))
    with pytest.raises(UsageError, match="no adversarial term"):
        train_gen_model.resolve(parse("--loss_scale_gen_adv", "1"), toy_agent(), (64, 64, 3))


def test_windows_longer_than_every_episode_are_refused_before_any_work(recorded, here, monkeypatch):
    monkeypatch.setattr(train_gen_model, "episode_layouts", None)
    with pytest.raises(
        UsageError, match="windows of 502 frames, and the longest episode of .* has 12; lower --num_sim_steps"
    ):
        train_gen_model.main(arguments(recorded, num_sim_steps=500))


def test_how_much_of_a_store_is_by_the_agent_is_said(recorded, caplog):
    rollouts = Rollouts.open(recorded / "store")
    check_recorder(rollouts, rollouts.episodes["policy_id"][0])
    assert not caplog.text
    assert recorded_by(rollouts, rollouts.episodes["policy_id"][0])
    rollouts.episodes["policy_id"][: len(rollouts) // 2] = "another"
    check_recorder(rollouts, "another")
    assert f"{100 * (len(rollouts) // 2) / len(rollouts):.0f}% of the episodes" in caplog.text
    assert not recorded_by(rollouts, "another")
    with pytest.raises(UsageError, match="this agent recorded no episode of"):
        check_recorder(rollouts, "a third")


def test_flags_stand_over_the_preset():
    words = "--batch_size 5 --lr 0.5 --num_initializing_steps 4 --log_interval 9 --save_interval 8"
    args = parse("--interpreting_params_name", "tiny", *words.split())
    model, train = train_gen_model.resolve(args, toy_agent(), (64, 64, 3))
    plain_model, plain = train_gen_model.resolve(
        parse("--interpreting_params_name", "tiny"), toy_agent(), (64, 64, 3)
    )
    assert (
        train.batch_size,
        train.lr,
        train.log_interval,
        train.save_interval,
        model.num_initializing_steps,
    ) == (5, 0.5, 9, 8, 4)
    assert train == replace(plain, batch_size=5, lr=0.5, log_interval=9, save_interval=8)
    assert model == replace(plain_model, num_initializing_steps=4)
    assert (model.num_actions, model.hidden_size, model.bounded_hidden) == (5, 8, True)
    refused = (
        ["--batch_size", "0"],
        ["--num_sim_steps", "0"],
        ["--num_initializing_steps", "1"],
        ["--lr", "-3"],
        ["--loss_scale_kl", "-1"],
    )
    for words in (
        *refused,
        ["--loss_scale_motion", "nan"],
        ["--painter_batches", "-1"],
        ["--num_sim_steps", "1"],
        ["--free_running_fraction", "1.5"],
    ):
        with pytest.raises(UsageError):
            train_gen_model.resolve(parse(*words), toy_agent(), (64, 64, 3))
    with pytest.raises(UsageError, match="tiny, small, paper"):
        train_gen_model.resolve(parse("--interpreting_params_name", "huge"), toy_agent(), (64, 64, 3))


def test_epochs_are_passes_over_the_training_steps_and_a_total_scales_every_stage(recorded):
    windows = source(recorded)
    config = train_gen_model.with_total(parse("--epochs", "3"), SHORT, windows)
    assert config.num_batches == 3 * len(windows.training) // (3 * 4)
    assert config == SHORT.with_total(config.num_batches)
    assert train_gen_model.with_total(parse("--num_batches", "60"), SHORT, windows).motion_batches == 20
    assert train_gen_model.with_total(parse(), SHORT, windows) == SHORT
    with pytest.raises(UsageError, match="give one"):
        train_gen_model.with_total(parse("--epochs", "3", "--num_batches", "2"), SHORT, windows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(recorded, **changed):
    small = dict(batch_size=2, num_sim_steps=3, num_batches=2, log_interval=1, save_interval=1)
    given = dict(agent_file=recorded / "agent.safetensors", data_dir=recorded / "store", device="cpu")
    return train_gen_model.Args(**({"interpreting_params_name": "tiny"} | given | small | changed))


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_a_number_of_batches_that_is_none_is_one_line(recorded, here, number):
    with pytest.raises(UsageError, match=f"num_batches is {number}; it must be from 1 to 2147483647"):
        train_gen_model.main(arguments(recorded, num_batches=number))


def test_the_same_command_again_is_done_and_new_starts_another_from_given_weights(recorded, here):
    train_gen_model.main(arguments(recorded))
    run = next(Path("results/world_models/test_tgm").iterdir())
    written = (run / "model_2.safetensors").stat().st_mtime_ns
    train_gen_model.main(arguments(recorded))
    assert (run / "model_2.safetensors").stat().st_mtime_ns == written
    model, meta = load_world_model(run / "model_2.safetensors")
    assert meta["agent"]["id"] == file_id(recorded / "agent.safetensors")
    assert meta["action_names"] == list("udlrn")
    assert meta["batches"] == 2
    assert meta["env"]["env_name"] == "toy"
    assert meta["split"] == SPLIT_VERSION
    assert json.loads((run / "manifest.json").read_text())["inputs"]["data_dir"] == meta["data"]
    train_gen_model.main(arguments(recorded, new=True))
    train_gen_model.main(arguments(recorded, world_model_file=run / "model_2.safetensors", lr=1e-30))
    assert len(list(run.parent.iterdir())) == 3
    with_lr = [path.parent for path in run.parent.glob("*/config.json") if "1e-30" in path.read_text()]
    later = [load_world_model(path / "model_2.safetensors")[0] for path in with_lr]
    for one, other in zip(later[0].parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    foreign = recorded / "foreign.safetensors"
    save_world_model(foreign, WorldModel(replace(model.config, num_actions=6)), {})
    with pytest.raises(UsageError, match="another game or agent .num_actions."):
        train_gen_model.main(arguments(recorded, world_model_file=foreign, seed=9))
    with pytest.raises(BadCheckpoint, match="not a world model"):
        train_gen_model.main(arguments(recorded, world_model_file=recorded / "agent.safetensors", seed=9))
    assert len(list(run.parent.iterdir())) == 3  # what is refused leaves no run behind


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
    assert not Path("results").exists()


def test_episodes_too_short_for_a_window_are_said_to_be(recorded):
    store = Rollouts.open(recorded / "store")
    with pytest.raises(UsageError, match="long enough"):
        WindowSource(store.windows(40, min_steps=40), episode_layouts(store), 0)


def label_store(store) -> None:
    """Writes made labels of the whole store."""
    write_manifest(store, 2.0)
    for entry in store.entries:
        steps = entry["num_steps"]
        fields = {
            name: np.zeros((steps, *field.shape), field.dtype) for name, field in label_fields(store).items()
        }
        write_labels(store.path, entry, fields)


def test_labels_are_used_where_there_are_some_or_asked_for_and_ignored_on_request(recorded, here):
    shutil.copytree(recorded / "store", here / "store")
    store = Rollouts.open(here / "store")
    for choice in ("auto", "ignore"):
        assert train_gen_model.open_labels(arguments(recorded, labels=choice), store) is None
    with pytest.raises(BadLabels, match="has no labels: make them with: python label.py"):
        train_gen_model.open_labels(arguments(recorded, labels="use"), store)
    label_store(store)
    assert train_gen_model.open_labels(arguments(recorded, labels="ignore"), store) is None
    for choice in ("auto", "use"):
        labels = train_gen_model.open_labels(arguments(recorded, labels=choice), store)
        model, _ = train_gen_model.resolve(arguments(recorded), toy_agent(), (8, 8, 3), labels)
        assert (model.tile_pixels, model.knows_phase) == (2.0, True)
    model, _ = train_gen_model.resolve(arguments(recorded), toy_agent(), (8, 8, 3), None)
    assert (model.tile_pixels, model.knows_phase) == (4.0, False)
    assert model.sprite_pixels == 8  # the frames are smaller than the preset's sprite


def test_labels_of_another_store_or_of_no_game_are_refused(recorded, here):
    shutil.copytree(recorded / "store", here / "store")
    label_store(Rollouts.open(here / "store"))
    other = write_toy_store(
        here / "other", [with_agent(toy_episode(np.random.default_rng(5), 8), toy_agent())], toy_agent()
    )
    shutil.copytree(here / "store" / "labels", here / "other" / "labels")
    for choice in ("auto", "use"):
        with pytest.raises(BadLabels, match="describes labels of store"):
            train_gen_model.open_labels(arguments(recorded, labels=choice), other)
    other.manifest = other.manifest | {"env": {}}
    with pytest.raises(UsageError, match="does not name a Procgen game"):
        train_gen_model.open_labels(arguments(recorded, labels="use"), other)


def test_a_model_of_the_former_design_names_its_successor(recorded, here):
    old = here / "old.safetensors"
    config = {"num_actions": 5, "map_channels": 32, "latent_cell": 16}
    save_checkpoint(old, {"model.x": torch.zeros(1)}, {"kind": "world model", "model": config})
    with pytest.raises(BadCheckpoint, match="former design.*pretrained/coinrun_simulator"):
        train_gen_model.main(arguments(recorded, world_model_file=old))
    assert not Path("results").exists()
