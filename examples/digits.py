"""A small network on scikit-learn's handwritten digits, as PyTorch sees it and as the contract names it."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

NUM_PIXELS, NUM_HIDDEN, NUM_CLASSES = 64, 16, 10

LOSS = {
    "kind": "network",
    "layers": [
        {"type": "linear", "in_features": NUM_PIXELS, "out_features": NUM_HIDDEN},
        {"type": "tanh"},
        {"type": "linear", "in_features": NUM_HIDDEN, "out_features": NUM_CLASSES},
    ],
    "criterion": {"type": "cross_entropy"},
}


def network_at_zero() -> nn.Sequential:
    """The network of `LOSS` with every weight and bias zero: a critical point of the weights."""
    network = nn.Sequential(nn.Linear(NUM_PIXELS, NUM_HIDDEN), nn.Tanh(), nn.Linear(NUM_HIDDEN, NUM_CLASSES))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def digits() -> dict[str, Tensor]:
    """1,797 images with pixels in [0, 1], and their classes."""
    images, classes = load_digits(return_X_y=True)
    return {"inputs": torch.tensor(images / 16, dtype=torch.float32), "targets": torch.tensor(classes)}


def loss_of(network: nn.Module, data: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(network(data["inputs"]), data["targets"])


def descend(network: nn.Module, data: dict[str, Tensor], *, num_steps: int, learning_rate: float) -> float:
    """Plain gradient descent over the whole data set; returns the loss it arrives at."""
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss_of(network, data).backward()
        optimizer.step()
    return float(loss_of(network, data).detach())
