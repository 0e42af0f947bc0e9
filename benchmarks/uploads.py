"""How fast one stream is taken, and how much memory it costs, when it is cut ten times on the way.

Starts the API alone on a folder of its own. Fails under `MEGABYTES_PER_SECOND` or over `PEAK_BYTES`. What the disk
itself takes is measured beside it: a slower disk is no fault of the service.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from benchmarks.services import SERVER

MEGABYTES_PER_SECOND = 300
# Of what the disk alone takes, where that is less than the above.
SHARE_OF_DISK = 0.6
PEAK_BYTES = 250 * 2**20
NUM_CUTS = 10
PLAIN_BYTES = 2**30
NUM_BYTES, NUM_QUICK_BYTES = 4 * 2**30, 2**28
REPOSITORY = Path(__file__).resolve().parent.parent
TUS = {"Tus-Resumable": "1.0.0"}
BLOCK = random.Random(0).randbytes(2**20)


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, num_bytes = origin(*SERVER), NUM_QUICK_BYTES if quick else NUM_BYTES
    plain = min(num_bytes, PLAIN_BYTES)
    digest = hashlib.sha256()
    for number in range(num_bytes // 2**20):
        digest.update(_block(number))
    with tempfile.TemporaryDirectory() as folder, _api(Path(folder)) as (url, process):
        disk = _disk_speed(Path(folder), plain)
        before = psutil.Process(process.pid).memory_info().rss
        idle = _processor_seconds(process.pid)
        plain_speed = plain / 1e6 / _put(url, plain)
        spent = (_processor_seconds(process.pid) - idle) / plain * 2**30
        print(f"{'one PUT':<28}{plain / 2**20:>8.0f} MiB{plain_speed:>8.0f} MB/s", end="")
        print(f"  (CPU of the API: {spent:.1f} s per GiB)")
        seconds, sending = _upload(url, num_bytes, f"sha256:{digest.hexdigest()}")
        speed = num_bytes / 1e6 / sending
        print(f"{f'resumable, cut {NUM_CUTS} times':<28}{num_bytes / 2**20:>8.0f} MiB{speed:>8.0f} MB/s", end="")
        print(f"  ({seconds:.1f} s with the pauses between the pieces and the last hash)")
        peak = _peak_bytes(process.pid)
    print(f"{'write and fsync alone':<28}{'':>12}{disk:>8.0f} MB/s")
    print(f"memory of the API: {before / 2**20:.0f} MiB idle, {peak / 2**20:.0f} MiB at most")
    if not quick:
        told = {
            "plain": {"bytes": plain, "megabytes_per_second": plain_speed, "cpu_seconds_per_gibibyte": spent},
            "resumable": {"bytes": num_bytes, "num_cuts": NUM_CUTS, "megabytes_per_second": speed, "seconds": seconds},
            "disk_megabytes_per_second": disk,
            "memory": {"idle_bytes": before, "peak_bytes": peak},
        }
        write_results("uploads", {**here, **told})
    goal = min(MEGABYTES_PER_SECOND, SHARE_OF_DISK * disk)
    return [
        Promise(f"resumable upload, of the time at {goal:.0f} MB/s", goal / speed, 1.0),
        Promise("memory of the API meanwhile, MiB", peak / 2**20, PEAK_BYTES / 2**20),
    ]


def _block(number: int) -> bytes:
    return number.to_bytes(8, "little") + BLOCK[8:]


def _put(url: str, num_bytes: int) -> float:
    started = time.perf_counter()
    with _connected(url) as connection:
        connection.sendall(
            f"POST /v1/artifacts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {num_bytes}\r\n\r\n".encode()
        )
        for number in range(num_bytes // 2**20):
            connection.sendall(_block(number))
        _expect(connection, b"HTTP/1.1 201")
    return time.perf_counter() - started


def _upload(url: str, num_bytes: int, name: str) -> tuple[float, float]:
    """Seconds from the announcement to the artifact, and those in which bytes were on their way."""
    said = f"sha256 {base64.b64encode(name.encode()).decode()}"
    headers = TUS | {"Upload-Length": str(num_bytes), "Upload-Metadata": said}
    location = httpx2.post(f"{url}/v1/uploads", headers=headers).raise_for_status().headers["location"]
    started, sending, offset = time.perf_counter(), 0.0, 0
    for piece in range(1, NUM_CUTS + 2):
        end = num_bytes * piece // (NUM_CUTS + 1) // 2**20 * 2**20 if piece <= NUM_CUTS else num_bytes
        begun = time.perf_counter()
        with _connected(url) as connection:
            connection.sendall(
                f"PATCH {urlsplit(location).path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
                f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
                f"Content-Length: {num_bytes - offset}\r\n\r\n".encode()
            )
            for number in range(offset // 2**20, end // 2**20):
                connection.sendall(_block(number))
            if end == num_bytes:
                _expect(connection, b"HTTP/1.1 204")
        while offset < end < num_bytes:
            answer = httpx2.head(location, headers=TUS, timeout=60).raise_for_status()
            offset = int(answer.headers["upload-offset"])
        sending += time.perf_counter() - begun
    answer = httpx2.head(location, headers=TUS).raise_for_status()
    if answer.headers["saddlescope-artifact"] != name:
        raise RuntimeError("the artifact has another name")
    return time.perf_counter() - started, sending


def _expect(connection: socket.socket, start: bytes) -> None:
    answer = connection.recv(4096)
    if not answer.startswith(start):
        raise RuntimeError(f"expected {start!r}, got {answer!r}")


def _connected(url: str) -> socket.socket:
    return socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 80))


def _disk_speed(folder: Path, num_bytes: int) -> float:
    started = time.perf_counter()
    with (folder / "speed").open("wb", buffering=0) as file:
        for number in range(num_bytes // 2**20):
            file.write(_block(number))
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    (folder / "speed").unlink()
    return num_bytes / 1e6 / seconds


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def _api(data: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", "--data", str(data), "--api-only"],
        cwd=REPOSITORY,
        env=os.environ | {"SADDLESCOPE_BROKER_URL": "redis+socket:///nowhere/valkey.sock"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
