"""Models whose losses are exported in the tests, each with the batch it is exported with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlescope.client.export import export_loss
from saddlescope.contract.losses import ProgramLoss
from saddlescope.curvature.objective import Problem
from workers.losses.program import program_problem

Batch = dict[str, Tensor]
LOSS = ProgramLoss.model_validate({"kind": "program", "program": {"artifact": "sha256:" + "0" * 64}})


@dataclass(frozen=True)
class Case:
    model: nn.Module
    loss: Callable[[nn.Module, Batch], Tensor]
    rows: Callable[[int], Batch]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        parts = self.qkv(self.ln1(x)).chunk(3, -1)
        query, key, value = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary: int = 17, width: int = 16, length: int = 8, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.ln(self.blocks(x)))


def mlp() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Softplus(), nn.Linear(6, 3))
    return Case(
        model,
        lambda net, batch: functional.mse_loss(net(batch["x"]), batch["y"]),
        lambda rows: {"x": torch.randn(rows, 5), "y": torch.randn(rows, 3)},
    )


def conv_net() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return Case(
        model.eval(),
        lambda net, batch: functional.cross_entropy(net(batch["images"]), batch["labels"], label_smoothing=0.1),
        lambda rows: {"images": torch.randn(rows, 1, 12, 12), "labels": torch.randint(10, (rows,))},
    )


def gpt() -> Case:
    torch.manual_seed(0)

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(net(batch["tokens"]).flatten(0, 1), batch["next"].flatten(), ignore_index=-1)

    def rows(count: int) -> Batch:
        following = torch.randint(17, (count, 8))
        following[:, -1] = -1
        return {"tokens": torch.randint(17, (count, 8)), "next": following}

    return Case(GPT(), loss, rows)


def zoo() -> Case:
    """Many operators at once, smooth ones, with explicit dtypes, masks, factories and constants."""
    torch.manual_seed(0)

    class Zoo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3, padding="same", groups=1)
            self.norm = nn.GroupNorm(2, 4)
            self.up = nn.ConvTranspose1d(4, 3, 2, stride=2)
            self.cell = nn.LSTMCell(3, 5)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.scale = nn.Parameter(torch.randn(4, 1))
            self.register_buffer("table", torch.linspace(0.1, 1.0, 8), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.conv(x)) * self.scale.exp() + torch.tensor([0.1, 0.2, 0.3, 0.4]).unsqueeze(1)
            h = functional.pad(h, (1, 1)).unfold(2, 3, 1).mean(-1)
            mixed, _ = self.attention(h.transpose(1, 2), h.transpose(1, 2), h.transpose(1, 2))
            h = h + mixed.transpose(1, 2)
            mask = torch.tril(torch.ones(8, 8, dtype=torch.bool))
            scores = torch.einsum("bci,bcj->bij", h, h).masked_fill(~mask, -math.inf).softmax(-1)
            h = h @ scores.transpose(1, 2) * self.table
            h[:, 0] = torch.sigmoid(h[:, 0])
            y = functional.avg_pool1d(self.up(h), 2)
            hidden, cell = x.new_zeros(x.shape[0], 5), x.new_zeros(x.shape[0], 5)
            for step in y.unbind(-1):
                hidden, cell = self.cell(step, (hidden, cell))
            pieces = torch.cat([hidden.to(x.dtype), torch.stack([hidden, cell], 1).logsumexp(1)], 1)
            return pieces / (1 + pieces.norm(dim=1, keepdim=True)) + torch.var(y, dim=(1, 2), keepdim=False)[:, None]

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        out = net(batch["x"])
        target = functional.one_hot(batch["c"], 10).to(out.dtype)
        huge = functional.binary_cross_entropy_with_logits(out, target, reduction="none").sum(1)
        return (
            (huge * batch["w"]).sum() / batch["x"].shape[0]
            + functional.huber_loss(out, target)
            + out.pow(3).mean().abs()
        )

    return Case(
        Zoo(),
        loss,
        lambda rows: {"x": torch.randn(rows, 3, 8), "c": torch.randint(10, (rows,)), "w": torch.rand(rows)},
    )


class BasicBlock(nn.Module):
    """The residual block of ResNet-18."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.relu = nn.BatchNorm2d(out), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.downsample = shortcut if stride != 1 or channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += kept
        return self.relu(y)


def resnet() -> Case:
    """ResNet-18 in everything but width: stem, four stages of two blocks, pooled head."""
    torch.manual_seed(0)
    widths = (2, 2, 3, 4, 5)
    stages = [
        nn.Sequential(BasicBlock(before, after, 1 if stage == 0 else 2), BasicBlock(after, after, 1))
        for stage, (before, after) in enumerate(pairwise(widths))
    ]
    stem = (
        nn.Conv2d(3, 2, 7, 2, padding=3, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )
    model = nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return Case(
        model.eval(),
        lambda net, batch: functional.cross_entropy(net(batch["images"]), batch["labels"]),
        lambda rows: {"images": torch.randn(rows, 3, 32, 32), "labels": torch.randint(4, (rows,))},
    )


class VisionTransformer(nn.Module):
    """Patches by convolution, a class token, learned positions, pre-norm encoder layers of torch."""

    def __init__(self, width: int = 8, patch: int = 4, side: int = 8, depth: int = 2, classes: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, 0.1, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(images.shape[0], -1, -1), patches], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


def vit() -> Case:
    torch.manual_seed(0)
    return Case(
        VisionTransformer().eval(),
        lambda net, batch: functional.cross_entropy(net(batch["images"]), batch["labels"]),
        lambda rows: {"images": torch.randn(rows, 3, 8, 8), "labels": torch.randint(4, (rows,))},
    )


CASES = {"mlp": mlp, "conv_net": conv_net, "resnet": resnet, "vit": vit, "gpt": gpt, "zoo": zoo}


def write_archive(case: Case, folder: Path) -> Path:
    path = folder / "loss.pt2"
    path.write_bytes(export_loss(case.model, case.loss, case.rows(4)))
    return path


def build(archive: Path, checkpoint: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> Problem:
    return program_problem(LOSS, archive, checkpoint, data).problem
