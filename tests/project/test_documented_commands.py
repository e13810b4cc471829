"""Every command of the README and of docs/ is accepted by its script, flag by flag and value by value."""

import importlib
import shlex
from pathlib import Path

import pytest

from common.cli import parse
from common.launcher import Launch, split_launcher

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "templates" not in page.parts),
)


def commands(text: str) -> list[list[str]]:
    """The words after `python` of the commands in a page's code blocks, continued lines joined."""
    blocks = text.split("```")[1::2]
    lines = "\n".join(block.replace("\\\n", " ") for block in blocks).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("python ")]


def check(words: list[str]) -> None:
    """Raises SystemExit for a flag or value that the script refuses, ImportError for a script that is not
    there.
    """
    module, flags = (
        (words[1], words[2:])
        if words[0] == "-m"
        else (words[0].removesuffix(".py").replace("/", "."), words[1:])
    )
    args_type = getattr(importlib.import_module(module), "Args", None)
    assert args_type or not flags, f"{module} takes no flags"
    if args_type:
        own, launcher = split_launcher(flags) if module != "slurm.chain" else (flags, None)
        parse(args_type, words=own)
        parse(Launch, words=launcher or [])


DOCUMENTED = {
    f"{page.name}: {shlex.join(words)}": words for page in PAGES for words in commands(page.read_text())
}


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_documented_command_is_accepted(command):
    check(DOCUMENTED[command])


def test_the_sequence_is_among_them():
    scripts = {words[0] for words in commands((ROOT / "docs" / "pipeline.md").read_text())}
    assert {
        "train.py",
        "plot_training_csv.py",
        "evaluate.py",
        "render.py",
        "record.py",
        "train_gen_model.py",
        "record_gen_samples.py",
    } <= scripts


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("python train.py --numtimesteps 3", SystemExit),
        ("python train.py \\\n    --num_timesteps many", SystemExit),
        ("python -m agents.publish --run x", SystemExit),
        ("python trian.py", ImportError),
        ("python -m agents.publsh", ImportError),
    ],
)
def test_a_command_that_is_wrong_is_caught(line, error, capsys):
    (words,) = commands(f"Text `python nothing`.\n```\n{line}  # why\n```\n")
    with pytest.raises(error):
        check(words)
