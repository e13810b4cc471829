"""Submits batches: with submitit, as plain batch files, or on this machine."""

import re
import shutil
import subprocess
from pathlib import Path

from common.errors import UsageError
from slurm.batch_file import Batch, batch_text, options, srun_options
from slurm.local import run_here
from slurm.run import Command

NO_SLURM = (
    "this machine has no {}, so it belongs to no Slurm cluster: log in to one, add --dry_run to see the batch"
    " file, or --launcher local to run here"
)


def submit(batch: Batch) -> int:
    """Submits a batch; returns the id of the job or of the array. With `local`, waits for its jobs.

    Raises:
        UsageError: there is no Slurm here, or it refuses the job.
    """
    batch.directory.mkdir(parents=True, exist_ok=True)
    return {"slurm": submit_with_submitit, "sbatch": submit_file, "local": run_here}[batch.launch.launcher](
        batch
    )


def submit_with_submitit(batch: Batch) -> int:
    """Submits with submitit, which keeps each job's command and outcome in the directory, as pickles."""
    import submitit

    _need("srun")
    executor = submitit.SlurmExecutor(folder=batch.directory)
    at_a_time = batch.launch.at_a_time or batch.launch.num_jobs
    executor.update_parameters(
        job_name=batch.name,
        time=None,
        ntasks_per_node=1,
        stderr_to_stdout=True,
        array_parallelism=at_a_time,
        additional_parameters=options(batch),
        srun_args=srun_options(batch),
    )
    try:
        jobs = _submit_all(executor, batch)
    except submitit.core.utils.FailedJobError as error:
        raise UsageError(_refused(str(error))) from error
    return int(jobs[0].job_id.split("_")[0])


def _submit_all(executor, batch: Batch) -> list:
    """The submitted jobs: one, or those of an array."""
    functions = [Command(words, batch.launch.max_requeues, batch.launch.cpus) for words in batch.commands()]
    return [executor.submit(functions[0])] if len(functions) == 1 else executor.submit_array(functions)


def submit_file(batch: Batch) -> int:
    """Writes the batch file and submits it with sbatch."""
    _need("sbatch")
    path = write_file(batch)
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise UsageError(_refused(done.stderr))
    return int(re.match(r"\d+", done.stdout)[0])


def write_file(batch: Batch) -> Path:
    """The batch file, written."""
    path = batch.directory / f"{batch.name}.sbatch"
    path.write_text(batch_text(batch))
    return path


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise UsageError(NO_SLURM.format(program))


def _refused(message: str) -> str:
    found = re.search(r"sbatch: error: (.*)", message)
    return f"Slurm refuses the job: {found[1] if found else message}"
