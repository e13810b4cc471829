"""Submits a script with its flags as one job or as an array. Scripts call it: see their flag --launcher.

    python -m slurm.submit [launcher's flags] -- KNOWN script.py [script's flags]

KNOWN says as JSON what the script makes of its flags: `flags`, their values, from which time, memory and disk
are estimated; `read`, the paths that it is to read, {flag: paths}; `written`, the paths that it writes to.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from common.cli import parse, run_main
from common.errors import UsageError
from common.launcher import LAUNCHING, Launch
from slurm.batch_file import Batch, batch_text, is_array
from slurm.engine import submit
from slurm.estimate import Estimate, estimate, read_rates
from slurm.input_files import lacking, report
from slurm.time_limit import limit_of, minutes_of

MARGIN = 2.0
"""Time and memory asked for by default, relative to the estimate."""
LEAST_GB = 2.0
LEAST_MINUTES = 10.0


def read_words(words: list[str]) -> tuple[Launch, list[str]]:
    """The launcher's flags, and the words after them."""
    at = words.index("--") if "--" in words else len(words)
    return parse(Launch, LAUNCHING, words[:at]), words[at + 1 :]


def main(given: tuple[Launch, list[str]]) -> None:
    launch, (known, *script) = given[0], given[1] or [""]
    if not script:
        raise UsageError("there is no script to submit; run the script itself, with --launcher")
    asked = {"flags": {}, "read": {}, "written": []} | json.loads(known)
    name = launch.job_name or name_of(script)
    expected = estimate(module_of(script), asked["flags"], read_rates(launch.gpus > 0))
    launch = with_limits(launch, expected)
    batch = Batch(name, tuple(script), launch, (launch.job_dir / name).absolute())
    print(f"{name}: {described(expected, launch)}")
    lacks = lacking(asked["read"])
    if launch.dry_run:
        print(*report(lacks, asked["written"]), batch_text(batch), sep="\n")
        return
    if lacks and not launch.after:  # earlier jobs may make what is not there
        flag, path = lacks[0]
        raise UsageError(
            f"{flag} names {path}, which does not exist: give another, or --after the jobs that make it"
        )
    job = submit(batch)
    jobs = f" (array of {launch.num_jobs})" if is_array(launch) else ""
    print(f"submitted job {job}{jobs}; output in {batch.directory}")


def module_of(script: Sequence[str]) -> str:
    """A script's name as a module: record, analysis.report_card."""
    return script[1] if script[0] == "-m" else script[0].removesuffix(".py").replace("/", ".")


def name_of(script: Sequence[str]) -> str:
    """A script's name without its package."""
    return module_of(script).rpartition(".")[2]


def with_limits(launch: Launch, expected: Estimate | None) -> Launch:
    """The launcher's flags with time and memory filled in from the estimate, and the time left for saving
    bounded by half the limit; unchanged for jobs on this machine, which have no limits.
    """
    if launch.launcher == "local":
        return launch
    if expected is not None:
        minutes = max(MARGIN * expected.hours_per_job(_shares(launch)) * 60, LEAST_MINUTES)
        megabytes = int(1024 * max(MARGIN * expected.memory_gb, LEAST_GB)) * launch.processes
        launch = replace(launch, time=launch.time or limit_of(minutes), mem=launch.mem or f"{megabytes}M")
    if launch.time is None:
        return launch
    seconds = int(30 * minutes_of(launch.time))
    return replace(launch, save_seconds=max(min(launch.save_seconds, seconds), 1))


def _shares(launch: Launch) -> int:
    """How many jobs share the work; those of a sweep each do all of it."""
    return launch.num_jobs if launch.array else 1


def described(expected: Estimate | None, launch: Launch) -> str:
    """The estimate, and what is asked for, in a line."""
    limits = f"asked for: {launch.time or 'the time of the partition'}, {launch.mem or 'its memory'}"
    asked = "no limits on this machine" if launch.launcher == "local" else limits
    jobs = f" in each of {launch.num_jobs} jobs" if launch.num_jobs > 1 else ""
    if expected is None:
        return f"no estimate, its speed has not been measured; {asked}{jobs}"
    memory = expected.memory_gb * launch.processes
    return (
        f"about {expected.hours_per_job(_shares(launch)):.2g} h{jobs}"
        f" and {memory:.2g} GB of memory, {expected.disk_gb:.2g} GB on disk in all"
        f" ({expected.source}); {asked}"
    )


if __name__ == "__main__":
    run_main(main, read_words(sys.argv[1:]))
