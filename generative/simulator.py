"""The simulator: a world model with the frozen agent in the loop, differentiable end to end."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch

from common.policy import Policy, State
from envs.vecenv import ActionSpace
from generative.model.categorical import sample_categorical
from generative.model.frames import frames_to_bytes
from generative.model.latent import agent_burn_in
from generative.model.state import EnvState
from generative.model.texture_cache import TextureCache
from generative.model.world_model import Latent, Start, WorldModel
from generative.noise_keys import NoiseKeys
from rollouts.segment import Segment

STATE_NOISE = 2_000_003
"""Added to the seed, as the next one is, so that each use has its own noise."""
END_NOISE = 3_000_017
EXTRA_STEPS = ("env_state", "env_class", "done_prob", "reward_prob")
"""What stores keep of each step besides a Segment's own fields."""
_KEPT = (
    "obs", "action", "reward", "done_prob", "reward_prob", "terminated", "value", "logits", "log_prob",
)  # fmt: skip


class SimStep(NamedTuple):
    """One simulated step, [B, ...] each: the environment's state and its frame, the agent's reaction, and the
    outcome of its action.

    weights [B, A]: of the actions, as the environment takes them. state: the policy's, after the frame.
    """

    env: EnvState
    obs: torch.Tensor
    state: State
    weights: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    done_prob: torch.Tensor
    reward_prob: torch.Tensor
    terminated: torch.Tensor
    value: torch.Tensor
    logits: torch.Tensor
    log_prob: torch.Tensor


Edge = Callable[[torch.Tensor], torch.Tensor]
"""What happens to a tensor on its way from environment to agent or back."""


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


def freeze(agent: Policy) -> None:
    """Stops gradients to the agent's weights; they still flow through it to its inputs."""
    if isinstance(agent, torch.nn.Module):
        agent.eval().requires_grad_(False)


