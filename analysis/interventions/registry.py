"""Registration of hypotheses: committed before the test, unaltered since, and one test per direction of the
sealed levels.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.checkpoints import write_text
from common.runs import UsageError, file_id
from interpret.interventions.hypothesis import Hypothesis, check_family, read_hypothesis
from rollouts.store import Rollouts

OPENED = "opened.jsonl"
"""Next to the hypotheses: which one opened the sealed levels for which direction."""


def read_family(paths: Sequence[Path]) -> dict[str, Hypothesis]:
    """Hypotheses by file name. Raises UsageError unless they are all those of one folder and go together."""
    folders = {Path(path).resolve().parent for path in paths}
    if len(folders) != 1:
        raise UsageError("give the hypotheses of one folder: they are one family")
    missing = sorted({one.name for one in folders.pop().glob("*.yaml")} - {path.name for path in paths})
    if missing:
        raise UsageError(
            f"{missing[0]} is in the same folder: hypotheses of a folder are tested together, because their "
            "p-values are corrected for their number; give all of them"
        )
    family = {path.name: read_hypothesis(path) for path in sorted(paths)}
    check_family(family)
    return family


def check_registered(path: Path) -> str:
    """The commit that registered the hypothesis. Raises UsageError where it is not committed, or altered."""
    path = Path(path).resolve()

    def git(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(("git", *words), cwd=path.parent, capture_output=True, text=True)

    commit = git("log", "-n", "1", "--format=%H", "--", path.name).stdout.strip()
    if not commit:
        raise UsageError(f"{path.name} is not registered: commit it before its test")
    if git("diff", "--quiet", "HEAD", "--", path.name).returncode:
        raise UsageError(f"{path.name} has been altered since its commit: restore it with git checkout")
    return commit


def check_sealed(hypothesis: Hypothesis, rollouts: Rollouts) -> None:
    """Raises UsageError for a store with other levels than those of the hypothesis."""
    first, count = hypothesis.levels
    levels = rollouts.episodes["level_seed"]
    outside = levels[(levels < first) | (levels >= first + count)]
    if len(outside):
        raise UsageError(
            f"{rollouts.path} has level {outside[0]}, and the hypothesis is about {count} levels from "
            f"{first} on: record them with record.py --start_level {first} --num_levels {count}"
        )


def open_sealed(path: Path, hypothesis: Hypothesis, commit: str) -> None:
    """Logs that this hypothesis opens the sealed levels for its directions; the same one may do so again.

    Raises:
        UsageError: another hypothesis, or another version of this one, has opened them.
    """
    log = Path(path).parent / OPENED
    touched = sorted(f"{hypothesis.directions}/{one}" for one in hypothesis.edit.touched)
    own = {"hypothesis": Path(path).name, "id": file_id(path), "commit": commit, "directions": touched}
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for entry in entries:
        if entry["id"] != own["id"] and np.intersect1d(entry["directions"], touched).size:
            raise UsageError(
                f"{entry['hypothesis']} has opened the sealed levels for {', '.join(entry['directions'])}: a "
                "direction is tested there once; explore on other levels"
            )
    if not any(entry["id"] == own["id"] for entry in entries):
        write_text(log, "".join(json.dumps(entry) + "\n" for entry in [*entries, own]))
