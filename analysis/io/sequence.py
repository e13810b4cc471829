"""The sequence of docs/pipeline.md as data: its variables, its commands, and the next one to run."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_NEWEST = re.compile(r"\$\(ls -td (\S+?) \| head -1\)")
_ASSIGNMENT = re.compile(r"^([A-Z]+)=(.*)$")
PICTURES = {
    "memory_plotting": ("memory", "memory"),
    "probes_plotting": ("probes", "probes"),
    "tuning_plotting": ("tuning", "tuning"),
    "emergence_plotting": ("emergence", "emergence"),
    "hidden_analysis_plotting": ("hx_analysis", "hx"),
    "show_hx_overlap": ("hx_overlap", "hx_overlap"),
    "plot_value_and_action_weights": ("hx_analysis", "plot_act_and_val_weights"),
    "xcorr_and_xcaus_plots": ("xcorr", "xcorr"),
    "xcorr_and_xcaus_plots --draw xcaus": ("xcaus", "xcaus"),
    "saliency_truth_plotting": ("saliency_truth", "saliency_truth"),
    "dynamics_grads_consistency_plots": ("dynamics_grads_consistency", "dynamics_grads_consistency"),
} | {
    f"{name}_plotting": (name, name)
    for name in (
        "bottleneck_vec_analysis",
        "env_h_analysis",
        "sml_analysis",
        "combined_agent_env_hx_analysis",
        "jacobian_analysis",
        "goal_misgeneralisation",
        "interchange",
        "edited_levels",
    )
}
"""Plotting script, with flags if it draws several steps -> (step whose latest artefacts it reads, NAME of its
output folder results/NAME_plots).
"""
LEAVE_NOTHING = (
    "concept_directions",
    "confirmations_plotting",
    "evaluate",
    "inspect_store",
    "plot_training_csv",
    "publish",
    "real_vs_simulated",
    "saliency_panel",
    "status",
)
"""Scripts that only print, draw published numbers, or write to where they read from or to a file of any name:
nothing shows whether they have been run.
"""
PAGE = Path("docs") / "pipeline.md"
"""The page that holds the sequence."""


class Command(NamedTuple):
    """One command of the sequence: script name, flags {flag: words}, and the command line with real paths."""

    script: str
    flags: dict[str, tuple[str, ...]]
    line: str


def parse_sequence(page: str, root: Path) -> tuple[dict[str, str], list[Command]]:
    """The variables that the sequence sets, and its commands with these filled in.

    Variables are set for the demo first, and again at full size. Those of a later block apply if its DATA
    exists under `root`. A variable is empty if its files do not exist.
    """
    text = page[page.index("## The sequence") :]
    text = re.split(r"\n## ", text)[0]
    blocks = [block.replace("\\\n", " ").splitlines() for block in text.split("```")[1::2]]
    names: dict[str, str] = {}
    for lines in blocks:
        found = dict(names)
        for name, value in (match.groups() for match in map(_ASSIGNMENT.match, lines) if match):
            found[name] = fill(value.strip(), found, root) or found.get(name, "")
        if not names or (root / found["DATA"]).exists():
            names = found
    return names, [
        command_of(fill(line, names, root))
        for lines in blocks
        for line in lines
        if line.startswith("python ")
    ]


def fill(text: str, names: Mapping[str, str], root: Path) -> str:
    """Replace $NAME, and $(ls -td GLOB | head -1) by the newest path; "" if there is none."""
    text = re.sub(r"\$([A-Z]+)", lambda match: names.get(match[1], match[0]), text)
    newest = _NEWEST.search(text)
    if not newest:
        return text
    found = sorted(root.glob(newest[1]), key=lambda path: path.stat().st_mtime)
    return text.replace(newest[0], f"{found[-1].relative_to(root)}/") if found else ""


def command_of(line: str) -> Command:
    """Parse a line that begins with `python`."""
    words = shlex.split(line, comments=True)[1:]
    script, rest = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    return Command(script_name(script), flags_of(rest), " ".join(line.split()))


def script_name(script: str) -> str:
    """The last part of a module's or a file's name."""
    return script.removesuffix(".py").replace("/", ".").split(".")[-1]


def flags_of(words: list[str]) -> dict[str, tuple[str, ...]]:
    """{flag: its words}; positional words are under ""."""
    found = {"": ()}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            flag = "--" + flag[2:].replace("-", "_")
            found[flag] = (_plain(value),) if equals else ()
        else:
            found[flag] = (*found[flag], _plain(word))
    return found


def covers(ran: Command, asked: Command) -> bool:
    """Whether a command that was run is `asked`, possibly with more flags."""
    return ran.script == asked.script and all(
        ran.flags.get(flag) == words for flag, words in asked.flags.items() if flag or words
    )


def next_command(commands: list[Command], ran: list[Command], pictures: Mapping[str, bool]) -> Command | None:
    """The first command that has not been run.

    Args:
        commands: The sequence.
        ran: Commands that ended and whose results are up to date.
        pictures: {plotting script, with or without flags: whether its pictures are up to date}.
    """
    for command in commands:
        if command.script in LEAVE_NOTHING:
            continue
        drawn = [name for name in pictures if covers(command, command_of(f"python {name}"))]
        done = pictures[max(drawn, key=len)] if drawn else any(covers(one, command) for one in ran)
        if not done:
            return command
    return None


def _plain(word: str) -> str:
    """A word without a trailing slash, so that two spellings of a directory agree."""
    return word.rstrip("/") or word
