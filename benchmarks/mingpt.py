"""The plain loop that training speed is compared with: minGPT, and its data set of one item at a time."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from decision.config import DTConfig


class MinGPTBlock(nn.Module):
    """A block as in minGPT (Karpathy 2020): attention by explicit softmax, tanh GELU."""

    def __init__(self, c: DTConfig, tokens: int):
        super().__init__()
        self.heads = c.n_heads
        self.ln1, self.ln2 = nn.LayerNorm(c.d_model), nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * c.d_model)
        self.out = nn.Linear(c.d_model, c.d_model)
        self.fc = nn.Linear(c.d_model, c.d_mlp)
        self.proj = nn.Linear(c.d_mlp, c.d_model)
        self.dropout = nn.Dropout(c.dropout)
        self.register_buffer("mask", torch.ones(tokens, tokens).tril()[None, None])

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.ln1(x)).split(d, 2)
        )
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(k.shape[-1])
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, -torch.inf)
        y = self.dropout(F.softmax(scores, -1)) @ v
        x = x + self.dropout(self.out(y.transpose(1, 2).contiguous().view(b, t, d)))
        h = self.fc(self.ln2(x))
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * torch.pow(h, 3))))
        return x + self.dropout(self.proj(h))


class MinGPT(nn.Module):
    """The Decision Transformer of the original code's kind: minGPT over interleaved tokens of one context."""

    def __init__(self, c: DTConfig):
        super().__init__()
        self.tokens = 3 * c.context_length
        self.state = nn.Sequential(nn.Linear(c.feature_size, c.d_model), nn.Tanh())
        self.rtg = nn.Sequential(nn.Linear(1, c.d_model), nn.Tanh())
        self.action = nn.Sequential(nn.Embedding(c.num_actions, c.d_model), nn.Tanh())
        self.position = nn.Parameter(torch.zeros(1, self.tokens, c.d_model))
        self.time = nn.Embedding(c.max_timestep + 1, c.d_model)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.Sequential(*(MinGPTBlock(c, self.tokens) for _ in range(c.n_layers)))
        self.ln = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, c.num_actions, bias=False)

    def forward(self, state, action, rtg, time):
        tokens = torch.zeros(len(state), self.tokens, self.position.shape[-1], device=state.device)
        tokens[:, 0::3] = self.rtg(rtg[..., None])
        tokens[:, 1::3] = self.state(state.float())
        tokens[:, 2::3] = self.action(action)
        x = self.dropout(tokens + self.position + self.time(time[:, :1]))
        return self.head(self.ln(self.blocks(x)))[:, 1::3]


class OneByOne(Dataset):
    """Windows as the original code's data set gives them: one at a time."""

    def __init__(self, columns: tuple[np.ndarray, ...], context: int):
        self.columns = columns
        self.context = context

    def __len__(self) -> int:
        return len(self.columns[0]) - self.context

    def __getitem__(self, i):
        return tuple(torch.from_numpy(column[i : i + self.context]) for column in self.columns)
