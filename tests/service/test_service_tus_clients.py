"""Clients that others wrote for tus work as they are."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from api_process import Api, running_api
from tusclient.client import TusClient

CONTENT = random.Random(11).randbytes(10 * 2**20 + 5)
NAME = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path / "data") as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("checksums", [False, True])
def test_tuspy_sends_in_parts_and_goes_on_later(api: Api, file: Path, checksums: bool) -> None:
    client = TusClient(f"{api.url}/v1/uploads")
    said = {"filename": "model.pt", "sha256": NAME}
    with file.open("rb") as content:
        uploader = client.uploader(file_stream=content, chunk_size=3_000_000, metadata=said, upload_checksum=checksums)
        uploader.upload_chunk()
        uploader.upload_chunk()
    with file.open("rb") as content:
        again = client.uploader(file_stream=content, chunk_size=3_000_000, url=uploader.url, upload_checksum=checksums)
        assert again.offset == 6_000_000
        again.upload()
    assert again.request.response_headers["saddlescope-artifact"] == NAME
    assert httpx2.get(f"{api.url}/v1/artifacts/{NAME}").content == CONTENT


def test_tus_js_client_sends_in_parts_and_goes_on_later(api: Api, file: Path) -> None:
    """Needs node, and TUS_JS_CLIENT naming a folder where `npm install tus-js-client` was run."""
    folder = os.environ.get("TUS_JS_CLIENT")
    if shutil.which("node") is None or folder is None:
        pytest.skip("needs node, and TUS_JS_CLIENT naming a folder where tus-js-client is installed")
    program = Path(__file__).with_name("send_by_tus_js.mjs")
    done = subprocess.run(
        ["node", program, api.url, file, NAME], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, NAME), done.stderr
    assert httpx2.get(f"{api.url}/v1/artifacts/{NAME}").content == CONTENT
