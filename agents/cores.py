"""Recurrent cores: GRU, LSTM or none, always in float32.

Every core has one state vector per environment, a `step` for acting and an `unroll` for learning that agree
exactly. The state is reset to zero where `first` marks the first observation of an episode, before that
observation is processed.
"""

import torch
from torch import nn


def _add_to_second_gate(cell: nn.RNNCellBase, bias: float) -> None:
    """Adds `bias` to the gate that keeps the past (GRU update gate, LSTM forget gate)."""
    with torch.no_grad():
        cell.bias_hh[cell.hidden_size : 2 * cell.hidden_size] += bias


class GRUCore(nn.Module):
    """State [N, D]: the GRU's hidden vector, which the heads read."""

    def __init__(self, feature_size: int, hidden_size: int, keep_bias: float = 0.0):
        super().__init__()
        self.cell = nn.GRUCell(feature_size, hidden_size)
        _add_to_second_gate(self.cell, keep_bias)
        self.state_size = self.output_size = hidden_size
        self.parts = {"h": slice(0, hidden_size)}

    def step(self, features, state, first):
        return self.cell(features, state.masked_fill(first[:, None], 0.0))

    def output(self, state):
        return state

    def unroll(self, features, state, first):
        """Unrolls a sequence.

        Args:
            features: [T, N, F].
            state: [N, S] before the first features.
            first: [T, N] bool.

        Returns:
            States after each step, [T, N, S].
        """
        states = []
        for x, opens in zip(features.unbind(0), first.unbind(0)):
            state = self.step(x, state, opens)
            states.append(state)
        return torch.stack(states)


class LSTMCore(GRUCore):
    """State [N, 2D]: h and c concatenated; the heads read h."""

    def __init__(self, feature_size: int, hidden_size: int, keep_bias: float = 0.0):
        nn.Module.__init__(self)
        self.cell = nn.LSTMCell(feature_size, hidden_size)
        _add_to_second_gate(self.cell, keep_bias)
        self.state_size = 2 * hidden_size
        self.output_size = hidden_size
        self.parts = {"h": slice(0, hidden_size), "c": slice(hidden_size, 2 * hidden_size)}

    def step(self, features, state, first):
        h, c = state.masked_fill(first[:, None], 0.0).chunk(2, dim=-1)
        return torch.cat(self.cell(features, (h, c)), dim=-1)

    def output(self, state):
        return state[..., self.parts["h"]]


class NoCore(nn.Module):
    """No memory: the state is the last features, which stores keep for feed-forward agents."""

    def __init__(self, feature_size: int, hidden_size: int, keep_bias: float = 0.0):
        super().__init__()
        self.state_size = self.output_size = feature_size
        self.parts = {"features": slice(0, feature_size)}

    def step(self, features, state, first):
        return features

    def output(self, state):
        return state

    def unroll(self, features, state, first):
        return features


CORES = {"gru": GRUCore, "lstm": LSTMCore, "none": NoCore}
