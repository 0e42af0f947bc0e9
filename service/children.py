"""Child processes that live as long as this one: started again when they die, stopped when it stops."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger("service")

_TETHER: Final = Path(__file__).with_name("tether.py")
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.5, 30.0
# A child that lived this long did not die of its start.
_STEADY_SECONDS = 60.0


class Child:
    """One program, kept running by a thread of its own.

    The thread both starts and outlives the program: Linux ties a tethered child to the thread that made it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str],
        patience_seconds: float,
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self._command = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command]
        self._log_file = log_file
        self._environment = dict(environment)
        self._patience_seconds = patience_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)

    def start(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that does not listen; returns when the program is gone."""
        self._stopping.set()
        self._thread.join()

    def _keep(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            exit_status = self._run()
            if self._stopping.is_set():
                return
            backoff = _FIRST_BACKOFF_SECONDS if time.monotonic() - started > _STEADY_SECONDS else backoff
            log.warning(
                "child_died", child=self.name, exit_status=exit_status, seconds=backoff, log_file=str(self._log_file)
            )
            self._stopping.wait(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)

    def _run(self) -> int:
        with self._log_file.open("ab") as output:
            # Its own session: Ctrl-C reaches this process alone, which then stops its children in order.
            program = subprocess.Popen(  # noqa: S603 - the command is ours
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )
        self.pid = program.pid
        try:
            while program.poll() is None:
                if self._stopping.wait(0.1):
                    return self._end(program)
            return program.returncode
        finally:
            self.pid = None

    def _end(self, program: subprocess.Popen[bytes]) -> int:
        program.terminate()
        try:
            return program.wait(self._patience_seconds)
        except subprocess.TimeoutExpired:
            log.warning("child_killed", child=self.name)
            program.kill()
            return program.wait()
