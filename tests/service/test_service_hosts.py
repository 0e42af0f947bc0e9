"""A service without keys is asked under its own names and by its own pages alone, so that no page rebinds a name to it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from api_process import running_api
from fastapi.testclient import TestClient
from test_service_access import TOY, key

from service.parts import Parts
from service.settings import Auth
from store.keys import Scope

Build = Callable[..., TestClient]
OWN = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:65535", "127.8.9.10:80", "[::1]", "[::1]:8000"]
FOREIGN = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0:8000", "10.0.0.1", "[::]",
    "a@localhost", "localhost/", "localhost:8000:8000", "", " ", "é", "[::1", "[fe80::1%25eth0]", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_its_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200
    assert client.post("/v1/jobs", json=TOY, headers={"Host": host, "Origin": f"http://{host}"}).status_code == 202


@pytest.mark.parametrize("host", FOREIGN)
def test_anothers_name_is_told_nothing(client: TestClient, host: str) -> None:
    job = client.post("/v1/jobs", json=TOY).json()["id"]
    for address in ("/", "/v1/jobs", f"/v1/jobs/{job}", "/readyz", "/static/style.css", "/v1/openapi.json", "/nowhere"):
        answer = client.get(address, headers={"Host": host.encode()})
        assert (answer.status_code, answer.json()["code"]) == (421, "misdirected_request"), address
        assert job not in answer.text.replace(answer.json()["instance"], "")
    assert client.post(f"/v1/jobs/{job}/cancel", headers={"Host": host.encode()}).status_code == 421
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_two_hosts_in_one_request_must_both_be_its_own(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        for hosts, status in (
            (["localhost", "evil.example"], b"421"),
            (["evil.example", "localhost"], b"421"),
            (["localhost"], b"200"),
            ([], b"200"),
        ):
            with api.connect() as connection:
                head = "".join(f"Host: {host}\r\n" for host in hosts)
                connection.sendall(f"GET /healthz HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
                connection.settimeout(20)
                assert first_line(connection).split()[1] == status, hosts


def first_line(connection: socket.socket) -> bytes:
    told = b""
    while b"\r\n" not in told:
        told += connection.recv(4096)
    return told.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://localhost"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_page_of_another_origin_changes_nothing(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/v1/jobs", json=TOY, headers=headers).status_code == status
    assert len(client.get("/v1/jobs", headers=headers).json()["data"]) == (1 if status == 202 else 0)


def test_the_host_of_the_public_address_is_its_own(with_settings: Build) -> None:
    http = with_settings(public_url="https://Saddlescope.example/below")
    host = {"Host": "saddlescope.example"}
    assert http.get("/v1/jobs", headers=host).status_code == 200
    assert http.get("/v1/jobs", headers={"Host": "example"}).status_code == 421
    # A proxy may hand on the name that it was asked under, or one of loopback's.
    origin = {"Origin": "https://saddlescope.example"}
    assert http.post("/v1/jobs", json=TOY, headers=host | origin).status_code == 202
    assert http.post("/v1/jobs", json=TOY, headers=origin).status_code == 202


def test_with_keys_any_name_will_do(with_settings: Build, parts: Parts) -> None:
    http = with_settings(auth=Auth.KEYS)
    ours = key(parts, "ours", Scope.ADMIN)
    named = {"Host": "anything.example", "Origin": "https://elsewhere.example"}
    assert http.get("/v1/jobs", headers=ours | named).status_code == 200
    assert http.get("/v1/jobs", headers=named).status_code == 401
