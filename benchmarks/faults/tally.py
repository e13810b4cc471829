"""Counts of what faults did to one script, and what a directory held for good before a fault."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults import outcomes

KINDS = ("time", "operation", "torn")
"""A kill at a random time; just before a random operation on files; in the middle of writing a file."""
STOPS = ("SIGINT", "SIGTERM")
"""Signals that ask a script to stop."""
REFUSALS = ("full_disk", "full_write", "read_only")
"""No space from a random operation on; for the rest of a file; a directory that may not be written."""
ENDINGS = ("plain", "clock", "rivals")
"""How a run is finished: by the same command, under a jumping clock, by two processes at once."""


@dataclass
class Tally:
    """Counts of one script.

    Attributes:
        kills, stops, refusals, endings: faults by kind.
        tried: kills that were begun; some runs end before.
        lost_files: final files that were gone or changed after a fault.
        lost_episodes: committed episodes that were gone.
        damaged: files under their final names that their readers refuse.
        wrong: files of a finished run that differ from an uninterrupted run's.
        unclear: ends that were not one line, or had another code than they should.
        late: stops that took too long.
        untrue: statements about what is kept that differ from the files.
        leftovers: partial files and locks after the end.
        findings: what was counted, in words.
    """

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    stops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STOPS, 0))
    refusals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    endings: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDINGS, 0))
    tried: int = 0
    lost_files: int = 0
    lost_episodes: int = 0
    damaged: int = 0
    wrong: int = 0
    unclear: int = 0
    late: int = 0
    untrue: int = 0
    leftovers: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def note(self, name: str, found: list[str]) -> None:
        """Adds findings to the count `name`."""
        setattr(self, name, getattr(self, name) + len(found))
        self.findings += [f"{name}: {one}" for one in found][:5]


class Committed:
    """What a directory holds for good, to be compared with what it holds after a fault."""

    def __init__(self, out: Path):
        self.out = out
        self.files = outcomes.final_files(out)
        self.episodes = outcomes.episodes_below(out)

    def compare(self, tally: Tally) -> None:
        """Notes what is lost, and what is damaged under its final name."""
        files, episodes = outcomes.final_files(self.out), outcomes.episodes_below(self.out)
        tally.note("lost_files", [name for name in self.files if files.get(name) != self.files[name]])
        for store, ids in self.episodes.items():
            tally.note("lost_episodes", [f"{store} {i}" for i in ids - episodes.get(store, set())])
        tally.note("damaged", outcomes.damaged(self.out))
