"""The training loop of the world model; a stopped run resumes bit for bit."""

import math
from pathlib import Path

import numpy as np
import torch

from common.checkpoints import (
    last_model,
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
from common.policy import Policy
from common.prefetch import prefetch
from common.progress import progress_bar
from common.stopping import SaveClock, saving_on_stop, uninterrupted
from common.throughput import RunningMean, ThroughputClock, as_numbers
from common.video import write_video
from generative.model.config import LossScales, TrainConfig, WorldModelConfig
from generative.model.world_model import WorldModel
from generative.model.world_model_file import save_world_model
from generative.simulator import freeze
from generative.training.data import VALIDATION_STREAM, WindowSource, seeded_generator
from generative.training.ema import EMA
from generative.training.errors import means_over, psnr
from generative.training.losses import NOISE, TERMS, TRAINED, loss_terms, total_loss
from generative.training.motion_data import SIDE, MotionBatch, MotionData
from generative.training.motion_loss import motion_terms
from generative.training.partial_weights import load_partial
from generative.training.preview import preview_frames
from generative.training.progress import COLUMNS
from generative.training.teacher_forcing import draw_noise
from rollouts.segment import Segment

_KIND = "world model training state"
MOTION_FILE = "motion_data.bin"
PREVIEW_WINDOWS = 8
PREVIEW_FPS = 6
PREVIEW_SCALE = 3


class Trainer:
    """Trains a world model. All random numbers are keyed by the seed and the number of the batch.

    Writes into `directory`: progress.csv; at each save model_<batches>.safetensors (averaged weights), a
    preview video of held-out windows, and train_state.safetensors, which training resumes from;
    best.safetensors, the weights with the lowest val_loss so far. Outside of `uninterrupted` blocks the state
    is always that of a whole batch, so that an interrupt can save it at once.

    Args:
        model: architecture of the world model.
        config: training hyperparameters.
        scales: weights of the loss terms.
        source: windows of recorded rollouts.
        agent: the agent inside; frozen here.
        directory: where everything is written.
        seed: of weights, windows and noise.
        device: that trains.
        meta: provenance for the checkpoints' description.
        init_from: weights of another world model, loaded where names and shapes match.
        ranks: this process's place in a distributed run.
    """

    def __init__(
        self,
        model: WorldModelConfig,
        config: TrainConfig,
        scales: LossScales,
        source: WindowSource,
        agent: Policy,
        directory: Path,
        seed: int,
        device: torch.device,
        meta: dict,
        init_from: dict[str, torch.Tensor] | None = None,
        ranks: DistContext = DistContext(),
    ):
        torch.manual_seed(seed)
        freeze(agent)
        self.config = config
        self.scales = scales
        self.source = source
        self.agent = agent
        self.ranks = ranks
        self.directory = directory
        self.seed = seed
        self.device = device
        self.meta = meta
        self.model = WorldModel(model).to(device)
        if init_from is not None:
            load_partial(self.model, init_from)
        self.average = EMA(self.model, config.ema_decay)
        self.batches = 0
        self._motion_data = None
        self._enter_stage(0)
        self._sums = RunningMean()
        if self._state_path.exists():
            self._load()
        self.log = CsvLog(directory / "progress.csv", COLUMNS, self.batches) if ranks.first else None

    @property
    def _state_path(self) -> Path:
        return self.directory / "train_state.safetensors"

    def train(self) -> dict:
        """Trains to the last batch and returns the last row of the log (in the process that writes it).

        A KeyboardInterrupt saves the state of the last whole batch. Raises FloatingPointError when a loss
        term is not finite.
        """
        total = self.config.num_batches
        self._last_row = self.log.last if self.log else {}
        self._clock = ThroughputClock(self.log.wall_time if self.log else 0.0)
        self._save_clock = SaveClock()
        self._save_clock_rang = False
        bar = progress_bar(
            total=total,
            initial=self.batches,
            unit="batch",
            desc="train",
            smoothing=0.05,
            disable=not self.ranks.first,
        )
        with saving_on_stop(self._keep), bar:
            if self.batches and (self._lacks_row() or self._lacks_files()):
                self._log_and_save()  # the run was stopped before it
            while self.batches < total:
                self._enter_stage_if_new()
                last = self.batches + self.config.stage_left(self.batches)
                for batch in self._clock.timed(prefetch(self._train_batch, self.batches, last)):
                    self.update(batch.to(self.device))
                    self._log_and_save()
                    bar.update()
                    bar.set_postfix_str(self._progress_note(), refresh=False)
                self._close_motion_data()
        if self.log:
            self.log.close()
        return self.log.last if self.log else {}

    def _progress_note(self) -> str:
        """The stage, and the last validation loss in it."""
        row = self._last_row
        loss = row.get("val_loss", row.get("loss")) if row and row.get("stage") == self.stage else None
        return self.stage if loss in (None, "") else f"{self.stage}, loss {float(loss):.2f}"

    def _log_and_save(self) -> None:
        """Writes the log row and checkpoint that are due after a batch."""
        if self._lacks_row():
            self._last_row = self._row()
        if self._due(self.config.save_interval):
            self._save()
        elif self._save_clock_rang:
            self._refuse_broken()
            self._save_state()

    def _train_batch(self, step: int) -> Segment | MotionBatch:
        """This process's windows of a batch of the current stage."""
        if self.stage != "motion":
            return self._stage_source.train_batch(step, self.config.batch_size, self.ranks.mine)
        windows, weight = self.source.draw(step, self.config.motion_batch_size, self.ranks.mine)
        return self._motion_windows(windows, weight)

    def _held_out_batch(self, i: int) -> Segment | MotionBatch:
        """The i-th validation batch, of training windows where none are held out."""
        if not len(self.source.validation):
            return self._train_batch(i).to(self.device)
        if self.stage != "motion":
            batch = self._stage_source.validation_batch(i, self.config.batch_size, self.ranks.mine)
            return batch.to(self.device)
        windows = self.source.draw_validation(i, self.config.motion_batch_size, self.ranks.mine)
        return self._motion_windows(windows, torch.ones(len(windows))).to(self.device)

    def _motion_windows(self, windows: np.ndarray, weight: torch.Tensor) -> MotionBatch:
        table = self.source.windows.table[windows]
        return self._open_motion_data().batch(table, self.source.windows.length, weight)

    def _open_motion_data(self) -> MotionData:
        """The encoded surroundings that the motion stage trains on; the first process encodes them."""
        if self._motion_data is None:
            path = self.directory / MOTION_FILE
            make = lambda: MotionData(self.model, self.source.windows, path, self.device)  # noqa: E731
            if self.ranks.first:
                self._motion_data = make()
            self.ranks.broadcast("encoded")
            self._motion_data = self._motion_data or make()
        return self._motion_data

    def _close_motion_data(self) -> None:
        """Deletes the encoded surroundings, which no other stage needs."""
        self._motion_data = None
        if self.ranks.first:
            (self.directory / MOTION_FILE).unlink(missing_ok=True)

    def update(self, segment: Segment | MotionBatch) -> None:
        """One optimiser step on this process's windows of a batch.

        Adds the loss terms, their sum and the gradient norm, averaged over processes, to the running means.
        """
        self._enter_stage_if_new()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate(self.batches)
        terms = self._terms(self.model, segment, self.batches)
        loss = total_loss(terms, self.scales)
        values = as_numbers(terms | {"loss": loss, "frames": segment.mask.sum()}) | {
            "due": float(self._save_clock.due)
        }
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(self.trained)
        values = self.ranks.mean(values)  # now that no process waits for another
        self._refuse_bad(values)
        values["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.trained, self.config.grad_clip_norm).item()
        self._refuse_bad(values)
        self._clock.frames += values.pop("frames") * self.ranks.size
        self._save_clock_rang = values.pop("due") > 0
        with uninterrupted():
            self.optimizer.step()
            self.average.update(self.batches + 1)
            self._sums.add(values)
            self.batches += 1

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """All loss terms of the averaged weights on held-out windows, with the same windows and noise each
        time.

        Empty where no layout is held out.
        """
        if not len(self.source.validation):
            return {}
        sums = RunningMean()
        for i in range(self.config.validation_batches):
            terms = self._terms(self.average.model, self._held_out_batch(i), VALIDATION_STREAM + i)
            sums.add(as_numbers(terms | {"loss": total_loss(terms, self.scales)}))
        means = self.ranks.mean(sums.means())
        self._refuse_bad(means)
        return {f"val_{name}": value for name, value in self._with_psnr(means).items()}

    def _enter_stage_if_new(self) -> None:
        if self.config.stage_of(self.batches)[0] != self.stage:
            self._enter_stage(self.batches)

    def _enter_stage(self, batch: int) -> None:
        """Begins the stage of a batch: its parameters, with a new optimiser."""
        self.stage, _ = self.config.stage_of(batch)
        prefixes = TRAINED[self.stage]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=self.config.learning_rate(batch), fused=True)
        self.average.skip_settled(self.batches)
        short = self.stage == "latent"  # it looks at the start alone
        self._stage_source = (
            self.source.shortened(self.model.config.num_initializing_steps) if short else self.source
        )
        self.best = math.inf

    def _terms(self, model: WorldModel, batch: Segment | MotionBatch, key: int) -> dict[str, torch.Tensor]:
        """The loss terms of this process's windows of a batch, with the noise of `key`."""
        generator = seeded_generator(self.device, self.seed, key)
        c = model.config
        if self.stage == "motion":
            shape = (self.config.motion_batch_size, SIDE, SIDE, c.code_size)
            noise = torch.randn(shape, generator=generator, device=self.device)[self.ranks.mine]
            with means_over(self.ranks):
                return motion_terms(model, batch, self.config.free_running_fraction, noise)
        steps = len(batch.mask) - c.num_initializing_steps + 1
        noise = draw_noise(c, steps, self.config.batch_size, generator, NOISE[self.stage])
        with means_over(self.ranks):
            return loss_terms(self.stage, model, batch, noise.windows(self.ranks.mine), self.agent)

    def _refuse_bad(self, values: dict[str, float]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            bad_terms = (
                "every term of the loss"
                if not any(math.isfinite(values[name]) for name in TERMS if name in values)
                else ", ".join(bad)
            )
            last = last_model(self.directory)
            good = f"the last good weights are {last}" if last else "no checkpoint had been written yet"
            remedy = "try a lower --lr, and --world_model_file to start from good weights"
            raise FloatingPointError(
                f"{bad_terms} not finite at batch {self.batches}: training stopped, {good}; {remedy}"
            )

    @torch.no_grad()
    def _refuse_broken(self) -> None:
        """Computes the loss of the current weights, so that diverged ones replace no good checkpoint."""
        terms = self._terms(self.model, self._held_out_batch(0), VALIDATION_STREAM)
        self._refuse_bad(self.ranks.mean(as_numbers(terms)))

    def _preview_windows(self, mine: slice) -> Segment:
        """Held-out windows, or training windows where none are held out."""
        draw = self.source.validation_batch if len(self.source.validation) else self.source.train_batch
        return draw(0, self.config.batch_size, mine).to(self.device)

    def _due(self, every: int) -> bool:
        return self.batches % every == 0 or self._stage_is_over()

    def _stage_is_over(self) -> bool:
        """Whether the last batch was the last of its stage."""
        if not self.batches:
            return False
        stage, number = self.config.stage_of(self.batches - 1)
        return number + 1 == self.config.stage_batches(stage)

    def _lacks_row(self) -> bool:
        """Whether a log row is due and not yet written (writing it resets the running means)."""
        return self._due(self.config.log_interval) and self._sums.count > 0

    def _row(self) -> dict:
        row = {
            "batch": self.batches,
            "stage": self.stage,
            "lr": self.config.learning_rate(self.batches - 1),
        } | self._with_psnr(self._sums.means())
        row |= self._clock.read() | self.validate()
        self.average.skip_settled(self.batches)
        with uninterrupted():
            self._sums = RunningMean()
            if row.get("val_loss", math.inf) < self.best:
                self.best = row["val_loss"]
                self._save_model("best")
            if self.log:
                self.log.write(row)
        self._clock.reset()
        return row

    def _with_psnr(self, means: dict[str, float]) -> dict[str, float]:
        if "recon" not in means:
            return means
        return means | {"psnr": psnr(means["recon"], self.model.config.obs_shape)}

    def _save(self) -> None:
        self._refuse_broken()
        self._save_model(f"model_{self.batches}")
        if self.ranks.first:
            self._write_preview()
        self._save_state()

    def _lacks_files(self) -> bool:
        """Whether a checkpoint is due whose files are incomplete; its video is written last."""
        complete = (self.directory / f"preview_{self.batches}.mp4").exists()
        return self._due(self.config.save_interval) and not self.ranks.broadcast("yes" if complete else "")

    def _save_state(self) -> None:
        if self.ranks.first:
            tensors = with_prefix("model", self.model.state_dict()) | with_prefix(
                "average", self.average.model.state_dict()
            )
            tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
            best = self.best if math.isfinite(self.best) else None
            save_checkpoint(
                self._state_path,
                tensors,
                {
                    "kind": _KIND,
                    "batches": self.batches,
                    "best": best,
                    "sums": vars(self._sums),
                },
            )
        self._save_clock.reset()

    def _keep(self) -> str | None:
        """Saves the state when the run is stopped; returns the message for the user, in the process that
        writes.
        """
        self._save_state()
        done = f"{self.batches:,} of {self.config.num_batches:,} batches"
        message = f"the state after {done} is saved in {self.directory}"
        return message if self.ranks.first else None

    def _save_model(self, name: str) -> None:
        if self.ranks.first:
            meta = self.meta | {"batches": self.batches}
            save_world_model(self.directory / f"{name}.safetensors", self.average.model, meta)

    def _write_preview(self) -> None:
        segment = self._preview_windows(slice(PREVIEW_WINDOWS))
        frames = preview_frames(self.average.model, segment, self.agent)
        write_video(self.directory / f"preview_{self.batches}.mp4", frames, PREVIEW_FPS, PREVIEW_SCALE)

    def _load(self) -> None:
        tensors, meta = load_training_state(self._state_path, _KIND)
        with resuming(self._state_path):
            load_module(self.model, without_prefix("model", tensors), str(self._state_path))
            load_module(self.average.model, without_prefix("average", tensors), str(self._state_path))
            self.batches = look_up(meta, "batches", int, self._state_path)
            self._enter_stage(max(self.batches - 1, 0))  # the stage that the saved optimiser is of
            load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
            best = look_up(meta, "best", float | None, self._state_path)
            self.best = math.inf if best is None else best
            self._sums = RunningMean(
                look_up(meta, "sums.count", int, self._state_path),
                look_up(meta, "sums.totals", dict[str, float], self._state_path),
            )
