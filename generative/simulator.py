"""The simulator: the world model with the frozen agent in the loop, differentiable from any late quantity back to the latent."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import load_agent
from common.checkpoints import BadCheckpoint
from common.noise import gumbel_noise, uniform_noise
from common.policy import Policy
from common.runs import file_id
from generative.categorical import draw
from generative.frames import frames_to_bytes
from generative.model import Latent, Start, WorldModel, load_world_model
from generative.rssm import EnvState
from rollouts.segment import Segment

STATE_NOISE, END_NOISE, LATENT_NOISE = 2_000_003, 3_000_017, 4_000_037  # added to the seed: each use has noise of its own
EXTRA_STEPS = ("env_state", "env_class", "done_prob", "reward_prob")
START = -1  # the step that keys the noise of the start state


@dataclass(frozen=True)
class NoiseKeys:
    """What keys every random number of B simulated samples: the same sample in any batch, order or process.

    stream, repeat: [B] integers. step: [B], the step that the first simulated frame counts as. With a real episode's level,
    repeat and step, the agent's action noise is that of the real episode.
    """

    seed: int
    stream: np.ndarray
    repeat: np.ndarray | int = 0
    step: np.ndarray | int = 0

    def gumbel(self, offset: int, i: int, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Gumbel noise [B, *shape] for simulated step i."""
        noise = gumbel_noise(self.seed + offset, self.stream, self.repeat, np.asarray(self.step) + i, int(np.prod(shape)))
        return torch.from_numpy(noise).reshape(-1, *shape).to(like)

    def uniform(self, offset: int, i: int, like: torch.Tensor) -> torch.Tensor:
        """Uniform noise [B] for simulated step i."""
        return torch.from_numpy(uniform_noise(self.seed + offset, self.stream, self.repeat, np.asarray(self.step) + i, 1)[:, 0]).to(like)

    def normal(self, width: int, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise [B, width] for latents (Box-Muller)."""
        u, v = np.split(uniform_noise(self.seed + LATENT_NOISE, self.stream, self.repeat, self.step, 2 * width), 2, axis=1)
        return torch.from_numpy(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).to(like)


class _Step(NamedTuple):
    """One simulated time step: the frame, what the agent made of it, and the outcome of its action. [B, ...] each."""

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
    """model: the trained world model. agent: the Policy that acts in it; its weights are frozen here, gradients pass through it.

    own_agent: False when the agent is not the one that the model was trained with. The model's idea of that one's hidden state
    then means nothing to this one, which starts from its initial state.
    """

    def __init__(self, model: WorldModel, agent: Policy, noop: int = 0, own_agent: bool = True):
        self.model, self.agent, self.noop, self.own_agent = model, agent, noop, own_agent
        freeze(agent)

    def encode(self, frames: torch.Tensor) -> Latent:
        """q(z | first frames [K, B, H, W, C])."""
        return self.model.encode(frames)

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

    def simulate(
        self, z: torch.Tensor, steps: int, keys: NoiseKeys, *, policy: Policy | None = None, actions: torch.Tensor | None = None,
        greedy: bool = False, modal: bool = False, mode: str = "hard", grad: bool = False, detach_agent: bool = True, ends: bool = True,
    ) -> Segment:  # fmt: skip
        """Runs the agent on decoded frames from the latents z [B, Z] for `steps` steps, and returns them as a Segment.

        policy: acts instead of the agent (the agent under an intervention, say). actions [T, B]: taken instead of the policy's
        own, which still sees every frame. greedy: the likeliest action, without noise. modal: the likeliest environment state,
        without noise. mode: `hard`, or `relaxed`, where states and actions are probabilities and frames are neither clipped nor
        rounded. grad: keep gradients; obs is then float, as it is when relaxed. detach_agent: no gradient to z through the
        agent's starting state. ends: an episode ends when the model says so (drawn by its probability, or above 0.5 when
        modal), and later steps are masked; otherwise all steps stand.

        reward[t] and terminated[t] are of action[t], read from the prior state that it leads to, after the last frame too.
        `extra`: latent [B, Z], previous_action [B], and by step env_state [T, B, Dh], env_class [T, B, G], done_prob and
        reward_prob [T, B].
        """
        policy = policy or self.agent
        with torch.set_grad_enabled(grad):
            noise = None if modal else keys.gumbel(STATE_NOISE, START, self._noise_shape, z)
            start = self.start(z, noise, mode, detach_agent)
            env, hidden, history = start.env, start.hidden, []
            reward = z.new_zeros(len(z))
            for i in range(steps):
                frame = self.decode(env, mode)
                shown = frame if grad or mode == "relaxed" else frames_to_bytes(frame)
                hidden = policy.advance(shown, hidden, torch.zeros(len(z), dtype=torch.bool, device=z.device), reward)
                logits, value = policy.heads(hidden)
                action, weights = self._act(policy, logits, None if actions is None else actions[i], None if greedy else keys, i, mode)
                after = self.step(env, weights, None if modal else keys.gumbel(STATE_NOISE, i, self._noise_shape, z), mode)
                outcome = self.model.outcome(after)
                reward, done = self.model.reward(outcome), torch.sigmoid(outcome.done_logit)
                ended = self._ended(done, keys, i, modal, ends)
                value = torch.full_like(reward, torch.nan) if value is None else value
                history.append(_Step(
                    shown, action, reward, done, self.model.reward_probability(outcome), ended, value, logits,
                    policy.log_prob(logits, action), policy.hidden(hidden), env.deter, env.sample.argmax(-1).to(torch.uint8),
                ))  # fmt: skip
                env = after
            return self._segment(history, policy.hidden(start.hidden), z, start.action_logits.argmax(-1))

    @property
    def _noise_shape(self) -> tuple[int, int]:
        return self.model.config.groups, self.model.config.classes

    def _act(self, policy, logits, given, keys, i, mode):
        """The action [B] and the weights [B, A] that the environment is stepped with."""
        if given is not None:
            return given, self.model.action_weights(given)
        noise = torch.zeros_like(logits) if keys is None else keys.gumbel(0, i, logits.shape[1:], logits)
        action = policy.choose(logits, noise)
        if mode == "relaxed":
            return action, draw(logits, None, mode)
        probabilities = torch.softmax(logits, -1)
        return action, self.model.action_weights(action) + (probabilities - probabilities.detach())

    def _ended(self, done, keys, i, modal, ends):
        if not ends:
            return torch.zeros_like(done, dtype=torch.bool)
        return done.detach() > (0.5 if modal else keys.uniform(END_NOISE, i, done))

    def _segment(self, history: list[_Step], hidden, z, previous_action) -> Segment:
        """Stacks the steps; what comes after an end is blanked as in any Segment."""
        s = _Step(*(torch.stack(parts) for parts in zip(*history)))
        ended_before = torch.cat([torch.zeros_like(s.terminated[:1]), s.terminated[:-1]]).int().cumsum(0) > 0
        alive = ~ended_before

        def kept(x, blank=0):
            return torch.where(alive.reshape(*alive.shape, *[1] * (x.ndim - 2)), x, torch.full_like(x, blank))

        none = torch.zeros_like(s.terminated)
        return Segment(
            kept(s.obs), kept(s.action, self.noop), kept(s.reward), kept(s.terminated), none, none.clone(), alive,
            kept(s.value), kept(s.logits), kept(s.log_prob), torch.cat([hidden[None], kept(s.hidden)]),
            torch.arange(len(z), device=z.device), torch.zeros(len(z), dtype=torch.int64, device=z.device),
            {"latent": z, "previous_action": previous_action} | {name: kept(getattr(s, name)) for name in EXTRA_STEPS},
        )  # fmt: skip


def load_simulator(
    model_file: Path, agent_file: Path, off_agent: bool = False, device: torch.device | str = "cpu"
) -> tuple[Simulator, dict]:
    """A trained simulator with its agent, and the model file's description.

    Raises BadCheckpoint when the agent is not the one that the model was trained with, unless off_agent allows it; and always
    when its actions are not the model's.
    """
    model, meta = load_world_model(model_file, device)
    agent, agent_meta = load_agent(agent_file, device)
    trained_with, found = meta["agent"]["id"], file_id(agent_file)
    own = found == trained_with
    if not own and not off_agent:
        raise BadCheckpoint(f"{model_file} is for agent {trained_with}, not {agent_file} ({found}); give that one, or --off_agent")
    if agent.num_actions != model.config.num_actions:
        raise BadCheckpoint(f"{agent_file} has {agent.num_actions} actions, the simulator {model.config.num_actions}: it cannot act there")
    return Simulator(model.requires_grad_(False), agent, meta["noop"], own), meta
