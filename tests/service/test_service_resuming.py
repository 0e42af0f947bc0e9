"""What survives: connections cut in the middle, a killed process, a full disk."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from api_process import Api, running_api

TUS = {"Tus-Resumable": "1.0.0"}
RANDOM = random.Random(7)
CONTENT = RANDOM.randbytes(64 * 2**20)
NAME = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def create(api: Api, size: int = len(CONTENT)) -> str:
    said = f"sha256 {base64.b64encode(NAME.encode()).decode()}"
    headers = TUS | {"Upload-Length": str(size)} | ({"Upload-Metadata": said} if size == len(CONTENT) else {})
    answer = httpx2.post(f"{api.url}/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"].removeprefix(api.url)


def head(api: Api, path: str) -> httpx2.Headers:
    answer = httpx2.head(f"{api.url}{path}", headers=TUS, timeout=30)
    assert answer.status_code == 200
    return answer.headers


def offset_of(api: Api, path: str) -> int:
    return int(head(api, path)["upload-offset"])


def begin(api: Api, path: str, offset: int, content: bytes, *, announced: int) -> socket.socket:
    """A connection on which a PATCH of `announced` bytes has begun, and `content` was sent of it."""
    connection = api.connect()
    connection.sendall(
        f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n".encode()
    )
    connection.sendall(content)
    return connection


def finish(api: Api, path: str) -> str:
    offset = offset_of(api, path)
    headers = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    answer = httpx2.patch(f"{api.url}{path}", content=CONTENT[offset:], headers=headers, timeout=60)
    assert answer.status_code == 204, answer.text
    return answer.headers["saddlescope-artifact"]


def test_an_upload_that_is_cut_ten_times_keeps_every_byte_that_arrived(api: Api) -> None:
    path = create(api)
    httpx2.post(f"{api.url}/v1/artifacts", content=bytes(2**20))
    before = api.peak_bytes()
    sent = 0
    for number in range(10):
        piece = CONTENT[sent : sent + RANDOM.randrange(2**20, 6 * 2**20)]
        with begin(api, path, sent, piece, announced=len(CONTENT) - sent) as connection:
            if number % 2:  # a reset instead of a close; what is on its way may be lost
                while offset_of(api, path) < sent + len(piece) and connection.fileno() >= 0:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
        offset = offset_of(api, path)
        if number % 2 == 0:
            assert offset == sent + len(piece)
        assert sent <= offset <= sent + len(piece)
        sent = offset
    assert finish(api, path) == NAME
    assert httpx2.get(f"{api.url}/v1/artifacts/{NAME}", timeout=60).content == CONTENT
    assert api.peak_bytes() - before < 48 * 2**20


def test_a_part_with_a_checksum_that_is_cut_is_not_kept(api: Api) -> None:
    path = create(api)
    with api.connect() as connection:
        connection.sendall(
            f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Upload-Checksum: sha256 {base64.b64encode(bytes.fromhex(NAME[7:])).decode()}\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
            + CONTENT[: 5 * 2**20]
        )
    assert offset_of(api, path) == 0
    assert finish(api, path) == NAME


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        path = create(api)
        begin(api, path, 0, CONTENT[: 20 * 2**20], announced=len(CONTENT)).close()
        acknowledged = offset_of(api, path)
        assert acknowledged == 20 * 2**20
        # More is on its way, of which nothing was acknowledged when the process dies.
        with begin(api, path, acknowledged, CONTENT[acknowledged : acknowledged + 2**22], announced=2**23):
            api.process.kill()
            api.process.wait()
    with running_api(tmp_path) as again:
        assert offset_of(again, path) == acknowledged
        assert finish(again, path) == NAME
        assert head(again, path)["saddlescope-artifact"] == NAME
        assert httpx2.get(f"{again.url}/v1/artifacts/{NAME}", timeout=60).content == CONTENT
    assert list((tmp_path / "blobs" / "uploads").iterdir()) == []


def test_a_connection_that_is_dead_without_saying_so_makes_way(api: Api) -> None:
    path = create(api)
    with begin(api, path, 0, CONTENT[:1000], announced=len(CONTENT)) as dead:
        # While its bytes come, or just came, nobody else may write.
        second = httpx2.patch(
            f"{api.url}{path}",
            content=b"x",
            headers=TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
        )
        assert (second.status_code, second.json()["code"]) == (423, "upload_locked")
        assert offset_of(api, path) == 1000
        assert dead.recv(64).startswith(b"HTTP/1.1 423")
    assert finish(api, path) == NAME


def test_a_body_that_is_too_slow_is_cut_and_its_bytes_kept(tmp_path: Path) -> None:
    with running_api(tmp_path, SADDLESCOPE_BODY_PATIENCE_SECONDS="0.5") as api:
        path = create(api)
        with begin(api, path, 0, CONTENT[:1000], announced=len(CONTENT)) as slow:
            assert slow.recv(64).startswith(b"HTTP/1.1 408")
        assert offset_of(api, path) == 1000


def test_a_body_that_takes_too_long_is_cut_however_steadily_it_comes(tmp_path: Path) -> None:
    with running_api(tmp_path, SADDLESCOPE_BODY_DEADLINE_SECONDS="0.5") as api:
        path = create(api)
        sent = 0
        with begin(api, path, 0, b"", announced=len(CONTENT)) as steady:
            steady.setblocking(False)
            while True:
                try:
                    assert steady.recv(64).startswith(b"HTTP/1.1 408")
                    break
                except BlockingIOError:
                    sent += steady.send(CONTENT[sent : sent + 1024])
                    time.sleep(0.01)
        assert 0 < offset_of(api, path) <= sent
        assert finish(api, path) == NAME


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_by_every_way_in_and_leaves_nothing_behind(tmp_path: Path, small_disk: Path) -> None:
    large = CONTENT[: 9 * 2**20]
    name = f"sha256:{hashlib.sha256(large).hexdigest()}"
    form = (
        b'--cut\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        b'{"checkpoint": {"part": "w"}, "loss": {"kind": "expression", "expression": "w"}}'
        b'\r\n--cut\r\nContent-Disposition: form-data; name="w"\r\n\r\n' + large + b"\r\n--cut--\r\n"
    )
    chunk = TUS | {"Content-Type": "application/offset+octet-stream"}
    with (
        running_api(tmp_path / "data", SADDLESCOPE_BLOBS_URL=str(small_disk)) as api,
        httpx2.Client(base_url=api.url, timeout=60) as client,
    ):
        answers = [
            client.post("/v1/artifacts", content=large),
            client.put(f"/v1/artifacts/{name}", content=large),
            client.post("/v1/jobs", content=form, headers={"Content-Type": "multipart/form-data; boundary=cut"}),
        ]
        assert free_bytes(small_disk) > 7.9 * 2**20
        path = create(api, len(large))
        answers.append(client.patch(path, content=large, headers=chunk | {"Upload-Offset": "0"}))
        told = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert told == [(507, "storage_full")] * 4
        # What found room is kept; when there is more, the upload goes on.
        kept = offset_of(api, path)
        assert 7 * 2**20 < kept <= 8 * 2**20
        subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
        rest = client.patch(path, content=large[kept:], headers=chunk | {"Upload-Offset": str(kept)})
        assert rest.headers["saddlescope-artifact"] == name
        assert client.get("/healthz").status_code == 200


def test_a_disk_that_is_full_of_rows_is_told_as_well(small_disk: Path) -> None:
    with running_api(small_disk) as api:
        fill = small_disk / "fill"
        with fill.open("wb") as file:
            file.truncate(0)
            while free_bytes(small_disk) > 0:
                os.write(file.fileno(), bytes(min(free_bytes(small_disk), 2**16)))
        for _ in range(3):
            answer = httpx2.post(f"{api.url}/v1/uploads", headers=TUS | {"Upload-Length": "5"})
            assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert httpx2.post(f"{api.url}/v1/artifacts", content=b"x").json()["code"] == "storage_full"
        fill.unlink()
        assert httpx2.post(f"{api.url}/v1/artifacts", content=b"x").status_code == 201


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
