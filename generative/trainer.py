"""Trains a world model on recorded windows; stoppable anywhere, and resumed to the same bits."""

import math
import time
from pathlib import Path

import torch

from common.checkpoints import load_module, load_optimizer, load_training_state, optimizer_tensors, save_checkpoint, with_prefix, without_prefix
from common.csv_log import CsvLog
from common.policy import Policy
from common.progress import progress_bar
from common.stopping import StopSignal
from generative.config import LossScales, TrainConfig, WorldModelConfig
from generative.data import VALIDATION_STREAM, WindowSource, read_ahead, seeded_generator
from generative.losses import draw_noise, loss_terms, psnr, total_loss
from generative.model import WorldModel, save_world_model
from generative.progress import COLUMNS
from generative.simulator import freeze
from rollouts.segment import Segment


class Trainer:
    """Receives its parts and owns none. Everything random is keyed by the seed and the number of the batch.

    source: windows of recorded rollouts. agent: the agent inside, frozen. meta: what a checkpoint says of where it comes from.
    init_from: a world model of the same shape whose weights to begin with.
    """

    def __init__(
        self, model: WorldModelConfig, config: TrainConfig, scales: LossScales, source: WindowSource, agent: Policy,
        directory: Path, seed: int, device: torch.device, meta: dict, init_from: WorldModel | None = None,
    ):  # fmt: skip
        torch.manual_seed(seed)
        freeze(agent)
        self.config, self.scales, self.source, self.agent = config, scales, source, agent
        self.directory, self.seed, self.device, self.meta = directory, seed, device, meta
        self.model = WorldModel(model).to(device)
        if init_from is not None:
            self.model.load_state_dict(init_from.state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.batches, self._sums = 0, _Sums()
        if self._state_path.exists():
            self._load()
        self.log = CsvLog(directory / "progress.csv", COLUMNS, self.batches)

    @property
    def _state_path(self) -> Path:
        return self.directory / "train_state.safetensors"

    def train(self) -> dict:
        """Runs to the last batch (or to a stop signal) and returns the last row of the log. Raises FloatingPointError when a term of the loss is not finite."""
        self._clock, row, total = _Clock(self.log.wall_time), self.log.last, self.config.num_batches
        ahead = read_ahead(lambda step: self.source.train_batch(step, self.config.batch_size), self.batches, total)
        with StopSignal() as stop, progress_bar(total=total, initial=self.batches, unit="batch", desc="train", smoothing=0.05) as bar:
            for segment in self._clock.timed(ahead):
                self._sums.add(self.update(segment.to(self.device)))
                self._clock.frames += int(segment.mask.sum())
                self.batches += 1
                if self._due(self.config.log_interval):
                    row = self._row()
                    self.log.write(row)
                if stop.asked or self._due(self.config.save_interval):
                    self._save()
                bar.update()
                bar.set_postfix_str(f"psnr {float(row.get('psnr', 'nan')):.1f} dB", refresh=False)
                if stop.asked:
                    break
        self.log.close()
        return row

    def update(self, segment: Segment) -> dict[str, float]:
        """One optimiser step on a batch. Returns the terms, their sum and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, (self.batches + 1) / max(self.config.warmup, 1))
        watched = self.agent if self.scales.loss_scale_hx or self.scales.loss_scale_act_log_probs else None
        shown = math.ceil(self.config.agent_share * self.config.batch_size)
        terms = loss_terms(self.model, segment, self._noise(segment, self.batches), watched, shown, self.scales.free_nats)
        loss = total_loss(terms, self.scales)
        values = as_numbers(terms | {"loss": loss})
        self._refuse_bad(values)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        values["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm).item()
        self._refuse_bad(values)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The terms on held-out levels, all of them, under the same windows and noise each time; nothing where no level is held out."""
        if not len(self.source.validation):
            return {}
        sums = _Sums()
        for i in range(self.config.validation_batches):
            segment = self.source.validation_batch(i, self.config.batch_size).to(self.device)
            terms = loss_terms(self.model, segment, self._noise(segment, VALIDATION_STREAM + i), self.agent, None, self.scales.free_nats)
            sums.add(as_numbers(terms | {"loss": total_loss(terms, self.scales)}))
        return {f"val_{name}": value for name, value in self._with_psnr(sums.means()).items()}

    def _noise(self, segment: Segment, key: int):
        steps = len(segment.mask) - self.model.config.num_initializing_steps + 1
        return draw_noise(self.model.config, steps, segment.mask.shape[1], seeded_generator(self.device, self.seed, key))

    def _refuse_bad(self, values: dict[str, float]) -> None:
        bad = [name for name, value in values.items() if not abs(value) < float("inf")]
        if bad:
            kept = f"the last good checkpoint is {self._state_path}" if self._state_path.exists() else "no checkpoint had been written yet"
            raise FloatingPointError(f"{', '.join(bad)} not finite at batch {self.batches}: training stopped, {kept}; try a lower --lr")

    def _due(self, every: int) -> bool:
        return self.batches % every == 0 or self.batches == self.config.num_batches

    def _row(self) -> dict:
        row = {"batch": self.batches, "lr": self.optimizer.param_groups[0]["lr"]} | self._with_psnr(self._sums.means())
        self._sums = _Sums()
        row |= self._clock.read() | self.validate()
        self._clock.reset()
        return row

    def _with_psnr(self, means: dict[str, float]) -> dict[str, float]:
        return means | {"psnr": psnr(means["image"], self.model.config.obs_shape)}

    def _save(self) -> None:
        save_world_model(self.directory / f"model_{self.batches}.safetensors", self.model, self.meta | {"batches": self.batches})
        tensors = with_prefix("model", self.model.state_dict()) | with_prefix("optimizer", optimizer_tensors(self.optimizer))
        meta = {"kind": "world model training state", "batches": self.batches, "sums": vars(self._sums)}
        save_checkpoint(self._state_path, tensors, meta)

    def _load(self) -> None:
        tensors, meta = load_training_state(self._state_path)
        load_module(self.model, without_prefix("model", tensors), str(self._state_path))
        load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
        self.batches, self._sums = meta["batches"], _Sums(**meta["sums"])


class _Sums:
    """Running means of named numbers since the last row."""

    def __init__(self, count: int = 0, totals: dict[str, float] | None = None):
        self.count, self.totals = count, totals or {}

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.totals.items()}


class _Clock:
    """Where the time went since the last row: frames per second of training, and the share spent waiting for windows."""

    def __init__(self, wall_time: float):
        self._begun = time.monotonic() - wall_time
        self.reset()

    def reset(self) -> None:
        self._lap, self.waited, self.frames = time.monotonic(), 0.0, 0

    def timed(self, batches):
        """The same batches, with the time each was waited for noted."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.monotonic() - asked
            yield batch

    def read(self) -> dict[str, float]:
        now = time.monotonic()
        spent = now - self._lap
        return {"wall_time": now - self._begun, "frames_per_second": self.frames / spent, "wait_share": self.waited / spent}


def as_numbers(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Scalar tensors as Python numbers, fetched from the device together."""
    return dict(zip(tensors, torch.stack([x.detach() for x in tensors.values()]).tolist()))
