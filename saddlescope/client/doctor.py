"""`saddlescope doctor`: is everything there that a training cluster needs, from the address to a finished job?"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version

import httpx2

from saddlescope.client.errors import SaddlescopeError
from saddlescope.client.session import Client
from saddlescope.contract.vocabulary import Verdict
from saddlescope.examination import Finding, ok, problem, skipped, warning

PATIENCE_SECONDS = 10.0
JOB_SECONDS = 120.0
SKEW_SECONDS = 5.0
OLDEST_TORCH = (2, 11)
TINY = b"saddlescope doctor\n"
SADDLE: Mapping[str, object] = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "labels": {"made-by": "saddlescope doctor"},
}


@dataclass(frozen=True)
class _Service:
    url: str
    http: httpx2.Client
    client: Client


def examine(url: str | None, api_key: str | None) -> Iterator[Finding]:
    """Findings one by one, as they are made. What cannot be asked without an earlier answer is skipped."""
    with Client(url, api_key, retries=1) as client:
        headers = {} if client.api_key is None else {"Authorization": f"Bearer {client.api_key}"}
        with httpx2.Client(base_url=client.url, headers=headers, timeout=PATIENCE_SECONDS) as http:
            service = _Service(client.url, http, client)
            reached = _reach(service)
            yield reached
            if reached.remedy is None:
                try:
                    yield from _examine_reached(service)
                except httpx2.RequestError as failure:
                    yield problem(
                        "connection",
                        f"{client.url} did not answer {failure.request.url.path}: {failure or type(failure).__name__}",
                        "ask the operators: a part of the service hangs; `python -m service doctor` there says which",
                    )
    yield _torch()


def _examine_reached(service: _Service) -> Iterator[Finding]:
    yield _parts(service)
    yield _version(service)
    yield _clock(service)
    found = _scopes(service)
    yield _key(found)
    scopes = frozenset[str]() if found is None else found
    if "submit" not in scopes:
        yield skipped("upload", "the key may not submit")
        yield skipped("job", "the key may not submit")
        return
    yield _upload(service)
    yield _job(service) if "read" in scopes else skipped("job", "the key may submit, and not read the answer")


def _reach(service: _Service) -> Finding:
    try:
        answer = service.http.get("/healthz")
    except httpx2.RequestError as failure:
        return problem(
            "service",
            f"nothing answers at {service.url}: {failure or type(failure).__name__}",
            "start it with `python -m service`, or give its address with --url or SADDLESCOPE_URL",
        )
    if answer.status_code != HTTPStatus.OK or '"status"' not in answer.text:
        return problem(
            "service",
            f"{service.url} answers {answer.status_code}, and not as Saddlescope does",
            "check the address, and that a proxy in between passes every path on",
        )
    return ok("service", f"{service.url} answers in {answer.elapsed.total_seconds() * 1e3:.0f} ms")


def _parts(service: _Service) -> Finding:
    told = _json(service.http.get("/readyz"))
    if told.get("status") == "ready":
        workers = told.get("workers")
        count = workers.get("count") if isinstance(workers, dict) else None
        return ok("parts", f"database, broker and blob store are well; {count} workers")
    ill = [
        f"{name}: {part.get('detail') or part.get('status')}"
        for name, part in told.items()
        if isinstance(part, dict) and part.get("status") != "ok"
    ]
    detail = "; ".join(ill) or "the service does not say that it is ready"
    remedy = "ask the operators; `python -m service doctor` on the service's machine says more"
    return warning("parts", detail, remedy) if told.get("status") == "degraded" else problem("parts", detail, remedy)


def _version(service: _Service) -> Finding:
    from saddlescope import __version__  # noqa: PLC0415  the package imports this module lazily

    info = _json(service.http.get("/v1/openapi.json")).get("info")
    theirs = str(info.get("version")) if isinstance(info, dict) else "unknown"
    if theirs.split(".")[:2] == __version__.split(".")[:2]:
        return ok("version", f"service {theirs}, client {__version__}")
    return warning("version", f"service {theirs}, client {__version__}", f"pip install 'saddlescope=={theirs}'")


def _clock(service: _Service) -> Finding:
    told = service.http.get("/healthz").headers.get("date")
    if told is None:
        return skipped("clock", "the answers have no Date")
    skew = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        return warning("clock", f"the service's clock is {skew:+.0f} s from this one", "synchronise both with NTP")
    return ok("clock", f"within {SKEW_SECONDS:g} s of the service's")


def _scopes(service: _Service) -> frozenset[str] | None:
    """What the key may do, tried out; None if it is no key here."""
    asked = {
        "read": service.http.get("/v1/jobs", params={"limit": 1}),
        "submit": service.http.post("/v1/jobs", params={"dry_run": "true"}, json=SADDLE),
        "admin": service.http.get("/metrics"),
    }
    if asked["read"].status_code == HTTPStatus.UNAUTHORIZED:
        return None
    return frozenset(name for name, answer in asked.items() if answer.is_success)


def _key(scopes: frozenset[str] | None) -> Finding:
    if scopes is None:
        return problem(
            "key",
            "the key is missing, unknown, expired or revoked",
            "ask for one (`python -m service keys create`), and give it with SADDLESCOPE_API_KEY",
        )
    if not {"read", "submit"} <= scopes:
        return problem(
            "key",
            f"the key may only {', '.join(sorted(scopes)) or 'do nothing'}",
            "ask for a key with the scopes submit and read",
        )
    return ok("key", f"may {', '.join(sorted(scopes))}")


def _upload(service: _Service) -> Finding:
    path = f"/v1/artifacts/sha256:{hashlib.sha256(TINY).hexdigest()}"
    answer = service.http.put(path, content=TINY)
    if not answer.is_success:
        return problem("upload", _said(answer), "ask the operators; the blob store takes no bytes")
    return ok("upload", f"{len(TINY)} bytes in {answer.elapsed.total_seconds() * 1e3:.0f} ms")


def _job(service: _Service) -> Finding:
    started = time.monotonic()
    try:
        job = service.client.submit(
            {"w1": 0.0, "w2": 0.0}, "(1 - w1*w2)**2", labels={"made-by": "saddlescope doctor"}, force=True, wait=10
        )
        report = job.wait(JOB_SECONDS, progress=False)
    except SaddlescopeError as failure:
        return problem(
            "job", str(failure), "see `parts` above: without a worker jobs wait; `saddlescope watch` goes on"
        )
    if report.verdict is not Verdict.SADDLE:
        return problem("job", f"(1 - w1 w2)^2 at 0 is a saddle, and was called {report.verdict}", "report this fault")
    return ok("job", f"a saddle of two parameters in {time.monotonic() - started:.2f} s, {job.id}")


def _torch() -> Finding:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return warning(
            "torch",
            "not installed: files, networks and expressions can be submitted, models cannot be exported",
            "pip install 'saddlescope[torch]'",
        )
    if tuple(int(part) for part in found.split("+")[0].split(".")[:2]) < OLDEST_TORCH:
        return problem("torch", f"torch {found} is too old to export", "pip install 'saddlescope[torch]'")
    return ok("torch", f"torch {found}; models can be exported")


def _json(answer: httpx2.Response) -> dict[str, object]:
    try:
        told = answer.json()
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _said(answer: httpx2.Response) -> str:
    return str(_json(answer).get("detail", f"the answer was {answer.status_code}"))
