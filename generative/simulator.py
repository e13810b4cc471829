"""The simulator: the world model with the frozen agent in the loop, differentiable from any late quantity
back to the latent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import load_agent
from common.checkpoints import BadCheckpoint
from common.descriptions import look_up
from common.noise import gumbel_noise, uniform_noise
from common.policy import Policy
from common.runs import file_id
from common.words import counted
from generative.model.categorical import sample_categorical
from generative.model.frames import frames_to_bytes
from generative.model.latent import agent_burn_in
from generative.model.rssm import EnvState
from generative.model.world_model import Latent, Start, WorldModel, load_world_model
from rollouts.segment import Segment

STATE_NOISE = 2_000_003  # added to the seed: each use has noise of its own
END_NOISE = 3_000_017
LATENT_NOISE = 4_000_037
EXTRA_STEPS = ("env_state", "env_class", "done_prob", "reward_prob")
START = -1  # the step that keys the noise of the start state
_ROWS = 64  # of noise drawn in one call: at batch 1, a call per step took a tenth of the time


@dataclass(frozen=True)
class NoiseKeys:
    """What keys every random number of B simulated samples: the same for a sample in any batch, order or
    process.

    stream, repeat: [B] integers. step: [B], the step that the first simulated frame counts as. With a real
    episode's level, repeat and step, the agent's action noise is that of the real episode.
    """

    seed: int
    stream: np.ndarray
    repeat: np.ndarray | int = 0
    step: np.ndarray | int = 0

    def gumbel(self, offset: int, i, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Gumbel noise [B, *shape] for simulated step i; [n, B, *shape] for steps i [n, 1]."""
        noise = gumbel_noise(self.seed + offset, *self._rows(i), int(np.prod(shape)))
        return torch.from_numpy(noise).reshape(*np.shape(i)[:1], -1, *shape).to(like)

    def uniform(self, offset: int, i, like: torch.Tensor) -> torch.Tensor:
        """Uniform noise [B] for simulated step i; [n, B] for steps i [n, 1]."""
        noise = uniform_noise(self.seed + offset, *self._rows(i), 1)
        return torch.from_numpy(noise).reshape(*np.shape(i)[:1], -1).to(like)

    def normal(self, width: int, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise [B, width] for latents (Box-Muller)."""
        u, v = np.split(
            uniform_noise(self.seed + LATENT_NOISE, self.stream, self.repeat, self.step, 2 * width), 2, axis=1
        )
        return torch.from_numpy(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).to(like)

    def ahead(self, draw: Callable[..., torch.Tensor], steps: int) -> Iterator[torch.Tensor]:
        """What draw(i) gives for the steps i = 0 .. steps - 1, one after the other, drawn for several steps
        at a time.
        """
        block = max(_ROWS // len(self.stream), 1)
        for begin in range(0, steps, block):
            yield from draw(np.arange(begin, min(begin + block, steps))[:, None])

    def _rows(self, i) -> tuple[np.ndarray, ...]:
        """stream, repeat and step of every row of noise: flat, step after step."""
        keys = np.broadcast_arrays(self.stream, self.repeat, np.asarray(self.step) + i)
        return tuple(key.reshape(-1) for key in keys)


class _Step(NamedTuple):
    """One simulated time step: the frame, what the agent made of it, and the outcome of its action. [B, ...]
    each.
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    done_prob: torch.Tensor
    reward_prob: torch.Tensor
    terminated: torch.Tensor
    value: torch.Tensor
    logits: torch.Tensor
    log_prob: torch.Tensor
    hidden: torch.Tensor
    env_state: torch.Tensor
    env_class: torch.Tensor


def freeze(agent: Policy) -> None:
    """No weight of the agent collects a gradient; gradients still flow through it to what it sees."""
    if isinstance(agent, torch.nn.Module):
        agent.eval().requires_grad_(False)


class Simulator:
    """model: the trained world model. agent: the Policy that acts in it; its weights are frozen here,
    gradients pass through it.

    own_agent: False when the agent is not the one that the model was trained with. The model's idea of that
    one's hidden state then means nothing to this one, which starts from its initial state.
    """

    def __init__(self, model: WorldModel, agent: Policy, noop: int = 0, own_agent: bool = True):
        self.model = model
        self.agent = agent
        self.noop = noop
        self.own_agent = own_agent
        freeze(agent)

    def __repr__(self) -> str:
        config = self.model.config
        whose = "its own agent" if self.own_agent else "another agent"
        return (
            f"Simulator(latent {config.latent_size}, state {config.deter_size}, frames {config.obs_shape},"
            f" {config.num_actions} actions, with {whose})"
        )

    def encode(self, frames: torch.Tensor) -> Latent:
        """q(z | first frames [K, B, H, W, C])."""
        return self.model.encode(frames, self.agent_burn_in(frames))

    def agent_burn_in(self, frames: torch.Tensor) -> torch.Tensor:
        """What the model's own agent remembers [B, D] before the last of the first frames; nothing where
        another agent acts.
        """
        if self.own_agent:
            return agent_burn_in(self.agent, frames)
        return self.model.bins.new_zeros(frames.shape[1], self.model.config.hidden_size)

    def start(self, z, noise=None, mode: str = "hard", detach_agent: bool = True) -> Start:
        """The moment that z [B, Z] describes: environment, agent's hidden state, previous action."""
        start = self.model.start(z, noise, mode, detach_agent)
        return start if self.own_agent else start._replace(hidden=self.agent.initial_state(len(z)))

    def step(self, state: EnvState, action, noise=None, mode: str = "hard") -> EnvState:
        """The prior state after an action ([B] integers or [B, A] weights)."""
        return self.model.step(state, action, noise, mode)

    def decode(self, state: EnvState, mode: str = "hard") -> torch.Tensor:
        """Frames [B, H, W, C]; in hard mode at 8 bits in [0, 1]."""
        return self.model.decode(state, mode)

    def outcome(self, after: EnvState, before: EnvState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of the action that led from `before` to the prior state `after`: expected reward, and the
        probabilities of an end and of a reward. [B] each.
        """
        outcome = self.model.outcome(after.deter, after.motion, before.frame)
        return (
            self.model.reward(outcome),
            torch.sigmoid(outcome.done_logit),
            self.model.reward_probability(outcome),
        )

    def state_noise(self, keys: NoiseKeys, i, like: torch.Tensor) -> torch.Tensor:
        """The Gumbel noise that the environment's state is drawn with after step i (START: the first one):
        [B, G, C].
        """
        return keys.gumbel(STATE_NOISE, i, self.model.config.stoch_shape, like)

    def simulate(
        self,
        z: torch.Tensor,
        steps: int,
        keys: NoiseKeys,
        *,
        policy: Policy | None = None,
        actions: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        greedy: bool = False,
        use_mode: bool = False,
        mode: str = "hard",
        grad: bool = False,
        detach_agent: bool = True,
        detach_actions: bool = False,
        ends: bool = True,
    ) -> Segment:
        """Runs the agent on decoded frames from the latents z [B, Z] for `steps` steps, and returns them as a
        Segment.

        policy: acts instead of the agent (the agent under an intervention, say). actions: [T, B] integers or
        [T, B, A] weights, taken instead of the policy's own, which still sees every frame. hidden [B, D]:
        what the policy remembers at the start, in place of what z says. greedy: the likeliest action, without
        noise. use_mode: the likeliest environment state, without noise. mode: `hard`, or `relaxed`, where states
        and actions are probabilities and frames are neither clipped nor rounded. grad: keep gradients; obs is
        then float, as it is when relaxed. detach_agent: no gradient to z through the agent's starting state.
        detach_actions: no gradient through the choice of actions. ends: an episode ends when the model says
        so (drawn by its probability, or above 0.5 when use_mode), and later steps are masked; otherwise all
        steps stand.

        reward[t] and terminated[t] are of action[t], read from the prior state that it leads to, after the
        last frame too. log_prob is 0 where the action was given or greedy: it is the behaviour's. `extra`:
        latent [B, Z], previous_action [B], and by step env_state [T, B, Dh], env_class [T, B, G], done_prob
        and reward_prob [T, B]. Once all episodes have ended nothing more is computed.
        """
        policy = policy or self.agent
        with torch.set_grad_enabled(grad):
            start = self.start(z, None if use_mode else self.state_noise(keys, START, z), mode, detach_agent)
            env = start.env
            met = start.hidden if hidden is None else hidden
            state_noise = repeat(None) if use_mode else keys.ahead(lambda i: self.state_noise(keys, i, z), steps)
            action_noise = keys.ahead(lambda i: keys.gumbel(0, i, (policy.num_actions,), z), steps)
            draw_end = repeat(0.5) if use_mode else keys.ahead(lambda i: keys.uniform(END_NOISE, i, z), steps)
            state = met
            reward = z.new_zeros(len(z))
            history = []
            first, over = (torch.zeros(len(z), dtype=torch.bool, device=z.device) for _ in range(2))
            for i in range(steps):
                frame = self.decode(env, mode)
                shown = frame if grad or mode == "relaxed" else frames_to_bytes(frame)
                state = policy.advance(shown, state, first, reward)
                logits, value = policy.heads(state)
                if actions is None:
                    action, weights = self._act(
                        policy, logits, None if greedy else next(action_noise), mode, detach_actions
                    )
                else:
                    weights = self.model.action_weights(actions[i])
                    action = weights.argmax(-1)
                after = self.step(env, weights, next(state_noise), mode)
                reward, done, rewarded = self.outcome(after, env)
                ended = (done.detach() > next(draw_end)) & ends
                history.append(
                    _Step(
                        shown,
                        action,
                        reward,
                        done,
                        rewarded,
                        ended,
                        torch.full_like(reward, torch.nan) if value is None else value,
                        logits,
                        policy.log_prob(logits, action)
                        if actions is None and not greedy
                        else torch.zeros_like(reward),
                        policy.hidden(state),
                        env.deter,
                        env.sample.argmax(-1).to(torch.uint8),
                    )
                )
                env, over = after, over | ended
                if ends and over.all():
                    break
            return self._segment(history, steps, policy.hidden(met), z, start.action_logits.argmax(-1))

    def _act(self, policy, logits, noise, mode, detach):
        """The action [B] that the policy chooses and the weights [B, A] that the environment is stepped with."""
        action = policy.choose(logits, torch.zeros_like(logits) if noise is None else noise)
        if mode == "relaxed":
            weights = sample_categorical(logits, None, mode)
        else:
            probabilities = torch.softmax(logits, -1)
            weights = self.model.action_weights(action) + (probabilities - probabilities.detach())
        return action, weights.detach() if detach else weights

    def _segment(self, history: list[_Step], steps: int, hidden, z, previous_action) -> Segment:
        """Stacks the steps; what comes after an end, or was never computed, is blanked as in any Segment."""
        s = _Step(*(torch.stack(parts) for parts in zip(*history)))
        alive = torch.cat([torch.zeros_like(s.terminated[:1]), s.terminated[:-1]]).int().cumsum(0) == 0

        def kept(x, blank=0):
            x = torch.where(alive.reshape(*alive.shape, *[1] * (x.ndim - 2)), x, torch.full_like(x, blank))
            return torch.cat([x, x.new_full((steps - len(x), *x.shape[1:]), blank)]) if len(x) < steps else x

        terminated = kept(s.terminated)
        none = torch.zeros_like(terminated)
        return Segment(
            kept(s.obs),
            kept(s.action, self.noop),
            kept(s.reward),
            terminated,
            none,
            none.clone(),
            kept(alive),
            kept(s.value),
            kept(s.logits),
            kept(s.log_prob),
            torch.cat([hidden[None], kept(s.hidden)]),
            torch.arange(len(z), device=z.device),
            torch.zeros(len(z), dtype=torch.int64, device=z.device),
            {"latent": z, "previous_action": previous_action}
            | {name: kept(getattr(s, name)) for name in EXTRA_STEPS},
        )


def load_simulator(
    world_model_file: Path,
    agent_file: Path,
    allow_other_agent: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[Simulator, dict]:
    """A trained simulator with its agent, and the model file's description.

    Raises BadCheckpoint when the agent is not the one that the model was trained with, unless
    allow_other_agent allows it; and always when its actions are not the model's.
    """
    model, meta = load_world_model(world_model_file, device)
    agent, _agent_meta = load_agent(agent_file, device)
    trained_with = look_up(meta, "agent.id", str, world_model_file, BadCheckpoint)
    found = file_id(agent_file)
    noop = look_up(meta, "noop", int, world_model_file, BadCheckpoint)
    count = model.config.num_actions
    if not 0 <= noop < count or len(meta.get("action_names", range(count))) != count:
        raise BadCheckpoint(
            f"{world_model_file} is damaged: its noop and action_names are not those of {count} actions; take another checkpoint"
        )
    own = found == trained_with
    if not own and not allow_other_agent:
        raise BadCheckpoint(
            f"{world_model_file} is for agent {trained_with}, not {agent_file} ({found}); give that one (record_gen_samples.py and render.py also take another, with --allow_other_agent)"
        )
    if agent.num_actions != model.config.num_actions:
        raise BadCheckpoint(
            f"{agent_file} has {counted(agent.num_actions, 'action')}, the simulator {model.config.num_actions}: it cannot act there"
        )
    return Simulator(model.requires_grad_(False), agent, noop, own), meta
