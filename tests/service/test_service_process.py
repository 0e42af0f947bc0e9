"""The real command: starts everything, answers, survives, stops with every child, starts again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    data: Path

    def children(self) -> dict[str, int]:
        """Name and process id of everything that works on this data folder."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError):
                # The broker writes its title over its arguments and its environment; it works in the data folder.
                if os.readlink(entry / "cwd").startswith(str(self.data)):
                    found["broker"] = int(entry.name)
                elif os.fsencode(self.data) in (entry / "environ").read_bytes():
                    found[f"worker {entry.name}"] = int(entry.name)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


Start = Callable[..., Running]


def command(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "service", "--port", "0", "--data", str(data), *arguments]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SADDLESCOPE_")}
    return kept | dict(changes or {})


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Running] = []

    def run(data: Path, *arguments: str, **changes: str) -> Running:
        process = subprocess.Popen(
            command(data, *arguments),
            cwd=ROOT,
            env=environment(changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        one = Running(process, "", data)
        running.append(one)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Saddlescope is ready at http://127.0.0.1:"), line
        one.url = line.split()[-1]
        return one

    yield run
    for one in running:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()
    for one in running:
        wait_until(lambda one=one: not one.children())


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def toy(url: str) -> str:
    """The status of the lecture's saddle, submitted over HTTP and computed by the real worker."""
    job = httpx2.post(f"{url}/v1/jobs", json=TOY, headers={"Prefer": "wait=30"}, timeout=40).json()
    return job["status"] if job["error"] is None else f"{job['error']['code']}: {job['error']['detail']}"


def test_it_answers_survives_its_children_and_stops_with_them(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "a folder with a name that is too long for the path of a Unix socket, which has 108 bytes"
    service = start(data)
    assert toy(service.url) == "succeeded"
    before = service.children()
    assert "broker" in before
    # No child listens on TCP: the broker is reached by its socket alone.
    assert "valkey" not in " ".join(listening(service.children().values()))

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    assert toy(service.url) == "succeeded"
    assert httpx2.get(f"{service.url}/readyz").json()["broker"]["status"] == "ok"
    assert not set(before.values()) & set(service.children().values())

    assert service.process.stdout is not None
    assert service.stop() == 0
    assert service.process.stdout.read() == ""
    assert service.children() == {}

    again = start(data)
    assert len(httpx2.get(f"{again.url}/v1/jobs").json()["data"]) == 2
    assert toy(again.url) == "succeeded"
    assert again.stop(signal.SIGINT) == 0
    assert again.children() == {}


def test_children_die_with_a_killed_parent_and_the_folder_can_be_used_again(start: Start, tmp_path: Path) -> None:
    service = start(tmp_path)
    assert service.children()
    service.stop(signal.SIGKILL)
    again = start(tmp_path)
    assert toy(again.url) == "succeeded"


def test_a_running_long_poll_does_not_hold_up_the_stop(start: Start, tmp_path: Path) -> None:
    service = start(tmp_path, "--api-only", SADDLESCOPE_BROKER_URL="redis+socket:///nowhere/valkey.sock")
    job = httpx2.post(f"{service.url}/v1/jobs", json=TOY).json()["id"]
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as connection:
        request = f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n"
        connection.sendall(request.encode())
        time.sleep(0.3)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 10


def test_two_services_on_one_folder_are_refused(start: Start, tmp_path: Path) -> None:
    service = start(tmp_path)
    second = subprocess.run(command(tmp_path), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert f"in use by another service (process {service.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert toy(service.url) == "succeeded"


def test_an_open_address_without_keys_is_refused(tmp_path: Path) -> None:
    refused = subprocess.run(
        [*command(tmp_path), "--host", "0.0.0.0"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "SADDLESCOPE_AUTH=keys" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = subprocess.run(
            [*command(tmp_path), "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert refused.returncode == 2
    assert "cannot listen" in refused.stderr


def test_a_key_made_on_the_command_line_opens_the_service(start: Start, tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "service", "keys", "create", "--project", "vision", "--scopes", "submit,read",
         "--data", str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = made.stdout.strip()
    nowhere = "redis+socket:///nowhere/valkey.sock"
    service = start(tmp_path, "--api-only", SADDLESCOPE_AUTH="keys", SADDLESCOPE_BROKER_URL=nowhere)
    assert httpx2.get(f"{service.url}/v1/jobs").status_code == 401
    job = httpx2.post(f"{service.url}/v1/jobs", json=TOY, headers={"Authorization": f"Bearer {key}"})
    assert (job.status_code, job.json()["project"]) == (202, "vision")
    # What is stored cannot be used as a key.
    with contextlib.closing(sqlite3.connect(tmp_path / "saddlescope.db")) as database:
        assert key not in "\n".join(database.iterdump())


def test_a_large_upload_takes_little_memory(start: Start, tmp_path: Path) -> None:
    service = start(tmp_path, "--api-only", SADDLESCOPE_BROKER_URL="redis+socket:///nowhere/valkey.sock")
    httpx2.post(f"{service.url}/v1/artifacts", content=bytes(2**20))
    size = 256 * 2**20

    def form() -> Iterator[bytes]:
        yield b'--cut\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        yield b'{"checkpoint": {"part": "w"}, "loss": {"kind": "expression", "expression": "w"}}'
        yield b'\r\n--cut\r\nContent-Disposition: form-data; name="w"; filename="w"\r\n\r\n'
        yield from plain()
        yield b"\r\n--cut--\r\n"

    def plain() -> Iterator[bytes]:
        for _ in range(size // 2**20):
            yield bytes(2**20)

    before = peak_bytes(service.process.pid)
    raw = httpx2.post(f"{service.url}/v1/artifacts", content=plain(), timeout=60)
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    job = httpx2.post(f"{service.url}/v1/jobs", content=form(), headers=headers, timeout=60)
    assert (raw.json()["size"], job.status_code) == (size, 202)
    with httpx2.stream("GET", raw.json()["url"], timeout=60) as answer:
        assert sum(map(len, answer.iter_bytes())) == size
    assert peak_bytes(service.process.pid) - before < 48 * 2**20


def test_a_slow_body_is_cut_and_others_are_not_held_up(start: Start, tmp_path: Path) -> None:
    nowhere = "redis+socket:///nowhere/valkey.sock"
    service = start(tmp_path, "--api-only", SADDLESCOPE_BROKER_URL=nowhere, SADDLESCOPE_BODY_PATIENCE_SECONDS="1")
    for drip in (0.0, 0.2):
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"POST /v1/artifacts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nx")
            started = time.monotonic()
            with contextlib.suppress(OSError):
                while drip and time.monotonic() - started < 4:
                    time.sleep(drip)
                    connection.sendall(b"x")
            connection.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 408")
        assert httpx2.get(f"{service.url}/healthz").status_code == 200


def test_the_service_never_imports_torch() -> None:
    script = (
        "import pkgutil, importlib, sys, service\n"
        "names = [m.name for m in pkgutil.walk_packages(service.__path__, 'service.')]\n"
        "[importlib.import_module(name) for name in names if not name.endswith('__main__')]\n"
        "import service.__main__\n"
        "assert 'service.app' in sys.modules and len(names) > 30, names\n"
        "heavy = {'torch', 'sympy', 'scipy', 'sklearn', 'workers', 'saddlescope.curvature'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_running_service_has_not_loaded_torch(start: Start, tmp_path: Path) -> None:
    service = start(tmp_path)
    assert toy(service.url) == "succeeded"
    mapped = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "libsqlite3" in mapped or "_sqlite3" in mapped
    assert "libtorch" not in mapped


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no peak is told")


def listening(pids: Iterator[int]) -> list[str]:
    """The commands of those processes that hold a listening TCP socket."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
            if links & inodes:
                found.append(Path(f"/proc/{pid}/cmdline").read_text())
    return found
