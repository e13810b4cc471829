"""train.py as a program: every flag has its effect, bad input ends in one line, and killed runs resume to the
same bits.
"""

import csv
import inspect
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
import types
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import train
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from agents.trainer import Trainer
from agents.training_log import CLOCK_COLUMNS
from common.cli import run_main
from common.runs import UsageError
from tests.helpers.tiny_models import NEVER, PRESETS, run_dirs, tiny_args, tiny_presets  # noqa: F401

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("restored_logging", "tiny_presets")


def trained(out_dir, **changed):
    """Runs train.py's main in this process and returns the run's directory."""
    train.main(tiny_args(out_dir, **changed))
    return run_dirs(out_dir)[-1]


def last_weights(run):
    return max(run.glob("model_*.safetensors"), key=lambda path: int(path.stem.split("_")[1])).read_bytes()


def rows(run):
    return [
        {name: value for name, value in row.items() if name not in CLOCK_COLUMNS}
        for row in csv.DictReader(open(run / "log.csv"))
    ]


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    import agents.presets

    directory = tmp_path_factory.mktemp("plain")
    (directory / "config.yml").write_text(PRESETS)
    shipped, agents.presets.PRESETS = agents.presets.PRESETS, directory / "config.yml"
    yield trained(directory / "logs")
    agents.presets.PRESETS = shipped


OTHER_WEIGHTS = {
    "start_level": 77,
    "num_levels": 1,
    "distribution_mode": "hard",
    "use_backgrounds": True,
    "blink": True,
    "param_name": "tiny-lstm",
    "num_timesteps": 96,
    "seed": 1,
}


@pytest.mark.parametrize("flag", OTHER_WEIGHTS)
def test_flags_that_change_what_is_learned(tmp_path, plain_run, flag):
    changed = trained(tmp_path, **{flag: OTHER_WEIGHTS[flag]})
    assert last_weights(changed) != last_weights(plain_run)
    assert changed.name != plain_run.name


SAME_WEIGHTS = {
    "exp_name": "other",
    "num_checkpoints": 2,
    "eval_every": 32,
    "eval_episodes": 3,
    "save_every": 32,
    "num_threads": 2,
    "log_level": 40,
}


@pytest.mark.parametrize("flag", SAME_WEIGHTS)
def test_flags_that_change_only_what_is_said_or_kept(tmp_path, plain_run, flag):
    assert last_weights(trained(tmp_path, **{flag: SAME_WEIGHTS[flag]})) == last_weights(plain_run)


@pytest.mark.parametrize("flag", ["paint_vel_info", "random_coin"])
def test_coinruns_own_options_change_what_is_learned(tmp_path, monkeypatch, flag):
    # CoinRun's first episodes are long
    monkeypatch.setattr(Trainer, "_evaluate_if_due", lambda self, before: {})
    runs = [
        trained(tmp_path / str(on), env_name="coinrun", num_timesteps=32, **{flag: on})
        for on in (False, True)
    ]
    assert last_weights(runs[0]) != last_weights(runs[1])


def test_the_game_and_the_name_say_where_it_goes(tmp_path):
    run = trained(tmp_path, env_name="bossfight", exp_name="mine", seed=4)
    assert run.parent == tmp_path / "procgen" / "bossfight" / "mine"
    assert run.name.startswith("seed_4_")
    assert load_agent(run / "model_64.safetensors")[1]["env"]["env_name"] == "bossfight"


def test_length_checkpoints_and_evaluations(tmp_path):
    run = trained(tmp_path, num_timesteps=128, num_checkpoints=2, eval_every=64, eval_episodes=3)
    assert sorted(path.name for path in run.glob("model_*")) == [
        "model_0.safetensors",
        "model_128.safetensors",
        "model_64.safetensors",
    ]
    assert [row["timesteps"] for row in rows(run)] == ["32", "64", "96", "128"]
    assert [row["num_episodes_val"] for row in rows(run)] == ["", "3", "", "3"]


@pytest.mark.parametrize(("every", "times"), [(32, 4), (64, 2), (NEVER, 1)])
def test_save_every(tmp_path, monkeypatch, every, times):
    saves = []
    save = Trainer._save_resumable
    monkeypatch.setattr(Trainer, "_save_resumable", lambda self: saves.append(self.timesteps) or save(self))
    trained(tmp_path, num_timesteps=128, save_every=every)
    assert len(saves) == times
    assert saves[-1] == 128


def test_model_file_gives_the_first_weights(tmp_path, plain_run):
    run = trained(tmp_path, agent_file=plain_run / "model_64.safetensors")
    given, begun = (
        load_agent(path)[0].state_dict()
        for path in (plain_run / "model_64.safetensors", run / "model_0.safetensors")
    )
    assert all(torch.equal(given[name], begun[name]) for name in given)


