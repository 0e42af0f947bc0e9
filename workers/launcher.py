"""The worker's side of the fork server: start it, order runners, start it again when it has died."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, final

from workers.protocol import MAX_MESSAGE_BYTES, Kill, Ready, Spawn, Task

START_SECONDS = 120.0
STOP_SECONDS = 5.0
PACKAGE_ROOT = Path(__file__).resolve().parent.parent

# All that a runner inherits of the worker's environment: no address, no secret.
_KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)


class ForkServerError(Exception):
    """The fork server did not start; its standard error says why."""


@dataclass(frozen=True)
class Runner:
    """A runner as its supervisor sees it: two pipes to wait on and a number to kill it by."""

    number: int
    status_descriptor: int
    """Gives one `Exit` and ends; ends without one if the fork server died."""
    progress_descriptor: int

    def close(self) -> None:
        os.close(self.status_descriptor)
        os.close(self.progress_descriptor)


@final
class ForkServer:
    """A fork server process that is there whenever a runner is ordered."""

    def __init__(self, *, device: str, target: str = "workers.answer:ANALYSIS", path: tuple[Path, ...] = ()) -> None:
        self._device_setting = device
        self._target = target
        self._path = (PACKAGE_ROOT, *path)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: Ready | None = None
        self._orders = 0

    def start(self) -> Ready:
        """Start the server unless it runs; gives the device that its runners use, and how they are isolated.

        Raises:
            ForkServerError: if it does not become ready.
        """
        with self._lock:
            self._connect()
            if self._ready is None:
                raise ForkServerError("the fork server said nothing about itself")
            return self._ready

    def spawn(self, task: Task, *, errors: BinaryIO) -> Runner:
        """Fork a runner for `task`, its standard error going to `errors`.

        Raises:
            ForkServerError: if a server that had died does not start again.
        """
        status, status_end = os.pipe()
        progress, progress_end = os.pipe()
        try:
            with self._lock:
                self._orders += 1
                message = Spawn(number=self._orders, task=task).model_dump_json().encode()
                descriptors = [status_end, progress_end, errors.fileno()]
                try:
                    socket.send_fds(self._connect(), [message], descriptors)
                except (BrokenPipeError, ConnectionResetError):
                    # Only a send tells that the server died while it was idle.
                    self._disconnect()
                    socket.send_fds(self._connect(), [message], descriptors)
                return Runner(number=self._orders, status_descriptor=status, progress_descriptor=progress)
        except (ForkServerError, OSError):
            os.close(status)
            os.close(progress)
            raise
        finally:
            os.close(status_end)
            os.close(progress_end)

    def kill(self, runner: Runner) -> None:
        """Kill the runner's whole process group; nothing happens if it has ended."""
        with self._lock:
            if self._control is None:
                return
            try:
                self._control.send(Kill(number=runner.number).model_dump_json().encode())
            except (BrokenPipeError, ConnectionResetError):
                # A dead server's runners are dead: the kernel kills them with their parent.
                self._disconnect()

    def close(self) -> None:
        """Stop the server and every runner it started."""
        with self._lock:
            self._disconnect()

    def _connect(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._launch(theirs)
        ours.settimeout(START_SECONDS)
        try:
            message = ours.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            message = b""
        self._control = ours
        if not message:
            self._process.kill()
            self._disconnect()
            raise ForkServerError("the fork server did not become ready; its standard error says why")
        ours.settimeout(None)
        self._ready = Ready.model_validate_json(message)
        return ours

    def _launch(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable,
                "-m",
                "workers.forkserver",
                "--control",
                str(theirs.fileno()),
                "--device",
                self._device_setting,
                "--target",
                self._target,
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=self._environment(),
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        if self._device_setting == "cpu":
            kept["CUDA_VISIBLE_DEVICES"] = ""
        return kept | {
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in self._path),
            "PYTHONDONTWRITEBYTECODE": "1",
            # A thread pool that NumPy starts at import would make every fork a fork of a multi-threaded process.
            "OPENBLAS_NUM_THREADS": "1",
        }

    def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
