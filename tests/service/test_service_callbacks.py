"""The whole service as a process: a worker ends a job, the service calls back over TLS, whoever dies in between."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
import trustme
from receivers import receiver
from test_service_process import ROOT, Start, command, environment, start, wait_until

from saddlescope.client.webhooks import verify

__all__ = ["start"]

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}


def test_a_callback_arrives_although_receiver_and_service_were_down(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    changes = {
        "SADDLESCOPE_WEBHOOK_ALLOW": "127.0.0.0/8",
        "SADDLESCOPE_WEBHOOK_CA_FILE": str(tmp_path / "ca.pem"),
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = tmp_path / "data"
    service = start(data, **changes)
    secret = httpx2.get(f"{service.url}/v1/callback-secret").json()["secret"]
    body = TOY | {"callback_url": f"https://127.0.0.1:{port}/done"}
    job = httpx2.post(f"{service.url}/v1/jobs", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
    assert job["status"] == "succeeded"
    deliveries = f"/v1/jobs/{job['id']}/deliveries"

    def first() -> dict[str, object]:
        return httpx2.get(f"{service.url}{deliveries}").json()["data"][0]

    wait_until(lambda: first()["attempts"])
    assert first()["status"] == "pending"
    service.stop(signal.SIGKILL)
    with receiver(port=port, certificate=authority.issue_cert("127.0.0.1")) as told:
        service = start(data, **changes)
        wait_until(lambda: told.received)
        wait_until(lambda: first()["status"] == "succeeded")
    [one] = told.received
    message = verify(one.headers, one.body, secret)
    assert (message.data["id"], message.data["verdict"]) == (job["id"], "saddle")
    assert json.loads(one.body)["data"]["urls"]["web"].startswith("http://127.0.0.1:")
    assert service.stop() == 0


def test_a_receiver_that_hangs_slows_neither_jobs_nor_the_stop(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = start(tmp_path, SADDLESCOPE_WEBHOOK_ALLOW="127.0.0.1")
        body = TOY | {"callback_url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        for _ in range(4):
            job = httpx2.post(f"{service.url}/v1/jobs", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
            assert job["status"] == "succeeded"
        with closing(sqlite3.connect(tmp_path / "saddlescope.db")) as database:
            held = "SELECT count(*) FROM deliveries WHERE lease_until IS NOT NULL"
            wait_until(lambda: database.execute(held).fetchone()[0] > 0)
        assert service.stop() == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SADDLESCOPE_WEBHOOK_ALLOW", "10.0.0.0/99", "10.0.0.0/99"),
        ("SADDLESCOPE_WEBHOOK_CA_FILE", "/nowhere.pem", "holds no certificates"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_at_the_start(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    refused = subprocess.run(
        command(tmp_path), cwd=ROOT, env=environment({variable: value}), capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert said in refused.stderr
    assert list(tmp_path.iterdir()) == []
