"""Flags shared by all scripts: one type and help text each, and aliases for documented seed spellings.

@dataclass
class Args:
    agent_file: Annotated[Path, SEED_MODEL_FILE]
    device: Device = "auto"
    log_level: LogLevel = logging.INFO
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import tyro

from common.errors import UsageError


def _none_if_empty(default: str) -> str:
    """What --help says of a default that may be no word at all."""
    return f"(default: {default or 'none'})"


SEED_MODEL_FILE = tyro.conf.arg(aliases=("--model_file",))
"""Alias: the seed projects call it --model_file, for the agent (train, record, evaluate, render) and for the
world model (scripts that train it or simulate with it).
"""
NONE_IF_EMPTY = tyro.conf.arg(help_behavior_hint=_none_if_empty)
"""For flags that take any number of words, and none by default."""
SEED_DIRECTIONS = tyro.conf.arg(aliases=("--directions",), help_behavior_hint=_none_if_empty)
"""Alias: --directions, for files of directions."""
WRITTEN = ("out_dir", "out_file", "target", "images", "results", "vid_dir", "benchmark")
"""Flags that name what a script writes; every other flag that takes a path names what it reads."""
Device = Annotated[
    str,
    tyro.conf.arg(
        aliases=("--gpu_device",),
        help="Where networks run: auto (a GPU if there is one), cpu, gpu, or the number of a GPU.",
    ),
]
PrecisionName = Annotated[
    Literal["auto", "bf16", "fp32"],
    tyro.conf.arg(
        help=(
            "Precision of convolutions; auto takes the faster one on this machine, and a resumed run"
            " keeps its own."
        )
    ),
]
LogLevel = Annotated[
    int, tyro.conf.arg(help="Python logging level: 10 debug, 20 info, 30 warnings, 40 errors.")
]
JobFlag = Annotated[
    tuple[int, int],
    tyro.conf.arg(
        help=(
            "Which of how many jobs this one is: 0 8 is the first of eight, which together make the whole"
            " result, in any order."
        )
    ),
]


class Job(NamedTuple):
    """One of `count` jobs that share the work of a command."""

    index: int = 0
    count: int = 1

    def share(self, items: Sequence) -> Sequence:
        """This job's items: every count-th."""
        return items[self.index :: self.count]

    @property
    def lock_name(self) -> str:
        """File that excludes a second process with the same share, in the directory of the result."""
        return "lock" if self.count == 1 else f"lock_{self.index}_of_{self.count}"

    def check(self) -> None:
        """Raises UsageError for a job that there is not."""
        if not 0 <= self.index < self.count:
            count = max(self.count, 1)
            raise UsageError(
                f"--job is {self.index} {self.count}: give which of how many, from --job 0 {count} to"
                f" --job {count - 1} {count}"
            )


ALONE = Job()
