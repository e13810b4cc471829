"""Open-loop rollouts in which the truth takes the place of parts of the simulator.

How much better they get says what a part costs. The truth comes from the labels of a store (where the view
is) and from the model's own encoder, shown every recorded frame.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch

from generative.model.categorical import sample_categorical
from generative.model.frames import frames_to_bytes
from generative.model.state import EnvState
from generative.model.world_model import View
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.training.teacher_forcing import Recording, observed_start, read_windows, true_view
from rollouts.segment import Segment

ORACLES = ("start", "motion", "tiles", "pose")
"""start: what the given frames show, and where the last of them lies, in place of what the latent kept.
motion: where the view lies after each step. tiles: the codes of all tiles that a frame has shown by then.
pose: the player's sprite in each frame.
"""


class OracleRollout(NamedTuple):
    """frames [S, B, H, W, C] uint8 of states 0 .. S - 1, and how far each lies from its true place,
    [S, B, 2] in pixels, down and right.
    """

    frames: torch.Tensor
    place_error: torch.Tensor


class OracleWindows:
    """Recorded windows [L, B] with labels, read once, to be rolled out with any oracles.

    Args:
        simulator: the world model with its agent.
        segment: windows of L = K + S - 1 frames with the label `position` in `extra`.
        seed: of the noise, which is that of `predictions.open_loop`.
    """

    @torch.no_grad()
    def __init__(self, simulator: Simulator, segment: Segment, seed: int = 0):
        self.simulator = simulator
        self.model = simulator.model
        self.k = self.model.config.num_initializing_steps
        self.actions = self.model.action_weights(segment.action[self.k - 1 : -1])
        self.keys = NoiseKeys(seed, segment.episode.cpu().numpy(), 0, segment.start.cpu().numpy())
        latent = simulator.encode(segment.obs[: self.k])
        self.start = simulator.start(latent.sample(self.keys.normal(latent.mean.shape[1], latent.mean))).env
        view = self._near_start(true_view(self.model, segment))
        self.recording: Recording = read_windows(self.model, segment, simulator.agent, None, view)

    def _near_start(self, view: View) -> View:
        """The view, moved by the whole tiles that bring its last given frame nearest to the start's place.

        The latent describes tiles from the first in view on. Close to an edge its first one can be the
        neighbour of the true first one, and the two would lie a tile apart.
        """
        tile = self.model.config.tile_pixels
        apart = (self.start.position - view.position[self.k - 1]) / tile
        return view._replace(position=view.position + apart.round() * tile)

    @torch.no_grad()
    def roll(self, oracles: Collection[str]) -> OracleRollout:
        """One rollout along the recorded actions. oracles: which of ORACLES are the truth.

        Raises ValueError for another name.
        """
        unknown = set(oracles) - set(ORACLES)
        if unknown:
            raise ValueError(f"unknown oracle {sorted(unknown)[0]!r}; choose from: {', '.join(ORACLES)}")
        start = observed_start(self.model, self.recording) if "start" in oracles else self.start
        state = self._corrected(start, 0, oracles)
        states = [self.model.paint(state)]
        for i, action in enumerate(self.actions):
            state = self._corrected(self._stepped(state, i, action, oracles), i + 1, oracles)
            states.append(self.model.paint(state))
        error = torch.stack([state.position for state in states]) - self.recording.view.position[self.k - 1 :]
        return OracleRollout(
            torch.stack([frames_to_bytes(self.model.decode(state)) for state in states]), error
        )

    def _stepped(self, state: EnvState, i: int, action: torch.Tensor, oracles: Collection[str]) -> EnvState:
        """The prior state after an action; with the motion oracle, at its true place."""
        moved, _ = self.model.move(state, action)
        if "motion" in oracles:
            view = self.recording.view
            moved = moved._replace(position=view.position[self.k + i], motion=view.motion[self.k + i - 1])
        tiles = self.model.tiles_ahead(moved)
        logits = self.model.tile_dynamics.prior(tiles)
        noise = self.model.tile_noise(self.simulator.state_noise(self.keys, i, state.position))
        return self.model.fill(moved, tiles, logits, sample_categorical(logits, noise))

    def _corrected(self, state: EnvState, step: int, oracles: Collection[str]) -> EnvState:
        """The state of a step with the true tiles, as far as the frames so far show them, and the true
        pose.
        """
        recorded = self.k - 1 + step
        if "tiles" in oracles:
            true = self.recording.canvases[recorded]
            seen = (true != 0).any(-1, keepdim=True)
            state = state._replace(canvas=torch.where(seen, true, state.canvas))
        if "pose" in oracles:
            state = state._replace(pose=self.recording.encoded.pose[recorded])
        return state