class Simulator:
    """A world model in which an agent acts.

    Args:
        model: the trained world model.
        agent: the Policy that acts; its weights are frozen here, gradients flow through it.
        noop: the action that fills the steps after an end.
        own_agent: whether the model was trained with this agent. Another one starts from its own initial
            state,
            because the hidden state that the model predicts means nothing to it.
        actions: their names and effects, where known; functions are named after them.
    """

    def __init__(
        self,
        model: WorldModel,
        agent: Policy,
        noop: int = 0,
        own_agent: bool = True,
        actions: ActionSpace | None = None,
    ):
        self.model = model
        self.agent = agent
        self.noop = noop
        self.own_agent = own_agent
        self.actions = actions
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
        """The agent's hidden state [B, D] before the last of the first frames; 0 where another agent acts."""
        if self.own_agent:
            return agent_burn_in(self.agent, frames)
        return self.model.bins.new_zeros(frames.shape[1], self.model.config.hidden_size)

    def start(
        self, z, mode: str = "hard", detach_agent: bool = True, textures: TextureCache | None = None
    ) -> Start:
        """The start that z [B, Z] describes: environment, agent's hidden state and previous action."""
        start = self.model.start(z, mode, detach_agent, textures)
        return start if self.own_agent else start._replace(hidden=self.agent.initial_state(len(z)))

    def step(
        self, state: EnvState, action, noise=None, mode: str = "hard", textures: TextureCache | None = None
    ) -> EnvState:
        """The prior state after an action ([B] integers or [B, A] weights)."""
        return self.model.step(state, action, noise, mode, textures)

    def decode(self, state: EnvState, mode: str = "hard") -> torch.Tensor:
        """Frames [B, H, W, C]; in hard mode at 8 bits in [0, 1]."""
        return self.model.decode(state, mode)

    def outcome(self, after: EnvState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Outcome of the action that led to the prior state `after`.

        Returns:
            Expected reward, probability of an end and probability of a positive reward, [B] each.
        """
        outcome = self.model.outcome(after.outcome)
        return (
            self.model.reward(outcome),
            torch.sigmoid(outcome.done_logit),
            self.model.reward_probability(outcome),
        )

    def state_noise(self, keys: NoiseKeys, i, like: torch.Tensor) -> torch.Tensor:
        """Gumbel noise [B, columns, C] of the tiles in view after step i."""
        return keys.gumbel(STATE_NOISE, i, self.model.config.noise_shape, like)

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
        """Rolls out `steps` steps from latents, the agent acting on decoded frames.

        Args:
            z: latents [B, Z].
            steps: number of steps T.
            keys: of the noise.
            policy: acts instead of the agent (the agent under an intervention, for example).
            actions: [T, B] integers or [T, B, A] weights, taken instead of the policy's; the policy still
                sees every frame.
            hidden: the policy's hidden state at the start [B, D], instead of the one that z describes.
            greedy: take the most likely action instead of sampling.
            use_mode: take the mode of the environment states instead of sampling.
            mode: "hard", or "relaxed": states and actions are probabilities, frames are neither clipped nor
                rounded, and obs is float.
            grad: keep gradients; obs is then float.
            detach_agent: no gradient to z through the agent's hidden state at the start.
            detach_actions: no gradient through the choice of actions.
            ends: an episode ends where the model says so (sampled, or above 0.5 with use_mode) and later
                steps are masked. Otherwise all steps exist.

        Returns:
            A Segment [T, B]. reward[t] and terminated[t] are of action[t], read from the prior state it leads
            to. log_prob is 0 where actions were given or greedy. `extra` holds latent [B, Z], previous_action
            [B], and per step env_state [T, B, Dh], env_class [T, B, G], done_prob and reward_prob [T, B], and
            motion [T, B, 2]: pixels, down and right, by which the picture moved on the way to the frame.
            Nothing is computed once all episodes have ended.
        """
        policy = policy or self.agent
        with torch.set_grad_enabled(grad):
            as_bytes = mode == "hard" and not grad
            textures = TextureCache(self.model.config, len(z), z.device) if as_bytes else None
            start = self.start(z, mode, detach_agent, textures)
            first_hidden = start.hidden if hidden is None else hidden
            history = []
            over = torch.zeros(len(z), dtype=torch.bool, device=z.device)
            walk = self.rollout(
                start._replace(hidden=first_hidden), steps, keys, policy=policy, actions=actions,
                greedy=greedy, use_mode=use_mode, mode=mode, detach_actions=detach_actions, ends=ends,
                textures=textures,
            )  # fmt: skip
            for step in walk:
                history.append(self._kept(step, policy))
                over = over | step.terminated
                if ends and over.all():
                    break
            return self._segment(
                history, steps, policy.hidden(first_hidden), z, start.action_logits.argmax(-1)
            )

    def rollout(
        self,
        start: Start,
        steps: int,
        keys: NoiseKeys,
        *,
        policy: Policy | None = None,
        actions: torch.Tensor | None = None,
        greedy: bool = False,
        use_mode: bool = False,
        mode: str = "hard",
        detach_actions: bool = False,
        ends: bool = True,
        textures: TextureCache | None = None,
        on_frame: Edge = _unchanged,
        on_action: Edge = _unchanged,
    ) -> Iterator[SimStep]:
        """Yields `steps` simulated steps from a start; nothing is masked after an end.

        Keeps gradients where they are enabled. The arguments are those of `simulate`, besides:

        Args:
            start: environment, hidden state and previous action, of B samples.
            steps: T.
            keys: of the noise.
            textures: of the start's tiles; without gradients only.
            on_frame: applied to each frame [B, H, W, C] before the policy sees it.
            on_action: applied to the weights [B, A] of each action before the environment takes it.
        """
        policy = policy or self.agent
        env, state = start.env, start.hidden
        like = env.motion
        as_bytes = mode == "hard" and not torch.is_grad_enabled()
        state_noise = (
            repeat(None) if use_mode else keys.ahead(lambda i: self.state_noise(keys, i, like), steps)
        )
        action_noise = keys.ahead(lambda i: keys.gumbel(0, i, (policy.num_actions,), like), steps)
        end_threshold = (
            repeat(0.5) if use_mode else keys.ahead(lambda i: keys.uniform(END_NOISE, i, like), steps)
        )
        reward = like.new_zeros(len(like))
        first = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        for i in range(steps):
            obs = frames_to_bytes(env.frame) if as_bytes else self.decode(env, mode)
            state = policy.advance(on_frame(obs), state, first, reward)
            logits, value = policy.heads(state)
            if actions is None:
                noise = None if greedy else next(action_noise)
                action, weights = self._act(policy, logits, noise, mode, detach_actions)
            else:
                weights = self.model.action_weights(actions[i])
                action = weights.argmax(-1)
            next_env = self.step(env, on_action(weights), next(state_noise), mode, textures)
            reward, done, reward_prob = self.outcome(next_env)
            ended = (done.detach() > next(end_threshold)) & ends
            log_prob = (
                policy.log_prob(logits, action)
                if actions is None and not greedy
                else torch.zeros_like(reward)
            )
            value = torch.full_like(reward, torch.nan) if value is None else value
            yield SimStep(
                env, obs, state, weights, action, reward, done, reward_prob, ended, value, logits, log_prob
            )
            env = next_env

    def _act(self, policy, logits, noise, mode, detach):
        """The action [B] that the policy chooses, and its weights [B, A] for the environment's step."""
        action = policy.choose(logits, torch.zeros_like(logits) if noise is None else noise)
        if mode == "relaxed":
            weights = sample_categorical(logits, None, mode)
        else:
            probabilities = torch.softmax(logits, -1)
            weights = self.model.action_weights(action) + (probabilities - probabilities.detach())
        return action, weights.detach() if detach else weights

    def _kept(self, step: SimStep, policy: Policy) -> dict[str, torch.Tensor]:
        """What a Segment keeps of a step."""
        parts = {name: getattr(step, name) for name in _KEPT}
        return parts | {
            "hidden": policy.hidden(step.state),
            "env_state": self.model.flat_state(step.env),
            "env_class": step.env.sample.argmax(-1).to(torch.uint8),
            "motion": step.env.motion,
        }

    def _segment(
        self, history: list[dict[str, torch.Tensor]], steps: int, hidden, z, previous_action
    ) -> Segment:
        """Stacks the steps; those after an end, or not computed, are blank as in any Segment."""
        s = {name: torch.stack([step[name] for step in history]) for name in history[0]}
        over = torch.cat([torch.zeros_like(s["terminated"][:1]), s["terminated"][:-1]]).cumsum(0) > 0
        blanks = over.nonzero(as_tuple=True)  # indices, as a mask would write all of x

        def masked(x, blank=0):
            x[blanks] = blank
            return torch.cat([x, x.new_full((steps - len(x), *x.shape[1:]), blank)]) if len(x) < steps else x

        terminated = masked(s["terminated"])
        none = torch.zeros_like(terminated)
        return Segment(
            masked(s["obs"]),
            masked(s["action"], self.noop),
            masked(s["reward"]),
            terminated,
            none,
            none.clone(),
            masked(~over),
            masked(s["value"]),
            masked(s["logits"]),
            masked(s["log_prob"]),
            torch.cat([hidden[None], masked(s["hidden"])]),
            torch.arange(len(z), device=z.device),
            torch.zeros(len(z), dtype=torch.int64, device=z.device),
            {"latent": z, "previous_action": previous_action}
            | {name: masked(s[name]) for name in (*EXTRA_STEPS, "motion")},
        )
