"""What a callback costs the thread that trains: at a step where nothing happens, and at one where a snapshot is taken.

The step is that of a small transformer on this machine. A service that never answers stands for the worst that the
callback's own thread meets meanwhile.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from saddlescope.callbacks import PlainCallback, Plateau
from saddlescope.callbacks.snapshots import copy_state

WIDTH, NUM_LAYERS, NUM_WORDS, LENGTH, BATCH = 128, 4, 500, 64, 16
NUM_STEPS = 30
NUM_IDLE = 2000
NUM_SHADOWED = 10
NUM_SNAPSHOTS, NUM_QUICK_SNAPSHOTS = 7, 3
IDLE_SHARE = 0.01
SNAPSHOT_SECONDS = 0.05
NEVER = 10**9


class Language(nn.Module):
    """A transformer that tells the next word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, NUM_LAYERS, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, NUM_WORDS)

    def forward(self, words: Tensor) -> Tensor:
        seen: Tensor = self.out(self.layers(self.embedding(words)))
        return seen


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here = origin("torch", num_threads=torch.get_num_threads())
    num_snapshots = NUM_QUICK_SNAPSHOTS if quick else NUM_SNAPSHOTS
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = Language().to(device)
    words = torch.randint(NUM_WORDS, (BATCH, LENGTH), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten())
        loss.backward()
        optimizer.step()
        return loss

    step_seconds = statistics.median(_seconds(step, device) for _ in range(NUM_STEPS))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        idle_seconds = _idle_seconds(model, step(), url, Path(folder) / "idle")
        shadowed = _shadowed_seconds(step, model, device, url, Path(folder) / "shadowed")
        beyond, copied = _snapshot_seconds(model, device, url, Path(folder), num_snapshots)
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{device}: {num_parameters:,} parameters, {num_bytes / 2**20:.1f} MiB")
    print(f"a step                       {step_seconds * 1e3:10.3f} ms")
    print(f"the callback, idle           {idle_seconds * 1e6:10.3f} us  ({idle_seconds / step_seconds:.4%} of a step)")
    print(f"a copy of the parameters     {copied * 1e3:10.3f} ms")
    print(f"a snapshot beyond its copy   {beyond * 1e3:10.3f} ms")
    print(f"a step while one is written  {shadowed * 1e3:10.3f} ms, the slowest of {NUM_SHADOWED}")
    if not quick:
        told = {
            "device": str(device),
            "num_parameters": num_parameters,
            "snapshot_bytes": num_bytes,
            "step_seconds": step_seconds,
            "idle_seconds": idle_seconds,
            "idle_share": idle_seconds / step_seconds,
            "most_idle_share": IDLE_SHARE,
            "copy_seconds": copied,
            "beyond_copy_seconds": beyond,
            "most_beyond_copy_seconds": SNAPSHOT_SECONDS,
            "num_shadowed": NUM_SHADOWED,
            "slowest_shadowed_seconds": shadowed,
        }
        write_results("callback", {**here, **told})
    return [
        Promise("callback, share of a step when idle", idle_seconds / step_seconds, IDLE_SHARE),
        Promise("callback, seconds a snapshot beyond the copy", beyond, SNAPSHOT_SECONDS),
    ]


def _idle_seconds(model: nn.Module, loss: Tensor, url: str, spool: Path) -> float:
    callback = PlainCallback(
        model, loss="w", run="cost", every=NEVER, plateau=Plateau(window=200), url=url, spool=spool
    )
    falling = loss.detach()
    started = time.perf_counter()
    for _ in range(NUM_IDLE):
        falling = falling * 0.999
        callback.step(falling)
    with_callback = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(NUM_IDLE):
        falling = falling * 0.999
    callback.close(0)
    return (with_callback - (time.perf_counter() - started)) / NUM_IDLE


def _shadowed_seconds(
    step: Callable[[], Tensor], model: nn.Module, device: torch.device, url: str, spool: Path
) -> float:
    """The slowest of the steps that follow a snapshot, while the callback's own thread hashes, writes and sends it."""
    callback = PlainCallback(model, loss="w", run="cost", every=2, url=url, spool=spool)
    callback.step(1.0, 1)
    callback.step(1.0, 2)
    slowest = max(_seconds(step, device) for _ in range(NUM_SHADOWED))
    callback.close(0)
    return slowest


def _snapshot_seconds(
    model: nn.Module, device: torch.device, url: str, folder: Path, num_snapshots: int
) -> tuple[float, float]:
    """The median of a snapshot less that of a bare copy, and that of the copy."""
    snapshots, copies = [], []
    for number in range(num_snapshots):
        callback = PlainCallback(model, loss="w", run="cost", every=2, url=url, spool=folder / str(number))
        callback.step(1.0, 1)  # starts the thread
        copies.append(_seconds(lambda: copy_state(model), device))
        snapshots.append(_seconds(lambda: callback.step(1.0, 2), device))  # noqa: B023  called at once
        callback.close(0)
    return max(0.0, statistics.median(snapshots) - statistics.median(copies)), statistics.median(copies)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
