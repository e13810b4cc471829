"""One target of a run: baselines, optimisation, rollouts under fresh noise, and the nearest recorded moments.

Each part is a file of the run; the optimisation's state is stored at every evaluation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from analysis.io.artefacts import cached_part
from analysis.targets.experiment import BASELINES, NO_LEVEL, Experiment
from common.checkpoints import load_training_state, save_checkpoint
from interpret.targets.best_of_n import Candidates, at_once, best_of_each, score_candidates
from interpret.targets.frame_diversity import first_frames
from interpret.targets.latent_optimisation import LatentOptimiser, simulated_steps
from interpret.targets.recorded_moments import nearest_latents, nearest_states
from interpret.targets.target_rollouts import Reading, TargetRollouts, noise_keys, plain_trace
from interpret.targets.targets import Target

LATENTS = "latents for a target"
"""Kind of the file of a target's latents."""
STATE = "state of a latent optimisation"
MATCHES = ("hidden", "latent")
"""What recorded moments are matched by."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TargetRun:
    """One target: every part is read if it exists, and computed otherwise.

    advance: called with simulated steps as they are finished.
    """

    experiment: Experiment
    target: Target
    reading: Reading
    advance: Callable[[int], object]

    def parts(self) -> dict[str, Arrays]:
        """recorded and random: score, penalty and value of candidates [M]. levels: of each arm's latents [N].
        curves: [evaluations, N]. report, shown, own: see `_report`, `_show_arms`, `_own_values`. The latents
        [N, Z] of each arm are a file of their own.
        """
        e = self.experiment
        parts = {baseline: self._candidates(baseline) for baseline in BASELINES}
        scale = float(parts["recorded"]["value"].std())
        scale = scale if scale > 1e-6 else 1.0
        chosen = {
            f"best_{baseline}": (baseline, self._best(parts[baseline], scale)) for baseline in BASELINES
        }
        if e.begin.given is None:
            most = e.begin.pool * e.num_starts
            chosen["start"] = e.begin.baseline, self._best(parts[e.begin.baseline], scale, most)
        latents = {arm: e.draw(baseline)(numbers) for arm, (baseline, numbers) in chosen.items()}
        latents.setdefault("start", e.begin.given)
        levels = {arm: e.candidate_levels(*one) for arm, one in chosen.items()}
        levels.setdefault("start", np.full(e.num_starts, NO_LEVEL))
        optimiser = self._optimise(latents["start"], scale)
        latents["optimised"], levels["optimised"] = optimiser.latents.detach(), levels["start"]
        facts = {"kind": LATENTS, "target": self.target.name, **e.ids}
        save_checkpoint(self._path(), latents, facts)
        curves = {name: torch.stack(rows).cpu().numpy() for name, rows in optimiser.curves.items()}
        return parts | {
            "levels": levels,
            "curves": curves,
            "report": self._cached("report", lambda: self._report(latents)),
            "shown": self._cached("shown", lambda: self._show_arms(latents, levels)),
            "own": self._cached("own", lambda: self._own_values(chosen)),
        }

    @property
    def _rollouts(self) -> TargetRollouts:
        return self.experiment.rollouts(self.target, self.reading)

    def _path(self, part: str = "") -> Path:
        return self.experiment.run.dir / f"{self.target.file_name}{part}.safetensors"

    def _cached(self, part: str, compute: Callable[[], Arrays]) -> Arrays:
        return cached_part(self.experiment.run, f"{self.target.file_name}_{part}", compute)

    def _candidates(self, baseline: str) -> Arrays:
        """The scored candidates of a baseline [M]."""
        e = self.experiment
        if self._path(f"_{baseline}").exists():
            self.advance(e.num_candidates(self.reading) * e.candidate_cost(self.reading))
        unfinished = self._path(f"_{baseline}_state")
        scored = self._cached(baseline, lambda: self._score(baseline, unfinished))
        unfinished.unlink(missing_ok=True)
        return scored

    def _score(self, baseline: str, unfinished: Path) -> Arrays:
        """Scores candidates, and stores those so far after every tenth; goes on from what is stored."""
        e = self.experiment
        count, cost = e.num_candidates(self.reading), e.candidate_cost(self.reading)
        draws = e.config.num_rollouts
        scored = load_training_state(unfinished, STATE)[0] if unfinished.exists() else {}
        done = len(scored.get("score", ()))
        self.advance(done * cost)
        size = at_once(self._rollouts, draws)
        tenth = size * -(-count // (10 * size))  # whole batches, so that they are the same after a kill
        while done < count:
            numbers = np.arange(done, min(done + tenth, count))
            more = score_candidates(
                self._rollouts, e.prior, e.draw(baseline), numbers, draws,
                lambda finished: self.advance(finished * cost),
            )._asdict()  # fmt: skip
            scored = {name: torch.cat([scored[name], x]) if done else x for name, x in more.items()}
            done += len(numbers)
            save_checkpoint(unfinished, scored, {"kind": STATE})
        return _numpy(scored)

    def _best(self, candidates: Arrays, scale: float, most: int | None = None) -> np.ndarray:
        """Number of the best candidate of each start [N], among the first `most` candidates."""
        scored = Candidates(*(torch.from_numpy(candidates[name][:most]) for name in Candidates._fields))
        e = self.experiment
        return best_of_each(scored.objective(scale, e.config.prior_weight), e.num_starts)

    def _own_values(self, chosen: dict[str, tuple[str, np.ndarray]]) -> Arrays:
        """By arm of recorded moments: the function on the real frames of these moments themselves [N]; NaN
        where it has none.
        """
        values = {}
        for arm, (baseline, numbers) in chosen.items():
            if baseline == "recorded":
                real = self.experiment.recorded_moments(numbers).values(self.target, self.reading)
                values[arm] = np.full(len(numbers), np.nan) if real is None else real
        return values

    def _optimise(self, start: torch.Tensor, scale: float) -> LatentOptimiser:
        """The finished optimisation; it goes on from its stored state."""
        e = self.experiment
        optimiser = LatentOptimiser(self._rollouts, e.prior, start, e.config, scale)
        path = self._path("_state")
        if path.exists():
            tensors, meta = load_training_state(path, STATE)
            optimiser.load(tensors, meta["iteration"])
        whole = simulated_steps(e.config, self.reading.steps) * e.num_starts
        counted = 0
        while True:
            upto = whole * optimiser.iteration // e.config.num_iterations
            self.advance(upto - counted)
            counted = upto
            if optimiser.done:
                return optimiser
            optimiser.step()
            if e.config.is_evaluated(optimiser.iteration):
                facts = {"kind": STATE, "iteration": optimiser.iteration}
                save_checkpoint(path, optimiser.tensors(), facts)

    def _report(self, latents: dict[str, torch.Tensor]) -> Arrays:
        """By arm: value, score and ended [N], means over fresh noise; percentile, and distance from the start
        in whitened coordinates [N]; distances [N, N] between first frames and between latents.
        """
        e = self.experiment
        begun = e.prior.whiten(latents["start"])
        arrays = {}
        for arm, z in latents.items():
            scored = self._rollouts.scored(z, np.arange(len(z)), e.sizes.report_rollouts, "report")
            u = e.prior.whiten(z)
            frames = first_frames(e.simulator, z, e.sizes.batch_size).flatten(1)
            one = {
                "value": scored.value.mean(1),
                "score": self.target.score(scored.value).mean(1),
                "ended": scored.ended.mean(1),
                "percentile": e.prior.percentile(u),
                "moved": (u - begun).norm(dim=1),
                "frame_distance": torch.cdist(frames, frames) / frames.shape[1] ** 0.5,
                "latent_distance": torch.cdist(u, u),
            }
            arrays |= {f"{arm}.{name}": x for name, x in _numpy(one).items()}
        return arrays

    def _show_arms(self, latents: dict[str, torch.Tensor], levels: dict[str, np.ndarray]) -> Arrays:
        """By arm, one rollout of each latent: obs [T, N, H, W, C], length until the simulator expects an end
        [N], value of the function [N], and for each kind of match the nearest recorded moments [N].
        """
        e = self.experiment
        states = e.moments.hidden_at(self.reading)
        arrays = {}
        for arm, z in latents.items():
            parts = [self._show(part, first) for first, part in _split(z, e.sizes.batch_size)]
            axes = {"obs": 1, "length": 0, "value": 0, "hidden": 0}
            shown = {name: np.concatenate([one[name] for one in parts], axis) for name, axis in axes.items()}
            of_moments = e.moments.latent, e.moments.level, e.seed
            matches = {
                "hidden": nearest_states(shown.pop("hidden"), levels[arm], states, e.moments.level),
                "latent": nearest_latents(z.cpu().numpy(), levels[arm], *of_moments),
            }
            for kind, match in matches.items():
                shown |= {f"{kind}.{name}": x for name, x in match._asdict().items()}
            arrays |= {f"{arm}.{name}": x for name, x in shown.items()}
        return arrays

    def _show(self, z: torch.Tensor, first: int) -> Arrays:
        """One rollout of each latent [B, Z], the first of which has number `first`."""
        e = self.experiment
        keys = noise_keys(e.seed, "show", first + np.arange(len(z)), np.zeros(len(z), np.int64))
        trace = plain_trace(e.simulator, z, self.reading.steps, keys)
        segment = e.simulator.simulate(z, e.sizes.num_sim_steps, keys, ends=False)
        goes_on = (segment.extra["done_prob"] < 0.5).cumprod(0)
        return _numpy(
            {
                "obs": segment.obs,
                "length": (1 + goes_on[:-1].sum(0)),
                "value": self.target.function.at(trace, self.reading.step),
                "hidden": trace.hidden[self.reading.last + 1],
            }
        )


def _split(z: torch.Tensor, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Latents up to `size` at a time, with the number of the first of them."""
    yield from zip(range(0, len(z), size), z.split(size))


def _numpy(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: x.detach().cpu().numpy() for name, x in tensors.items()}
