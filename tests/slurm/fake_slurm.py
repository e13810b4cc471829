"""Stand-ins for Slurm's commands that note how they were called, in lines of JSON in calls.jsonl."""

import json
import sys
from pathlib import Path

SBATCH = """
from pathlib import Path
text = Path(sys.argv[-1]).read_text()
note({"text": text})
number = 10 + len((place / "calls.jsonl").read_text().splitlines())
print(number if "--parsable" in sys.argv else f"Submitted batch job {number}")
"""
SCONTROL = """
note({})
if "show" in sys.argv:
    print(f"JobId=7 JobName=x JobState={(place / 'state').read_text()} Reason=None")
"""
HEAD = """#!{python}
import json, sys
from pathlib import Path
place = Path({place!r})
def note(more):
    with open(place / "calls.jsonl", "a") as log:
        log.write(json.dumps({{"words": [Path(sys.argv[0]).name, *sys.argv[1:]]}} | more) + "\\n")
"""


def install_fake_slurm(place: Path, state: str = "RUNNING") -> Path:
    """Writes sbatch, srun and scontrol, and the state of every job, into a directory; returns it."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "state").write_text(state)
    for name, body in {"sbatch": SBATCH, "scontrol": SCONTROL, "srun": "note({})\n"}.items():
        (place / name).write_text(HEAD.format(python=sys.executable, place=str(place)) + body)
        (place / name).chmod(0o755)
    return place


def calls(place: Path, name: str) -> list[dict]:
    """The noted calls of a command, in order."""
    log = place / "calls.jsonl"
    noted = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [one for one in noted if one["words"][0] == name]
