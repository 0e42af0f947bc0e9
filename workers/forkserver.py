"""The fork server: a warm, single-threaded process that forks one runner per order and tells how it ended.

Before it takes orders, it learns how well this machine lets it lock its runners in, by attacking itself.

Started as `python -m workers.forkserver` with one end of a control socket. When the other end closes, because the
worker stopped or was killed, it kills what it started and exits: nothing outlives its worker.
"""

from __future__ import annotations

import argparse
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from saddlescope.curvature.memory import open_meters
from workers import preload, runner
from workers.protocol import MAX_MESSAGE_BYTES, ORDER, Exit, Kill, Ready, Sandbox, Task
from workers.sandbox import kernel
from workers.sandbox.layers import Cell
from workers.sandbox.trial import confirm, make_cell


@dataclass(frozen=True)
class Child:
    """A runner that has not been reaped: its process, and the pipe on which its end will be told."""

    number: int
    pid: int
    pidfd: int
    status_descriptor: int


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.forkserver")
    parser.add_argument("--control", type=int, required=True, help="descriptor of our end of the control socket")
    parser.add_argument("--device", required=True)
    parser.add_argument("--target", required=True, help="module:name of the deed that runners do")
    options = parser.parse_args(arguments)
    # The worker decides when this process ends, by closing the socket; Ctrl-C and a group's SIGTERM are for the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Loading takes seconds, and more when a whole machine starts again: a worker that dies meanwhile leaves nobody who loads
    # on. The signal is tied to the thread that launched us, which waits until we are ready.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    device = preload.resolve_device(options.device)
    with _proving(device) as trial:
        module, _, name = options.target.partition(":")
        deed: runner.Deed = getattr(importlib.import_module(module), name)
        preload.warm_up(device)
        proof, _ = trial.communicate()
    if trial.returncode != 0:
        raise RuntimeError(f"the attack on the sandbox ended with status {trial.returncode}")
    sandbox = Sandbox.model_validate_json(proof)
    cell, sandbox = confirm(make_cell(device, sandbox.layers, open_meters()), sandbox)
    with socket.socket(fileno=options.control) as control:
        control.set_inheritable(False)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 0)
        control.send(Ready(device=device, sandbox=sandbox).model_dump_json().encode())
        serve(control, deed, cell)


def _proving(device: str) -> subprocess.Popen[bytes]:
    """A process that has not loaded torch forks in a millisecond; it attacks itself while this one warms up."""
    return subprocess.Popen([sys.executable, "-m", "workers.sandbox", "--device", device], stdout=subprocess.PIPE)  # noqa: S603


def serve(control: socket.socket, deed: runner.Deed, cell: Cell) -> None:
    """Fork and reap until the control socket closes."""
    children: dict[int, Child] = {}
    with selectors.EpollSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    child: Child = key.data
                    selector.unregister(child.pidfd)
                    del children[child.number]
                    _reap(child)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 3)
                if not message:
                    for child in children.values():
                        _kill(child)
                        _reap(child)
                    return
                order = ORDER.validate_json(message)
                if isinstance(order, Kill):
                    if order.number in children:
                        _kill(children[order.number])
                    continue
                held = [
                    control.fileno(),
                    selector.fileno(),
                    *(fd for child in children.values() for fd in (child.pidfd, child.status_descriptor)),
                ]
                child = _fork(order.number, order.task, descriptors, deed=deed, cell=cell, held=held)
                children[child.number] = child
                selector.register(child.pidfd, selectors.EVENT_READ, child)


def _fork(
    number: int,
    task: Task,
    descriptors: Sequence[int],
    *,
    deed: runner.Deed,
    cell: Cell,
    held: Sequence[int],
) -> Child:
    status, progress, errors = descriptors
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for descriptor in (*held, status):
            os.close(descriptor)
        runner.enter(task, deed=deed, cell=cell, progress_descriptor=progress, error_descriptor=errors, parent=parent)
    os.close(progress)
    os.close(errors)
    return Child(number=number, pid=pid, pidfd=os.pidfd_open(pid), status_descriptor=status)


def _kill(child: Child) -> None:
    # Not reaped, so neither the process id nor the group id can belong to anyone else.
    os.kill(child.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # killed before it had made its own group
        os.killpg(child.pid, signal.SIGKILL)


def _reap(child: Child) -> None:
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # whatever the runner started dies with it
    _, wait_status, usage = os.wait4(child.pid, 0)
    ended = Exit(wait_status=wait_status, max_rss_bytes=usage.ru_maxrss * 1024)
    with suppress(BrokenPipeError):  # the worker is gone, nobody asks any more
        os.write(child.status_descriptor, ended.model_dump_json().encode())
    os.close(child.status_descriptor)
    os.close(child.pidfd)


if __name__ == "__main__":
    main(sys.argv[1:])
