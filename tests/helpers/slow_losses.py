"""The world model's losses window by window and step by step, with PyTorch's own distributions."""

import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily, Normal, kl_divergence

from generative.model import twohot
from generative.model.motion_head import FAR_SCALE, FAR_SHARE
from generative.model.painter import EncodedFrame
from generative.model.player import NEIGHBOURHOOD, centre_of, surroundings, surroundings_of
from generative.model.state import no_frame
from generative.model.tile_dynamics import CLOSED
from generative.training.motion_loss import LOST, MOTION_SCALE
from generative.training.painter_loss import CODE_NOISE, INNER_WALL, OUTSIDE, RARE_KINDS, RARE_WEIGHT
from generative.training.start_loss import PLACE_OUTLIER, PLACE_WEIGHT
from generative.training.tile_loss import OPEN_COST

NO = torch.tensor([False])


def tile_of(place: float, model) -> int:
    return math.floor(place / model.config.tile_pixels + 1e-3)


def codes_around(model, encoded, true_position, position, noise, side: int = NEIGHBOURHOOD) -> torch.Tensor:
    """Noisy codes and known flags [1, side, side, K + 1] around a player who stands at `position` [1, 2], at
    most a tile from the truth; beyond the view its last tiles are repeated. noise: [SIDE, SIDE, K].
    """
    config = model.config
    found = torch.ones(1, side, side, config.code_size + 1)
    kept = noise.shape[0] // 2
    first, offset = [], []
    for axis in range(2):
        half = config.obs_shape[axis] / 2
        true_tile = tile_of(true_position[0, axis].item() + half, model)
        first.append(true_tile - tile_of(true_position[0, axis].item(), model))
        off = tile_of(position[0, axis].item() + half, model) - true_tile
        offset.append(min(max(off, -1), 1))
    for row, column in np.ndindex(side, side):
        there = [o + i - side // 2 for o, i in zip(offset, (row, column))]  # from the true centre's tile
        at = [min(max(f + i, 0), n - 1) for f, i, n in zip(first, there, config.view_shape)]
        code = encoded.codes[0, at[0], at[1]] + CODE_NOISE * noise[kept + there[0], kept + there[1]]
        found[0, row, column, :-1] = code
    return found


class SlowLosses:
    """Terms of one stage as means over what exists; shift: a mutant's misaligned actions."""

    def __init__(self, model, segment, noise, agent, shift: int = 0):
        self.model, self.segment, self.noise, self.agent, self.shift = model, segment, noise, agent, shift
        self.k = model.config.num_initializing_steps
        self.sums = defaultdict(list)

    def terms(self, stage: str) -> dict[str, torch.Tensor]:
        for b in range(self.segment.mask.shape[1]):
            getattr(self, stage)(self.window(b))
        return {name: torch.stack([x.squeeze() for x in values]).mean() for name, values in self.sums.items()}

    def window(self, b: int, labels: bool = True) -> SimpleNamespace:
        """Its frames, where they lie, their encoding, and the canvas after each of them; without labels only
        those that the latent sees.
        """
        model, segment = self.model, self.segment
        n = int(segment.mask[:, b].sum()) if labels else self.k
        obs = segment.obs[:n, b : b + 1]
        if labels and "position" in segment.extra:
            position = segment.extra["position"][:n, b : b + 1]
        else:
            position = model.locate(obs).position.detach()
        origin = np.floor(position[self.k - 1, 0].numpy() / model.config.tile_pixels + 1e-3)
        position = (position - torch.from_numpy(origin * model.config.tile_pixels)).float()
        encoded = [EncodedFrame(*model.encoder(frame, at)) for frame, at in zip(obs, position)]
        canvases = [model.add_frame(model.blank_canvas(1), encoded[0], position[0])]
        for one, at in zip(encoded[1:], position[1:]):
            canvases.append(model.add_frame(canvases[-1], one, at))
        return SimpleNamespace(b=b, n=n, obs=obs, position=position, encoded=encoded, canvases=canvases)

    def action(self, w, t: int) -> torch.Tensor:
        index = self.segment.action[t - self.shift, w.b : w.b + 1]
        return torch.nn.functional.one_hot(index, self.model.config.num_actions).float()

    def add(self, name: str, value: torch.Tensor) -> None:
        self.sums[name].append(value)

    def phases(self, w) -> None:
        """The KL of a Gaussian around the true phase, wrapped around the tile's edge, from the prediction."""
        for frame, position in zip(w.obs, w.position):
            logits = self.model.phase_head(frame)[0].log_softmax(-1)
            total = 0.0
            for axis, phase in enumerate((position[0] / self.model.config.tile_pixels).tolist()):
                bins = [96 * abs((phase - (i + 0.5) / 96 + 0.5) % 1 - 0.5) for i in range(96)]
                weights = torch.tensor([math.exp(-x * x / 2) for x in bins])
                target = weights / weights.sum()
                total = total + torch.nn.functional.kl_div(logits[axis], target, reduction="sum")
            self.add("phase", total)

    def painter(self, w) -> None:
        """F frames in order; i and i + 1 from the tiles of 0 .. i."""
        model, c = self.model, self.model.config
        times = sorted(int(x * w.n) for x in self.noise.times[:, w.b].tolist())
        canvas = model.blank_canvas(1)
        kinds_seen = []
        if "position" in self.segment.extra and c.knows_phase:
            self.phases(w)
        for i, t in enumerate(times):
            noisy = w.encoded[t]._replace(
                codes=w.encoded[t].codes + CODE_NOISE * self.noise.codes[i, w.b : w.b + 1]
            )
            if "tiles" in self.segment.extra:
                self.tile_kinds(noisy, self.segment.extra["tiles"][t, w.b], kinds_seen)
            if i == len(times) - 1:
                break
            canvas = model.add_frame(canvas, noisy, w.position[t])
            for later in (t, times[i + 1]):
                codes = model.codes_in_view(canvas, w.position[later])
                image = model.painter(codes, w.position[later], w.encoded[later].pose)
                error = (image[0] - w.obs[later, 0] / 255).square().sum(-1)
                total = torch.tensor(0.0)
                for row, column in np.ndindex(*c.obs_shape[:2]):
                    place = w.position[later, 0] + torch.tensor([row, column]) + 0.5
                    ways = [place - w.position[earlier, 0] for earlier in times[: i + 1]]
                    if any((x >= 0).all() and (x < torch.tensor(c.obs_shape[:2])).all() for x in ways):
                        total = total + error[row, column]
                self.add("recon", total)

    def tile_kinds(self, encoded, labels, seen) -> None:
        for row, column in np.ndindex(*self.model.config.view_shape):
            if encoded.share[0, row, column] < 0.5:
                continue
            kind = int(labels[row, column])
            kind = INNER_WALL if kind == OUTSIDE else kind
            choice = Categorical(logits=self.model.tile_types(encoded.codes[0, row, column]))
            weight = RARE_WEIGHT if kind in RARE_KINDS else 1.0
            self.add("tile_types", -weight * choice.log_prob(torch.tensor(kind)))

    def start(self, w):
        """The latent's sample and the start it describes."""
        model, k, last = self.model, self.k, self.k - 1
        hidden = self.agent.initial_state(1)
        for frame in w.obs[:last]:
            hidden = self.agent.advance(frame, hidden, NO, None)
        moved = w.position[:last] - w.position[1:k]
        phase = (w.position[last] / model.config.tile_pixels) % 1
        codes = model.codes_in_view(w.canvases[last], w.position[last])
        mean, log_variance = model.latent_head(codes, phase, moved, w.encoded[last].pose, hidden)
        deviation = (log_variance / 2).exp()
        self.q = Independent(Normal(mean, deviation), 1)
        z = mean + deviation * self.noise.z[w.b : w.b + 1]
        return z, model.start(z, detach_agent=False)

    def latent(self, w) -> None:
        model, last = self.model, self.k - 1
        true_position = w.position
        w = self.window(w.b, labels=False)  # this stage sees the frames only
        z, start = self.start(w)
        env = start.env
        standard = Independent(Normal(torch.zeros_like(z), 1.0), 1)
        self.add("bottleneck", kl_divergence(self.q, standard))
        self.add("recon", (env.frame[0] - w.obs[last, 0] / 255).square().sum())
        size = model.config.code_size
        wanted = model.codes_in_view(w.canvases[last], w.position[last])
        rows, columns = model.config.view_shape
        found = env.canvas[:, :rows, :columns, :size]
        error = (found - wanted).square().sum(-1) * w.encoded[last].share
        self.add("codes", error.sum())
        self.add("pose", (env.pose - w.encoded[last].pose).square().sum())
        moved = env.motion - (true_position[last - 1] - true_position[last])
        off = env.position - true_position[last]
        tiles = ((true_position[last] - w.position[last]) / model.config.tile_pixels).round()
        errors = [*moved[0].tolist(), *(off + tiles * model.config.tile_pixels)[0].tolist()]
        place = sum(
            e * e / 2 if abs(e) < PLACE_OUTLIER else PLACE_OUTLIER * (abs(e) - PLACE_OUTLIER / 2)
            for e in errors
        )
        self.add("init_place", torch.tensor(PLACE_WEIGHT * place))
        self.add("init_hidden", (start.hidden[0] - self.segment.hidden[last, w.b]).square().sum())
        previous = Categorical(logits=start.action_logits[0])
        self.add("init_action", -previous.log_prob(self.segment.action[last - 1, w.b]))

    def observed(self, w, state):
        last = self.k - 1
        return state._replace(
            canvas=w.canvases[last],
            position=w.position[last],
            motion=w.position[last - 1] - w.position[last],
            pose=w.encoded[last].pose,
        )

    def moved(self, w, t: int, state, around=None, losses=("outcome", "motion")):
        """The state after the action at step t, with losses of its outcome, and of motion and pose."""
        model, action = self.model, self.action(w, t)
        around = around or surroundings(state.canvas, state.position, model.config)
        found = model.motion_head(state.vector, around, state.motion, action)
        best = found.log_probs[0].argmax(-1)
        motion = torch.stack([found.motion[0, axis, best[axis]] for axis in range(2)])[None]
        logits = model.outcome_head(state, around, motion, action)
        vector, pose = model.vector_gru(state, around, motion, action)
        near = (state.position - w.position[t]).abs().max() < LOST
        if "outcome" in losses and (near or "motion" in losses):
            self.outcome(w, t, logits[0])
        if "motion" in losses and t + 1 < w.n:
            self.add("pose", (pose - w.encoded[t + 1].pose).square().sum())
            if near:
                wanted = state.position - w.position[t + 1]
                near, far = (
                    MixtureSameFamily(Categorical(logits=found.log_probs), Laplace(found.motion, scale))
                    for scale in (MOTION_SCALE, FAR_SCALE)
                )
                shares = torch.tensor([1 - FAR_SHARE, FAR_SHARE]).log()
                log_density = torch.stack([near.log_prob(wanted), far.log_prob(wanted)], -1) + shares
                self.add("motion", -log_density.logsumexp(-1).sum() - 2 * math.log(2 * MOTION_SCALE))
                self.add("motion_error", (motion - wanted).abs().max())
        return state._replace(
            vector=vector, pose=pose, motion=motion, position=state.position - motion, frame=no_frame(motion)
        )

    def outcome(self, w, t: int, logits: torch.Tensor) -> None:
        model, segment = self.model, self.segment
        weight = segment.extra["weight"][w.b] if "weight" in segment.extra else 1.0
        target = twohot.encode(segment.reward[t, w.b], model.bins)
        self.add("reward", -weight * (target * torch.log_softmax(logits[:-1], -1)).sum())
        stretch, bias = (10 * model.done_calibration).tolist()
        for name, odds, times in (
            ("done", math.exp(stretch) * logits[-1] + bias, weight),
            ("uncalibrated_done", logits[-1], 1),
        ):
            p = torch.sigmoid(odds)
            self.add(name, -times * torch.log(p if segment.terminated[t, w.b] else 1 - p))

    def motion(self, w) -> None:
        """The first half of the windows runs freely, the others are corrected; all from the second frame."""
        model = self.model
        free = w.b < 0.5 * self.segment.mask.shape[1]
        state = model.start(torch.zeros(1, model.config.latent_size)).env
        state = state._replace(
            position=w.position[1], motion=w.position[0] - w.position[1], pose=w.encoded[1].pose
        )
        for t in range(1, w.n):
            tiles = codes_around(model, w.encoded[t], w.position[t], state.position, self.code_noise[w.b])
            around = surroundings_of(tiles, centre_of(state.position, model.config), model.config)
            state = self.moved(w, t, state, around=around)
            if t + 1 < w.n and not free:
                motion = w.position[t] - w.position[t + 1]
                pose = w.encoded[t + 1].pose
                state = state._replace(position=w.position[t + 1], motion=motion, pose=pose)

    def true_tiles(self, w, t: int, position):
        """Codes and weights of the tiles in view, tile by tile."""
        rows, columns = self.model.config.view_shape
        first = torch.floor(position[0] / self.model.config.tile_pixels + 1e-3).long().tolist()
        found = torch.zeros(1, rows, columns, self.model.config.code_size + 1)
        for row, column in np.ndindex(rows, columns):
            there = [(f + i) % self.model.config.canvas_tiles for f, i in zip(first, (row, column))]
            before, now, last = (w.canvases[i][0, there[0], there[1]] for i in (t - 1, t, -1))
            found[0, row, column] = now if before[-1] > 0 else last
        return found[..., :-1], found[..., -1]

    def tiles_of(self, w, t: int, features, counts: bool = True):
        """The losses of the tiles in view at step t; returns the posterior and its sample."""
        dynamics = self.model.tile_dynamics
        position = self.place
        codes, weight = self.true_tiles(w, t, position)
        prior, posterior = dynamics.prior(features), dynamics.posterior(features, codes)
        noise = self.model.tile_noise(self.noise.tiles[t - self.k, w.b : w.b + 1])
        sample = torch.nn.functional.one_hot((posterior + noise).argmax(-1), prior.shape[-1]).float()
        predicted = dynamics.apply_sample(features, sample, "relaxed")[..., :-1]
        if not counts:
            return posterior, sample
        opened = torch.sigmoid(dynamics.gate_head(features.features) - CLOSED)[..., 0]
        cost = OPEN_COST * opened * features.before[..., -1]
        self.add("codes", (((predicted - codes).square().sum(-1) + cost) * weight).sum())
        each = kl_divergence(Categorical(logits=posterior), Categorical(logits=prior))
        divergence = (each * (weight.flatten(1) > 0)).sum()
        self.add("kl", divergence)
        self.add("kl_balanced", 1.1 * divergence)
        return posterior, sample

    def tiles(self, w) -> None:
        state = self.observed(w, self.start(w)[1].env)
        for t in range(self.k - 1, w.n - 1):
            moved = self.moved(w, t, state, losses=())
            self.place = w.position[t + 1]
            self.tiles_of(w, t + 1, self.model.tiles_ahead(moved._replace(position=self.place)))
            motion = w.position[t] - w.position[t + 1]
            state = self.model.observe(moved, state.canvas, w.encoded[t + 1], self.place, motion)

    def joint(self, w) -> None:
        """On its own motion, with samples of the posterior; the first half from the latent."""
        state = self.start(w)[1].env
        if w.b >= 0.5 * self.segment.mask.shape[1]:
            state = self.observed(w, state)
        for t in range(self.k - 1, w.n):
            near = (state.position - w.position[t]).abs().max() < LOST
            moved = self.moved(w, t, state, losses=("outcome",))
            if t + 1 == w.n:
                break
            self.place = moved.position
            features = self.model.tiles_ahead(moved)
            state = self.model.fill(moved, features, *self.tiles_of(w, t + 1, features, near))