def test_the_same_command_is_done_and_new_starts_another(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = trained(tmp_path)
    stamp = (first / "log.csv").stat().st_mtime_ns
    assert trained(tmp_path) == first
    assert (first / "log.csv").stat().st_mtime_ns == stamp
    assert "is done; --new" in caplog.text
    assert trained(tmp_path, new=True) != first
    assert len(run_dirs(tmp_path)) == 2


def test_device_threads_and_level_reach_what_they_set(tmp_path, monkeypatch):
    seen = []
    threads = []
    make_env = train.make_env
    monkeypatch.setattr(train, "choose_device", lambda *asked: seen.append(asked) or torch.device("cpu"))

    def making(*given, **named):
        threads.append(inspect.signature(make_env).bind(*given, **named).arguments["num_threads"])
        return make_env(*given, **named)

    monkeypatch.setattr(train, "make_env", making)
    run_main(
        train.main,
        tiny_args(tmp_path, device="3", num_threads=2, log_level=logging.ERROR, num_timesteps=32),
    )
    assert seen == [("3",)]
    assert threads == [2, 2]
    assert logging.getLogger().level == logging.ERROR


def test_track_logs_every_row(tmp_path, monkeypatch):
    logged = []
    tracker = types.SimpleNamespace(log=lambda row, step: logged.append(step))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **asked: tracker))
    trained(tmp_path, track=True)
    assert logged == [32, 64]
    monkeypatch.setitem(sys.modules, "wandb", None)
    before = run_dirs(tmp_path)
    with pytest.raises(UsageError, match="pip install wandb"):
        train.main(tiny_args(tmp_path, track=True, new=True))
    assert run_dirs(tmp_path) == before


def test_precision_is_what_the_network_is_trained_in_and_the_run_says_so(tmp_path):
    runs = {name: trained(tmp_path / name, precision=name, num_timesteps=32) for name in ("bf16", "fp32")}
    assert last_weights(runs["bf16"]) != last_weights(runs["fp32"])
    assert all(
        json.loads((run / "manifest.json").read_text())["precision"] == name for name, run in runs.items()
    )


def test_random_coins_change_what_is_learned_and_need_the_game_that_has_one(tmp_path):
    runs = [trained(tmp_path / str(r), env_name="coinrun", random_coin=r) for r in (False, True)]
    assert last_weights(runs[0]) != last_weights(runs[1])
    with pytest.raises(UsageError, match="dodgeball has none"):
        train.main(tiny_args(tmp_path, random_coin=True))


def test_no_flag_is_untested():
    here = {"env_name", "agent_file", "paint_vel_info", "random_coin", "device", "out_dir", "new"}
    here |= {"track", "precision"}
    assert OTHER_WEIGHTS.keys() | SAME_WEIGHTS.keys() | here == {field.name for field in fields(train.Args)}


def other_architecture(path):
    save_agent(path, ActorCritic(NetworkConfig(15, feature_size=20, hidden_size=8)), {})


def truncated(path):
    other_architecture(path)
    path.write_bytes(path.read_bytes()[:2000])


def no_agent(path):
    path.write_text("{}")


BAD = {
    "game": ({"env_name": "pong"}, "unknown game 'pong'"),
    "mode": ({"distribution_mode": "memory"}, "has no 'memory' mode|unknown distribution"),
    "preset": ({"param_name": "none-such"}, "unknown preset 'none-such'"),
    "preset value": ({"param_name": "broken"}, "unknown keys: speed"),
    "levels": ({"num_levels": -1}, "do not lie within 0 .. 2147483646"),
    "last level": (
        {"start_level": 2**31, "num_levels": 0},
        "all levels from 2147483648 on do not lie within",
    ),
    "levels to evaluate on": (
        {"start_level": 2**31 - 40, "num_levels": 2},
        "2 levels from 2147483660 on do not lie within",
    ),
    "seed": ({"seed": -1}, "a seed from 0 to 2147483647"),
    "large seed": ({"seed": 2**31}, "a seed from 0 to 2147483647"),
    "threads": ({"num_threads": -1}, "0 or more threads"),
    "device": ({"device": "abacus"}, "unknown device"),
    "steps": ({"num_timesteps": 0}, "num_timesteps is 0"),
    "checkpoints": ({"num_checkpoints": 0}, "num_checkpoints is 0"),
    "episodes": ({"eval_episodes": 0}, "eval_episodes is 0"),
    "evaluations": ({"eval_every": 0}, "eval_every is 0"),
    "saves": ({"save_every": 0}, "save_every is 0"),
}


def fails(capsys, args) -> str:
    """The one line with which train.py ends on these arguments."""
    with pytest.raises(SystemExit) as ended:
        run_main(train.main, args)
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    assert "Traceback" not in capsys.readouterr().err
    return message


@pytest.mark.parametrize("case", BAD)
def test_bad_values_end_in_one_line(tmp_path, capsys, case):
    changed, message = BAD[case]
    if case == "mode":
        changed = changed | {"env_name": "coinrun"}
    assert any(part in fails(capsys, tiny_args(tmp_path, **changed)) for part in message.split("|"))
    assert not list(tmp_path.iterdir())


BAD_CHECKPOINTS = [
    (None, "no checkpoint file"),
    (other_architecture, "another architecture"),
    (truncated, "not a whole"),
    (no_agent, "not a whole"),
]


