"""Sends a hostile request to a running service, and a plain one right after it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx2
from e2e_service import TOY, Service

from tests.hostile.hostile_requests import SUCCEEDED, Case


@dataclass(frozen=True)
class End:
    """The word that a request ended in, after how long, and the status of a plain job sent right after it."""

    word: str
    seconds: float
    """From the first byte that was sent to the answer that says how it ended."""
    job_seconds: float
    following: str


def plain(service: Service) -> str:
    return str(service.post(TOY | {"force": True, "options": {"landscape": False}}, wait=60)["status"])


def send(service: Service, case: Case) -> End:
    started = time.monotonic()
    answer = _answer(service.client, case)
    seconds = time.monotonic() - started
    word, job_seconds = _outcome(answer)
    return End(word, seconds, job_seconds, plain(service))


def _answer(client: httpx2.Client, case: Case) -> httpx2.Response:
    headers = {"Prefer": "wait=60"}
    if case.file is not None:
        parts = {"request": (None, json.dumps(case.request)), "file": case.file}
        return client.post("/v1/jobs", files=parts, headers=headers)
    content = case.request if isinstance(case.request, bytes) else json.dumps(case.request).encode()
    return client.post("/v1/jobs", content=content, headers=headers | {"Content-Type": "application/json"})


def _outcome(answer: httpx2.Response) -> tuple[str, float]:
    body: Mapping[str, object] = answer.json()
    if answer.status_code != 202:
        is_short = len(answer.content) < 64 * 2**10
        return f"{answer.status_code} {body['code']}" if is_short else "an absurdly long answer", 0.0
    if not body["done"] or body["attempt"] != 1:
        return f"{body['status']} at attempt {body['attempt']}", 0.0
    began, ended = (datetime.fromisoformat(str(body[moment])) for moment in ("started_at", "finished_at"))
    error = body["error"]
    word = str(error["code"]) if isinstance(error, dict) else SUCCEEDED
    return word, (ended - began).total_seconds()
