"""The samples of a saliency run that a page shows, stacked over samples."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from interpret.attribution.saliency_store import SaliencyStore

STEP_FIELDS = ("value", "reward", "done")
"""Fields of a clip with one number per step, where the run has them."""


class RunSamples(NamedTuple):
    """N samples of T steps; hidden states have width D."""

    store: SaliencyStore
    ids: list[int]
    functions: tuple[str, ...]
    hidden: np.ndarray
    """[N, T, D], after each frame."""
    gradients: dict[str, np.ndarray]
    """{function: [N, S, D]}: gradient of the hidden state after each of the S frames that matter to it."""
    scales: dict[str, np.ndarray]
    """{function: [N]}: gradient that a stored 127 stands for."""
    columns: dict[str, np.ndarray]
    """action [N, T], STEP_FIELDS [N, T], probability [N, T, A]; length [N], steps until the episode ended."""

    @property
    def read_step(self) -> int | None:
        """The step at which functions are read; None if they are summed over steps."""
        step = self.store.facts["step"]
        return None if step == "sum" else int(step)

    @property
    def sorting_step(self) -> int:
        """The step whose hidden state and frame stand for a sample."""
        last = self.hidden.shape[1] - 1
        return last if self.read_step is None else min(self.read_step, last)

    @property
    def recorded(self) -> bool:
        """Whether frames are recorded ones, not simulated."""
        return bool(self.store.facts.get("real_frames"))

    @property
    def agent(self) -> str:
        """Id of the agent's file."""
        return self.store.facts["inputs"]["agent_file"]

    def origin(self, name: str) -> np.ndarray:
        """Level, episode or step that each sample began from [N]; -1 for none."""
        known = self.store.facts.get("source", {}).get(name)
        if known is None:
            return np.full(len(self.ids), -1)
        place = {sample: i for i, sample in enumerate(self.store.samples)}
        return np.array([known[place[sample]] for sample in self.ids])

    @property
    def groups(self) -> np.ndarray:
        """Level of each sample [N]; samples that began from no recorded frame have one of their own."""
        level = self.origin("level")
        return np.where(level >= 0, level, -1 - np.arange(len(level)))


def read_samples(store: SaliencyStore, functions: Sequence[str] = (), most: int = 200) -> RunSamples:
    """The first `most` samples of a run, with the named functions; all of them if none is named.

    Raises UsageError for a function that the run has no maps of, and for a run without gradients of hidden
    states.
    """
    chosen = choose_functions(store, functions)
    ids = list(store.samples[:most])
    if len(ids) < len(store.samples):
        logging.warning(
            "the page shows the first %s of %d; --num_samples takes more",
            counted(len(ids), "sample"),
            len(store.samples),
        )
    clips = [store.clip(sample) for sample in progress_bar(ids, desc="reading samples", unit="sample")]
    check_arrays(store, clips[0], chosen)
    columns = {"action": np.stack([clip["action"] for clip in clips])}
    columns |= {
        name: np.stack([clip[name] for clip in clips]).astype(np.float32)
        for name in STEP_FIELDS
        if name in clips[0]
    }
    if "length" in clips[0]:
        columns["length"] = np.array([clip["length"] for clip in clips], np.int32)
    columns["probability"] = np.stack([softmax(clip["logits"]) for clip in clips])
    return RunSamples(
        store,
        ids,
        chosen,
        np.stack([clip["hidden"] for clip in clips]).astype(np.float32),
        {f: _after_frames(store, ids, f)[:, : _steps_that_matter(clips, f)] for f in chosen},
        {f: np.array([clip[f"scale/{f}"] for clip in clips], np.float32) for f in chosen},
        columns,
    )


def _after_frames(store: SaliencyStore, ids: Sequence[int], function: str) -> np.ndarray:
    """Gradients [N, S, D] of the hidden state after each frame; the stored ones begin before the first."""
    return np.stack([store.hidden_gradient(sample, function)[1:] for sample in ids])


def _steps_that_matter(clips: Sequence[dict[str, np.ndarray]], function: str) -> int:
    """Steps up to the last one at which some sample has a gradient."""
    frames = np.stack([clip[f"map/{function}"].any((1, 2)) for clip in clips]).any(0)
    hidden = np.stack([clip[f"hx/{function}"][1:].any(1) for clip in clips]).any(0)
    return max(int(np.flatnonzero(frames | hidden).max(initial=0)) + 1, 1)


def choose_functions(store: SaliencyStore, names: Sequence[str]) -> tuple[str, ...]:
    """The named functions of a run, in the order given; all of them if none is named."""
    unknown = [name for name in names if name not in store.functions]
    if unknown:
        raise UsageError(
            f"{store.path} has no maps of {unknown[0]!r}; choose from: {', '.join(store.functions)}"
        )
    return tuple(dict.fromkeys(names)) or store.functions


def check_arrays(store: SaliencyStore, clip: dict[str, np.ndarray], functions: Sequence[str]) -> None:
    """Raises UsageError for a run whose maps or hidden gradients were not asked for."""
    lacking = [f"{kind}/{f}" for f in functions for kind in ("map", "hx") if f"{kind}/{f}" not in clip]
    if lacking:
        raise UsageError(
            f"{store.path} holds no {lacking[0]}: make the maps with saliency_exps.py --wrt frames hidden"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [..., A] of logits, in float32."""
    grown = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return (grown / grown.sum(-1, keepdims=True)).astype(np.float32)
