"""Whoever reaches the broker can ring the bell, and do nothing else: no code runs, no worker dies, the next job succeeds."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path

import redis
from e2e_service import TOY, running_service

from service.broker import socket_path
from store.doorbell import TASK
from store.identifiers import new_id


class Touch:
    """What an unpickler would execute."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


def message(body: bytes, *, content_type: str = "application/json", task: str = TASK) -> bytes:
    """As kombu lays it into a list of Redis."""
    tag = new_id("tag")
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8" if content_type.endswith("json") else "binary",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": tag, "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "cpu"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    return json.dumps(envelope).encode()


def test_forged_messages_ring_the_bell_at_most(tmp_path: Path) -> None:
    data, marker = tmp_path / "data", tmp_path / "executed"
    evil = pickle.dumps(Touch(marker))
    calls = [[["job_" + "0" * 32], {}, {}], [["../../etc/passwd"], {}, {}], [[{"a": 1}], {}, {}], [[], {"job_id": None}, {}],
             [["job", "job"], {}, {}], [[None] * 1000, {}, {}]]  # fmt: skip
    forged = [
        message(json.dumps(call).encode()) for call in calls
    ] + [
        message(evil, content_type="application/x-python-serialize"),
        message(evil, content_type="application/x-python-serialize", task="celery.backend_cleanup"),
        message(b"[[], {}, {}]", task="os.system"),
        message(b"[[], {}, {}]", task="celery.chord"),
        message(b"not json"),
        message(b"null"),
        message(b"[" * 100_000),
    ]  # fmt: skip
    with running_service(data) as service:
        assert service.post(TOY, wait=60)["status"] == "succeeded"
        worker = service.worker().pid
        broker = redis.Redis(unix_socket_path=str(socket_path(data)))
        for text in forged:
            broker.rpush("cpu", text)
        assert service.post(TOY | {"force": True}, wait=60)["status"] == "succeeded"
        for text in reversed(forged):
            broker.lpush("cpu", text)
        assert service.post(TOY | {"force": True}, wait=60)["status"] == "succeeded"
        assert service.worker().pid == worker
        assert len(service.client.get("/v1/jobs").json()["data"]) == 3
        broker.close()
    assert not marker.exists()
