"""A service with keys, a pepper and a database password lives through a day of good and bad callers, and tells nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest
from e2e_service import ROOT, TOY, Service, long_job, running_service
from servers import TEMPLATE, database
from sqlalchemy import make_url

PASSWORD, PEPPER = "the-password-of-the-database", "the-pepper-of-the-keys"
BUCKET, TOKEN = "the-secret-of-the-bucket", "the-token-in-an-address"


@dataclass(frozen=True)
class Told:
    secrets: list[str]
    """Whatever must be nowhere."""
    said: dict[str, str]
    """What was said, by place: answers, logs, processes."""


def make_key(data: Path, settings: dict[str, str]) -> str:
    command = [
        sys.executable,
        "-m",
        "service",
        "keys",
        "create",
        "--project",
        "vision",
        "--scopes",
        "submit,read,admin",
    ]
    made = subprocess.run(
        [*command, "--data", str(data)], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, migrated_postgresql: str) -> Told:
    data = tmp_path_factory.mktemp("secrets") / "data"
    data.mkdir()
    with database(migrated_postgresql, template=TEMPLATE) as url:
        dsn = make_url(url).set(password=PASSWORD).render_as_string(hide_password=False)
        settings = {
            "SADDLESCOPE_AUTH": "keys",
            "SADDLESCOPE_KEY_PEPPER": PEPPER,
            "SADDLESCOPE_DATABASE_URL": dsn,
            "SADDLESCOPE_WEBHOOK_ALLOW": "127.0.0.1",
            "AWS_SECRET_ACCESS_KEY": BUCKET,
        }
        key = make_key(data, settings)
        said: dict[str, str] = {}
        with running_service(data, settings) as service:
            ours = {"Authorization": f"Bearer {key}"}
            said |= answers(service, ours)
            cookie = signed_in(service, key)
            job = service.client.post("/v1/jobs", json=long_job(3500), headers=ours).json()["id"]
            said["runner"] = environment_of(service.runner())
            service.client.post(f"/v1/jobs/{job}/cancel", headers=ours)
            said |= {
                f"command line of {one.pid}": " ".join(one.cmdline())
                for one in [psutil.Process(service.process.pid), *service.descendants()]
            }
        said |= {str(path): path.read_text(errors="replace") for path in data.rglob("*.log")}
        said |= {str(path): path.read_text(errors="replace") for path in (data / "broker").rglob("*") if path.is_file()}
    return Told([key.rpartition("_")[2], PASSWORD, PEPPER, BUCKET, TOKEN, cookie], said)


def answers(service: Service, ours: dict[str, str]) -> dict[str, str]:
    """Good and bad questions, with the key also where it does not belong."""
    http, key = service.client, ours["Authorization"].removeprefix("Bearer ")
    failing = {"checkpoint": {"inline": {"w": -1.0}}, "loss": {"kind": "expression", "expression": "log(w)"}}
    asked = [
        ("POST", "/v1/jobs", {"json": TOY, "headers": ours | {"Prefer": "wait=60"}}),
        ("POST", "/v1/jobs", {"json": failing, "headers": ours | {"Prefer": "wait=60"}}),
        ("POST", "/v1/jobs", {"json": TOY | {"priority": key}, "headers": ours}),
        ("POST", "/v1/jobs", {"content": key.encode(), "headers": ours | {"Content-Type": "application/json"}}),
        (
            "POST",
            "/v1/jobs",
            {"json": TOY, "headers": ours | {"Idempotency-Key": key * 3}},
        ),
        ("POST", "/v1/jobs", {"json": TOY, "headers": ours | {"Cancel-After": key}}),
        ("GET", "/v1/jobs", {"params": {"limit": 10**9}, "headers": ours}),
        ("GET", "/v1/jobs", {"params": {"after": "x"}, "headers": ours}),
        ("GET", "/v1/jobs", {"headers": {"Authorization": f"Bearer {key}0"}}),
        ("GET", "/v1/jobs", {"headers": {"Authorization": f"Basic {key}"}}),
        ("GET", "/v1/webhooks", {"headers": ours}),
        ("GET", "/readyz", {}),
        ("GET", "/", {"headers": ours}),
    ]
    said = {f"{number} {method} {path}": http.request(method, path, **rest).text for number, (method, path, rest) in
            enumerate(asked)}  # fmt: skip
    # What is told of a job that has ended, whose outcome is posted to an address that holds a token and answers nobody.
    asked_back = TOY | {"force": True, "callback_url": f"http://127.0.0.1:9/{TOKEN}?token={TOKEN}"}
    job = http.post("/v1/jobs", json=asked_back, headers=ours | {"Prefer": "wait=60"}).json()
    said["job"] = str(job)
    of_job = ("", "/events", "/attempts", "/report", "/spectrum", "/landscape", "/bundle", "/deliveries")
    elsewhere = (
        "/v1/jobs.csv",
        "/v1/jobs.ndjson",
        "/v1/runs",
        "/v1/events",
        "/v1/openapi.json",
        "/metrics",
        "/login",
        "/docs",
    )
    for path in (*(f"/v1/jobs/{job['id']}{rest}" for rest in of_job), *elsewhere):
        said[path] = http.get(path, headers=ours).text
    # An address is told again in `instance`; in the log it must not be.
    http.get(f"/v1/jobs/{key}", headers=ours)
    http.get(f"/{key}", params={"key": key})
    return said


def signed_in(service: Service, key: str) -> str:
    with httpx2.Client(base_url=service.client.base_url) as browser:
        token = re.search(r'name="token" value="(\w+)"', browser.get("/login").text)
        assert token is not None
        answer = browser.post("/login", data={"token": token[1], "key": key, "next": "/"})
        assert answer.status_code == 303
        assert browser.get("/").status_code == 200
        return browser.cookies["saddlescope"]


def environment_of(process: psutil.Process) -> str:
    """As the process was given it."""
    return Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")


def test_no_secret_is_in_an_answer_a_log_a_command_line_or_the_environment_of_a_runner(told: Told) -> None:
    assert any("vision" in text and '"route"' in text for text in told.said.values())
    assert sum(path.endswith(".log") for path in told.said) >= 2
    assert "saddlescope_jobs_submitted" in told.said["/metrics"]
    assert any("127.0.0.1:9" in text for place, text in told.said.items() if place.endswith("/deliveries"))
    found = [
        (place, text.find(secret)) for place, text in told.said.items() for secret in told.secrets if secret in text
    ]
    assert found == []
