"""`python -m analysis.status`: what exists, what is stale and why, and the next command with real paths."""

from pathlib import Path

import pytest

from analysis import status
from analysis.io.artefacts import cached_part
from analysis.io.sequence import PAGE as PAGE_FILE
from analysis.io.sequence import PICTURES, command_of, covers, fill, next_command, parse_sequence
from analysis.io.steps import finish_step, open_step
from analysis.maps import map_summary
from analysis.status import VERSIONS
from common.runs import UsageError, file_id
from tests.helpers.map_store import write_map_store

PAGE = """
## The sequence

```
AGENT=agent.safetensors
DATA=$(ls -td demo/game/data/*/ | head -1)
SIMULATED=results/simulated/demo
python evaluate.py --agent_file $AGENT
python analysis/hidden_analysis_precompute.py --data_dir $DATA \\
    --sim_data_dir $SIMULATED/informed
python analysis/hidden_analysis_plotting.py
```
### At full size
```
python record.py --exp_name big --agent_file $AGENT
DATA=data/big
SIMULATED=results/simulated/big
```
## Another section
```
python train.py
```
"""


def write_page(root: Path) -> None:
    (root / PAGE_FILE).parent.mkdir()
    (root / PAGE_FILE).write_text(PAGE)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory as the demo leaves it: a recording, an agent file and the page."""
    monkeypatch.chdir(tmp_path)
    write_page(tmp_path)
    (tmp_path / "agent.safetensors").write_bytes(b"an agent")
    return write_map_store(tmp_path / "demo" / "game" / "data" / "first", 20)


def said(capsys) -> list[str]:
    """What it prints to stdout, so that it can be piped."""
    capsys.readouterr()
    status.main(status.Args())
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def make(monkeypatch, store, *flags: str, version: int = map_summary.VERSION, done: bool = True):
    """An artefact of the hidden-state analysis, as that command makes it."""
    monkeypatch.setattr("sys.argv", ["analysis/hidden_analysis_precompute.py", *flags])
    run = open_step(
        Path("results"),
        map_summary.STEP,
        version,
        {},
        {"data_dir": store.id, "agent_file": file_id(Path("agent.safetensors"))},
    )
    cached_part(run, "axes", lambda: {})
    if done:
        finish_step(run, {})
    return run


FLAGS = ("--data_dir", "demo/game/data/first", "--sim_data_dir", "results/simulated/demo/informed")


def test_an_empty_repository_starts_with_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no docs/pipeline.md"):
        status.main(status.Args())
    write_page(tmp_path)
    assert said(capsys) == ["recordings: none", "runs and artefacts: none", "next: make demo"]


def test_recordings_runs_and_the_next_command_are_listed(place, monkeypatch, capsys):
    lines = said(capsys)
    assert lines[1] == f"demo/game/data/first: 20 episodes, {place.num_steps} steps, real, id {place.id}"
    flags = "--data_dir demo/game/data/first/ --sim_data_dir results/simulated/demo/informed"
    wanted = f"python analysis/hidden_analysis_precompute.py {flags}"
    assert lines[-1] == f"next: {wanted}"
    run = make(monkeypatch, place, *FLAGS, done=False)
    assert f"{run.dir}: unfinished; its command resumes it" in said(capsys)
    assert said(capsys)[-1] == f"next: {wanted}"
    make(monkeypatch, place, *FLAGS, "--clusters", "4")
    lines = said(capsys)
    assert f"* {run.dir}: done" in lines
    assert lines[-1] == "next: python analysis/hidden_analysis_plotting.py"
    (Path("results") / "hx_plots" / "x").mkdir(parents=True)
    (Path("results") / "hx_plots" / "x" / "page.html").write_text("drawn")
    assert said(capsys)[-1] == "next: python record.py --exp_name big --agent_file agent.safetensors"
    monkeypatch.setattr("sys.argv", ["record.py", "--exp_name", "big", "--agent_file", "agent.safetensors"])
    write_map_store(Path("results") / "recorded", 20)
    assert said(capsys)[-1] == "next: nothing, the sequence is finished"


def test_artefacts_of_another_version_a_grown_store_and_another_file_are_stale(place, monkeypatch, capsys):
    old = make(monkeypatch, place, *FLAGS, version=1)
    assert (
        f"* {old.dir}: stale: of version 1 of the step; the current version is {map_summary.VERSION}"
        in said(capsys)
    )
    new = make(monkeypatch, place, *FLAGS, "--agent_file", "agent.safetensors")
    assert f"* {new.dir}: done" in said(capsys)
    Path("agent.safetensors").write_bytes(b"another agent")
    status._file_id.cache_clear()
    assert any(
        line.startswith(f"* {new.dir}: stale: --agent_file agent.safetensors has changed")
        for line in said(capsys)
    )
    Path("agent.safetensors").write_bytes(b"an agent")
    status._file_id.cache_clear()
    for file in place.path.iterdir():
        file.unlink()
    monkeypatch.setattr("sys.argv", ["record.py"])
    grown = write_map_store(place.path, 30)
    (line,) = [line for line in said(capsys) if line.startswith(f"* {new.dir}")]
    assert line.endswith(
        f"stale: --data_dir demo/game/data/first has changed since (it was {place.id} and is {grown.id})"
    )
    assert said(capsys)[-1].startswith("next: python analysis/hidden_analysis_precompute.py")


def make_step(monkeypatch, step: str, inputs: dict[str, str], *words: str, **settings):
    """A finished artefact of a step, as a command makes it."""
    monkeypatch.setattr("sys.argv", list(words))
    run = open_step(Path("results"), step, VERSIONS[step], settings, inputs)
    finish_step(run, {})
    return run


@pytest.mark.parametrize("flag", [(), ("--jacobians_dir", "results/jacobians_precomp/latest")])
def test_artefacts_of_earlier_jacobians_are_stale(place, monkeypatch, capsys, flag):
    maker = "analysis/jacobian_analysis_precompute.py"
    first = make_step(monkeypatch, "jacobians", {}, maker)
    mapped = make_step(monkeypatch, "jacobian_analysis", {"jacobians": first.dir.name}, maker)
    read = {"jacobians_dir": first.dir.name}
    xcaus = make_step(monkeypatch, "xcaus", read, "analysis/xcaus_precompute.py", *flag)
    assert f"* {xcaus.dir}: done" in said(capsys)
    second = make_step(monkeypatch, "jacobians", {}, maker, seed=1)
    lines = said(capsys)
    assert f"* {mapped.dir}: done" in lines  # its own command takes the same Jacobians again
    path = "results/jacobians_precomp/latest"
    change = f"(it was {first.dir.name} and is {second.dir.name})"
    assert f"* {xcaus.dir}: stale: --jacobians_dir {path} has changed since {change}" in lines


def test_each_drawing_of_a_script_has_pictures_of_its_own():
    both = [command_of(f"python analysis/xcorr_and_xcaus_plots.py{flags}") for flags in ("", " --draw xcaus")]
    names = ("xcorr_and_xcaus_plots", "xcorr_and_xcaus_plots --draw xcaus")
    for drawn, left in (((False, True), both[0]), ((True, False), both[1]), ((True, True), None)):
        assert next_command(both, [], dict(zip(names, drawn))) == left


def test_a_damaged_store_is_named_and_does_not_end_the_script(place, capsys):
    (place.path / "shard_00000.h5").write_bytes(b"")
    assert any(line.startswith("demo/game/data/first: ") and "shard_00000" in line for line in said(capsys))


def test_names_at_full_size_hold_together_once_the_recording_is_there(place, tmp_path):
    names, commands = parse_sequence(PAGE, tmp_path)
    assert names["DATA"] == "demo/game/data/first/"
    assert names["SIMULATED"] == "results/simulated/demo"
    assert [command.script for command in commands] == [
        "evaluate",
        "hidden_analysis_precompute",
        "hidden_analysis_plotting",
        "record",
    ]
    (tmp_path / "data" / "big").mkdir(parents=True)
    assert parse_sequence(PAGE, tmp_path)[0] | {"AGENT": ""} == {
        "AGENT": "",
        "DATA": "data/big",
        "SIMULATED": "results/simulated/big",
    }


def test_a_command_is_that_of_the_page_with_further_flags_in_any_spelling():
    asked = command_of(
        "python -m analysis.memory_precompute --agent_file a --play_frames 0 1 --data_dir data/x/"
    )
    for line, same in (
        ("python memory_precompute.py --data-dir=data/x --seed 1 --agent_file a --play_frames 0 1", True),
        ("python memory_precompute.py --data_dir data/x --agent_file a --play_frames 0", False),
        ("python probes_precompute.py --data_dir data/x --agent_file a --play_frames 0 1", False),
    ):
        assert covers(command_of(line), asked) == same
    assert next_command([asked], [], {}) == asked
    assert next_command([asked], [asked], {}) is None
    assert fill("x=$(ls -td none/*/ | head -1)best", {}, Path(".")) == ""


def test_the_pipeline_page_has_such_a_sequence():
    names, commands = parse_sequence((Path(__file__).parents[2] / PAGE_FILE).read_text(), Path("/nowhere"))
    assert set(names) == {"AGENT", "MODEL", "DATA", "DISCOVERY", "SIMULATED"}
    assert len(commands) > 40
    assert not [command.line for command in commands if "$" in command.line]


def test_pictures_are_looked_for_where_scripts_leave_them():
    """The folders of PICTURES are those that the drawing scripts name in their flags' help."""
    for script, (step, folder) in PICTURES.items():
        text = (Path(__file__).parents[2] / "analysis" / f"{script.split()[0]}.py").read_text()
        assert f"{folder}_plots" in text or "map_step" in text or "PlotArgs" in text, script
        assert step in VERSIONS
