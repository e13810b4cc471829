"""The training loop of Decision Transformers; a stopped run resumes bit for bit."""

import math
from pathlib import Path

import numpy as np
import torch

from common.checkpoints import (
    load_module,
    load_optimizer,
    load_training_state,
    optimizer_tensors,
    resuming,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.csv_log import CsvLog
from common.descriptions import look_up
from common.distributed import DistContext
from common.prefetch import prefetch
from common.progress import progress_bar
from common.stopping import SaveClock, saving_on_stop, uninterrupted
from common.throughput import CLOCK_COLUMNS, RunningMean, ThroughputClock, as_numbers
from decision.calibration import PeriodicRollouts
from decision.config import TrainConfig
from decision.dropout import share_dropout
from decision.model import DecisionTransformer
from decision.model_file import save_dt
from decision.optim import learning_rate, make_optimizer
from decision.windows import DTBatch, DTWindows, WindowSampler

_KIND = "decision transformer training state"
COLUMNS = (
    "batch",
    "wall_time",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "grad_norm",
    "lr",
    *CLOCK_COLUMNS[1:],
)


class Trainer:
    """Trains a Decision Transformer or clone. All random numbers are keyed by seed and number of the batch.

    Writes into `directory`: progress.csv and TensorBoard scalars; model_<batches>.safetensors at each save;
    best.safetensors, the weights with the lowest val_loss so far; train_state.safetensors, which training
    resumes from.

    Args:
        model: the network, initialised.
        config: training hyperparameters.
        windows: all windows of the store.
        sampler: which windows each batch holds.
        directory: where everything is written.
        seed: of dropout.
        device: that trains.
        meta: provenance for the checkpoints' description.
        ranks: this process's place in a distributed run.
        rollouts: plays episodes every eval_interval batches; None for no rollouts.
    """

    def __init__(
        self,
        model: DecisionTransformer,
        config: TrainConfig,
        windows: DTWindows,
        sampler: WindowSampler,
        directory: Path,
        seed: int,
        device: torch.device,
        meta: dict,
        ranks: DistContext = DistContext(),
        rollouts: PeriodicRollouts | None = None,
    ):
        self.model = model.to(device).train()
        self.config = config
        self.windows = windows
        self.sampler = sampler
        self.directory = directory
        self.seed = seed
        self.device = device
        self.meta = meta
        self.ranks = ranks
        self.rollouts = rollouts
        share_dropout(self.model, ranks)
        self.optimizer = make_optimizer(self.model, config)
        self.batches = 0
        self.best = math.inf
        self._sums = RunningMean()
        if self._state_path.exists():
            self._load()
        columns = COLUMNS + (rollouts.columns if rollouts else ())
        self.log = CsvLog(directory / "progress.csv", columns, self.batches) if ranks.first else None

    @property
    def _state_path(self) -> Path:
        return self.directory / "train_state.safetensors"

    def train(self) -> dict:
        """Trains to the last batch and returns the last row of the log (in the process that writes it).

        A KeyboardInterrupt saves the state of the last whole batch. Raises FloatingPointError when the loss
        is not finite.
        """
        total = self.config.num_batches
        self._last_row = self.log.last if self.log else {}
        self._clock = ThroughputClock(self.log.wall_time if self.log else 0.0)
        self._save_clock = SaveClock()
        bar = progress_bar(
            total=total, initial=self.batches, unit="batch", desc="train", disable=not self.ranks.first
        )
        with saving_on_stop(self._keep), bar:
            if self.batches:
                self._log_and_save()  # the run may have been stopped before it
            for batch in self._clock.timed(prefetch(self._train_batch, self.batches, total)):
                self.update(batch.to(self.device))
                self._log_and_save()
                bar.update()
                bar.set_postfix_str(self._progress_note(), refresh=False)
        if self.log:
            self.log.close()
        return self.log.last if self.log else {}

    def _progress_note(self) -> str:
        loss = self._last_row.get("val_loss") or self._last_row.get("loss")
        return f"loss {float(loss):.3f}" if loss else ""

    def _train_batch(self, step: int) -> DTBatch:
        return self.windows.batch(self.sampler.draw(step, self.config.batch_size)[self.ranks.mine])

    def update(self, batch: DTBatch) -> None:
        """One optimiser step; loss, accuracy and gradient norm are added to the running means."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.batches)
        if self.model.config.dropout:
            torch.manual_seed(_key(self.seed, self.batches, 0))
        loss, accuracy, steps = self._weighted_loss(batch)
        values = self.ranks.mean(as_numbers({"loss": loss, "accuracy": accuracy}))
        self._refuse_bad(values)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.ranks.average_gradients(trained)
        values["grad_norm"] = torch.nn.utils.clip_grad_norm_(trained, self.config.gradient_clip).item()
        self._refuse_bad(values)
        self._clock.frames += steps
        with uninterrupted():
            self.optimizer.step()
            self._sums.add(values)
            self.batches += 1

    def _weighted_loss(self, batch: DTBatch) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Loss and accuracy, whose means over processes are those over all real steps, and their number."""
        own = float(batch.mask.sum())
        mean = self.ranks.mean({"steps": own})["steps"]
        loss, accuracy = self.model.loss(batch)
        return loss * (own / mean), accuracy * (own / mean), mean * self.ranks.size

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and accuracy on held-out windows, the same each time; empty where no layout is held out."""
        if not len(self.sampler.validation):
            return {}
        sums = RunningMean()
        self.model.eval()
        for i in range(self.config.validation_batches):
            last = self.sampler.draw_validation(i, self.config.batch_size)[self.ranks.mine]
            loss, accuracy, _ = self._weighted_loss(self.windows.batch(last).to(self.device))
            sums.add(as_numbers({"val_loss": loss, "val_accuracy": accuracy}))
        self.model.train()
        return self.ranks.mean(sums.means())

    def _play(self) -> dict[str, float]:
        """Mean returns of rollouts, where they are due and in the process that writes."""
        if not (self.rollouts and self.ranks.first and self.batches % self.config.eval_interval == 0):
            return {}
        returns = self.rollouts(self.model.eval())
        self.model.train()
        return returns

    def _refuse_bad(self, values: dict[str, float]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"{' and '.join(bad)} of batch {self.batches + 1} is not finite: lower --lr; the checkpoints"
                f" in {self.directory} are from before it"
            )

    def _due(self, every: int) -> bool:
        return self.batches % every == 0 or self.batches == self.config.num_batches

    def _log_and_save(self) -> None:
        """Writes the log row and checkpoint that are due after a batch and not there yet."""
        if self._due(self.config.log_interval) and self._sums.count:
            self._last_row = self._row()
        name = f"model_{self.batches}"
        lacks_file = not (self.directory / f"{name}.safetensors").exists()
        if self._due(self.config.save_interval) and self.ranks.broadcast("yes" if lacks_file else ""):
            self._save_state()
            self._save_model(name)
        elif self.ranks.broadcast("yes" if self._save_clock.due else ""):
            self._save_state()

    def _row(self) -> dict:
        row = {"batch": self.batches, "lr": learning_rate(self.config, self.batches - 1)}
        row |= self._sums.means() | self._clock.read() | self.validate() | self._play()
        with uninterrupted():
            self._sums = RunningMean()
            if row.get("val_loss", math.inf) < self.best:
                self.best = row["val_loss"]
                self._save_model("best")
            if self.log:
                self.log.write(row)
        self._clock.reset()
        return row

    def _save_model(self, name: str) -> None:
        if self.ranks.first:
            save_dt(self.directory / f"{name}.safetensors", self.model, self.meta | {"batches": self.batches})

    def _save_state(self) -> None:
        if self.ranks.first:
            tensors = with_prefix("model", self.model.state_dict())
            tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
            best = self.best if math.isfinite(self.best) else None
            meta = {"kind": _KIND, "batches": self.batches, "best": best, "sums": vars(self._sums)}
            save_checkpoint(self._state_path, tensors, meta)
        self._save_clock.reset()

    def _keep(self) -> str | None:
        """Saves the state when the run is stopped; returns the message for the user, in the process that
        writes.
        """
        self._save_state()
        done = f"{self.batches:,} of {self.config.num_batches:,} batches"
        return f"the state after {done} is saved in {self.directory}" if self.ranks.first else None

    def _load(self) -> None:
        tensors, meta = load_training_state(self._state_path, _KIND)
        with resuming(self._state_path):
            load_module(self.model, without_prefix("model", tensors), str(self._state_path))
            load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
            self.batches = look_up(meta, "batches", int, self._state_path)
            best = look_up(meta, "best", float | None, self._state_path)
            self.best = math.inf if best is None else best
            self._sums = RunningMean(
                look_up(meta, "sums.count", int, self._state_path),
                look_up(meta, "sums.totals", dict[str, float], self._state_path),
            )


def _key(*numbers: int) -> int:
    """A seed for torch from several integers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
