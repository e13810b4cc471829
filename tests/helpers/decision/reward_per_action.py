"""A world of STEPS steps in which action 1 earns 1 and action 0 earns 0."""

import numpy as np

STEPS = 8
SIZE = 8


class RewardPerAction:
    """N copies; frames are black, so only time and the return still asked for can guide a policy."""

    num_actions = 2
    action_names = ("zero", "one")
    effect_classes = (0, 1)
    noop = 0
    obs_shape = (SIZE, SIZE, 3)

    def __init__(self, num: int):
        self.num = num
        self.reward = np.zeros(num, np.float32)
        self.t = np.zeros(num, np.int64)

    def observe(self):
        return self.reward, np.zeros((self.num, *self.obs_shape), np.uint8), self.t == 0

    def act(self, action):
        self.reward = action.astype(np.float32)
        self.t = (self.t + 1) % STEPS

    def info(self):
        ended = self.t == 0
        return {"terminated": ended, "truncated": np.zeros_like(ended), "level_complete": ended}

    def open_levels(self, slots, seeds):
        self.t[list(slots)] = 0

    def queue_level(self, slot, seed):
        pass
