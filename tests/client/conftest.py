from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_server import ScriptedServer, serve


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with serve() as server:
        yield server
