"""Saliency of many samples, batch by batch, into a directory that the same command resumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.progress import progress_bar
from common.runs import UsageError
from common.shared_flags import ALONE, Job
from common.stopping import saving_on_stop
from common.words import counted
from envs.vecenv import ActionSpace
from interpret.attribution.saliency import SaliencyConfig
from interpret.attribution.saliency_store import batch_path, write_batch, write_facts
from interpret.attribution.sample_saliency import COMBINED, Kind, SampleSaliency
from interpret.attribution.trace_gradients import PATHS
from interpret.directions.directions import Directions
from interpret.directions.stability import labels

_NAMED = 4
"""Sample numbers that the name of a run lists."""


def check_step(config: SaliencyConfig) -> None:
    """Raises UsageError for a step at which a function has no value."""
    if config.step == "sum":
        return
    for one in config.functions:
        last = config.steps - 1 - one.reads_next
        if not 0 <= config.step <= last:
            raise UsageError(
                f"--step {config.step} is beyond the rollout: {one.name} has a value at steps 0 to {last}; "
                "give a smaller --step or more --num_sim_steps"
            )


def name_of(ids: Sequence[int], kind: Kind) -> str:
    """A plain name for a run of these samples, as --sample_ids has them: simulated_33_39_56_84,
    combined_0_to_100.
    """
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[0] + len(ids))):
        return f"{kind}_{ids[0]}_to_{ids[-1] + 1}"
    more = f"_and_{len(ids) - _NAMED}_more" if len(ids) > _NAMED else ""
    return "_".join([kind, *map(str, ids[:_NAMED])]) + more


def facts_of(config: SaliencyConfig, actions: ActionSpace, directions: Mapping[str, Directions]) -> dict:
    """What samples.json says of functions, gradients and actions."""
    ends = ("", *(f"@{path}" for path in PATHS)) if config.paths else ("",)
    return {
        "functions": [one.name + end for one in config.functions for end in ends],
        "step": config.step,
        "steps": config.steps,
        "grad_steps": config.grad_steps,
        "wrt": config.inputs,
        "method": "SmoothGrad" if config.draws > 1 and config.noise else "gradient",
        "draws": config.draws,
        "noise": config.noise,
        "action_names": actions.names,
        "noop": actions.noop,
        "effect_classes": actions.effect_classes,
        "directions": {
            kind: {"id": one.id, "names": one.names, "labels": labels(one)}
            for kind, one in directions.items()
        },
    }


def write_saliency(
    directory: Path,
    facts: dict,
    source: SampleSaliency,
    ids: Sequence[int],
    batch_size: int,
    kind: Kind,
    job: Job = ALONE,
) -> dict:
    """Writes samples.json and every batch of this job that is not there yet.

    Args:
        directory: of the run.
        facts: see `facts_of`.
        source: of the samples.
        ids: of the samples.
        batch_size: samples per forward pass and file.
        kind: simulated, recorded, or combined into one sample.
        job: of several that work on the run.

    Returns:
        The facts as written.

    Raises:
        UsageError: a batch takes more than the machine's memory.
    """
    source.check_memory(batch_size, kind)
    numbers = [COMBINED] if kind == "combined" else list(ids)
    batches = [numbers[at : at + batch_size] for at in range(0, len(numbers), batch_size)]
    facts = facts | {
        "samples": numbers,
        "combined": list(ids) if kind == "combined" else [],
        "real_frames": kind == "recorded",
        "source": source.source_facts(numbers),
        "batches": batches,
    }
    write_facts(directory, facts)
    compute = source.computed_as(kind)

    mine = job.share(list(enumerate(batches)))

    def kept() -> str:
        done = sum(batch_path(directory, index).exists() for index, _ in mine)
        return f"{done} of {counted(len(mine), 'batch')} are whole in {directory}" if done else ""

    with saving_on_stop(kept):
        for index, batch in progress_bar(mine, unit="batch", desc="saliency"):
            if not batch_path(directory, index).exists():
                write_batch(directory, index, compute(ids if kind == "combined" else batch))
    return facts


def is_whole(directory: Path, facts: dict) -> bool:
    """Whether every batch is there, whichever job made it."""
    return all(batch_path(directory, index).exists() for index in range(len(facts["batches"])))
