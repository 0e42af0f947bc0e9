"""Small training runs for the callbacks, and servers that do not answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from saddlescope.callbacks import PlainCallback

NOWHERE = "http://127.0.0.1:9"
TOY = "(1 - w1*w2)**2"


class Toy(nn.Module):
    """(1 - w1·w2)², whose gradient at the origin is exactly zero."""

    def __init__(self, w1: float = 0.0, w2: float = 0.0) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.tensor(w1, dtype=torch.float64))
        self.w2 = nn.Parameter(torch.tensor(w2, dtype=torch.float64))

    def forward(self) -> Tensor:
        return (1 - self.w1 * self.w2) ** 2


def train(model: Toy, callback: PlainCallback, *, until: Callable[[], bool], rate: float = 1e-3) -> int:
    """Gradient descent with a callback until something holds; the number of steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    give_up = time.monotonic() + 120
    num_steps = 0
    while not until():
        assert time.monotonic() < give_up
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        optimizer.step()
        num_steps += 1
        callback.step(loss)
        time.sleep(0.001)
    return num_steps


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def waiting_in(spool: Path) -> int:
    return len(list((spool / "waiting").glob("*")))


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and says nothing, until the test is over."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:  # closed at the end
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in taken:
        connection.close()
