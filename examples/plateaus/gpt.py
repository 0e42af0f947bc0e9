"""A transformer small enough for one core, and two texts for it: a licence, and random words said twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.plateaus.training import Batch

LICENCE = Path(__file__).resolve().parents[2] / "LICENSE"
UNSCORED = -100


class Block(nn.Module):
    """Causal attention and a two-layer network, each added to its input."""

    def __init__(self, width: int, heads: int, *, is_normalised: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1: nn.Module = nn.LayerNorm(width) if is_normalised else nn.Identity()
        self.norm2: nn.Module = nn.LayerNorm(width) if is_normalised else nn.Identity()
        self.qkv, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        query, key, value = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        past = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        seen = scores.masked_fill(~past, -1e9).softmax(-1) @ value
        x = x + self.mixed(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class TinyGPT(nn.Module):
    """Tokens (rows, length) to logits (rows, length, vocabulary); matrices drawn at `std`, biases and positions zero."""

    def __init__(
        self, *, vocabulary: int, length: int, seed: int, std: float, depth: int, heads: int, is_normalised: bool
    ) -> None:
        super().__init__()
        width = 16
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.Sequential(*[Block(width, heads, is_normalised=is_normalised) for _ in range(depth)])
        self.norm: nn.Module = nn.LayerNorm(width) if is_normalised else nn.Identity()
        self.head = nn.Linear(width, vocabulary)
        draws = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and name != "positions":
                nn.init.normal_(parameter, std=std, generator=draws)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def next_token_loss(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    logits = model(batch["tokens"])
    return functional.cross_entropy(logits.flatten(0, 1), batch["next"].flatten(), ignore_index=UNSCORED)


def licence(*, num_rows: int, length: int) -> tuple[int, dict[str, Tensor]]:
    """The letters of the licence in lower case and spaces, cut into rows: the size of its alphabet, and the data."""
    letters = [letter if letter.isalpha() else " " for letter in LICENCE.read_text(encoding="utf-8").lower()]
    text = " ".join("".join(letters).split())
    alphabet = sorted(set(text))
    numbers = torch.tensor([alphabet.index(letter) for letter in text[: num_rows * (length + 1)]])
    rows = numbers.view(num_rows, length + 1)
    return len(alphabet), {"tokens": rows[:, :-1].contiguous(), "next": rows[:, 1:].contiguous()}


def words_said_twice(*, num_rows: int, vocabulary: int, length: int, seed: int) -> dict[str, Tensor]:
    """Random tokens, and the same again; only the second time is scored, since only that can be known."""
    first = torch.randint(vocabulary, (num_rows, length), generator=torch.Generator().manual_seed(seed))
    both = torch.cat([first, first], 1)
    scored = both[:, 1:].clone()
    scored[:, : length - 1] = UNSCORED
    return {"tokens": both[:, :-1].contiguous(), "next": scored}