@pytest.mark.parametrize(("make", "message"), BAD_CHECKPOINTS)
def test_bad_checkpoints_end_in_one_line(tmp_path, capsys, make, message):
    path = tmp_path / "agent.safetensors"
    if make is not None:
        make(path)
    assert message in fails(capsys, tiny_args(tmp_path / "logs", agent_file=path))
    assert not list((tmp_path / "logs").rglob("*.json")), "a run that cannot begin must leave no run behind"


def test_a_damaged_training_state_is_named(tmp_path, capsys):
    run = trained(tmp_path, save_every=32)
    (run / "done.json").unlink()
    state = run / "train_state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    assert "cannot be resumed" in fails(capsys, tiny_args(tmp_path, save_every=32))


def test_a_full_disk_is_named(tmp_path, capsys, monkeypatch):
    import agents.actor_critic

    def full(path, *rest):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(agents.actor_critic, "save_checkpoint", full)
    assert "No space left on device" in fails(capsys, tiny_args(tmp_path))


def test_steps_are_rounded_up_to_whole_iterations(tmp_path):
    """As --help says: 4 environments of 8 steps each make an iteration."""
    run = trained(tmp_path, num_timesteps=65)
    assert [row["timesteps"] for row in rows(run)] == ["32", "64", "96"]
    assert (run / "model_96.safetensors").exists()
    shown = subprocess.run(
        [sys.executable, ROOT / "train.py", "--help"], capture_output=True, text=True
    ).stdout
    assert "rounded up to whole iterations of n_envs * n_steps" in " ".join(shown.replace("│", "").split())


def test_the_same_command_at_the_same_time_is_refused(tmp_path, tiny_presets, capsys):
    """While one process trains, the second learns which one it is; the run goes on unharmed to the same
    bits.
    """
    asked = dict(num_timesteps=32 * 40, save_every=32)
    process = subprocess.Popen(
        [*script(tiny_presets), *flags(tiny_args(tmp_path, **asked))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_rows(tmp_path, 1, process)
    assert f"is being written by process {process.pid} on" in fails(capsys, tiny_args(tmp_path, **asked))
    assert process.wait() == 0
    trained(tmp_path, **asked)
    assert "is done; --new" in capsys.readouterr().err


def script(presets: Path) -> list[str]:
    """A command that is train.py with the tiny presets."""
    swap = f"import pathlib, runpy, agents.presets; agents.presets.PRESETS = pathlib.Path({str(presets)!r})"
    return [sys.executable, "-c", f"{swap}; runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')"]


def flags(args) -> list[str]:
    """Those of the arguments that these tests set, as words of a command."""
    named = (
        "param_name",
        "num_timesteps",
        "num_checkpoints",
        "num_levels",
        "env_name",
        "eval_every",
        "eval_episodes",
        "save_every",
    )
    return [
        word for name in (*named, "out_dir", "device") for word in (f"--{name}", str(getattr(args, name)))
    ]


def test_an_unknown_flag_is_refused(tiny_presets):
    ended = subprocess.run([*script(tiny_presets), "--num_level", "11"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert (
        ended.stderr == "error: unknown flag --num_level, did you mean --num_levels? --help lists the flags\n"
    )


def test_the_command_line_itself_fails_in_one_line(tmp_path, tiny_presets):
    command = [*script(tiny_presets), *flags(tiny_args(tmp_path)), "--param_name", "wild"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "error: unknown preset 'wild'; choose one of: tiny, tiny-lstm, broken"


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_and_started_again_ends_with_the_same_bits(tmp_path, tiny_presets, times):
    """SIGKILL at random moments, each after some rows of the log; the uninterrupted twin runs in this
    process.
    """
    asked = dict(num_timesteps=32 * 18, eval_every=32 * 8, save_every=32 * 3, num_checkpoints=3)
    whole = trained(tmp_path / "whole", **asked)
    args = tiny_args(tmp_path / "killed", **asked)
    rng = random.Random(os.getpid())
    kills = 0
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    while True:
        command = [*script(tiny_presets), *flags(args)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        if kills < times:
            wait_for_rows(tmp_path / "killed", rng.randint(1, 8), process)
            time.sleep(0.2 * rng.random())
            process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
        kills += 1
    assert kills >= 1
    (killed,) = run_dirs(tmp_path / "killed")
    assert (killed / "done.json").exists()
    assert rows(killed) == rows(whole)
    names = sorted(path.name for path in whole.glob("*.safetensors"))
    assert names == sorted(path.name for path in killed.glob("*.safetensors"))
    assert len(names) == 5
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def wait_for_rows(out_dir, more, process):
    """Until the log is `more` rows longer than at its shortest, or the process has ended."""

    def rows_now():
        return sum(path.read_text().count("\n") for path in out_dir.rglob("log.csv"))

    least = rows_now()
    while process.poll() is None and rows_now() < max(least, 1) + more:
        least = min(least, rows_now())  # a resumed run begins by cutting the log back to its checkpoint
        time.sleep(0.01)
