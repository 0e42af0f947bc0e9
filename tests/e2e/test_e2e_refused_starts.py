"""A part that cannot work as it was started says why in one line, without a secret, and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from e2e_service import ROOT
from sqlalchemy import create_engine, text

from store.database import alembic_config

NOWHERE = "postgresql+psycopg://reader:the-secret@127.0.0.1:1/jobs"
BROKER = "redis://:the-secret@127.0.0.1:1/0"
API = ("service", "--api-only", "--port", "0")
WORKER = ("workers", "--queue", "cpu")


def said(tmp_path: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """Exit status and everything that a part says which should not start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SADDLESCOPE_", "CELERY_"))}
    paths = {"SADDLESCOPE_DATA": str(tmp_path), "SADDLESCOPE_BLOBS_URL": str(tmp_path / "blobs")}
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=kept | paths | {"SADDLESCOPE_BROKER_URL": BROKER} | settings, text=True, timeout=120, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert "the-secret" not in ended.stdout
    assert "Traceback" not in ended.stdout
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [API, ("service", "keys", "list", "--project", "p"), ("service", "projects", "list"), ("store", "migrate"), WORKER],
    ids=" ".join,
)
def test_a_database_that_is_down_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, told = said(tmp_path, *arguments, SADDLESCOPE_DATABASE_URL=NOWHERE)
    assert status != 0
    assert told.count("\n") == 1
    assert told.startswith("saddlescope: the database jobs at 127.0.0.1:1 does not answer")


def test_a_worker_refuses_a_database_that_was_not_migrated_or_only_in_part(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'saddlescope.db'}"
    for _ in range(2):
        status, told = said(tmp_path, *WORKER, SADDLESCOPE_DATABASE_URL=url)
        assert status == 1
        assert "schema versions; start the service first, or run `python -m store migrate`" in told
        command.upgrade(alembic_config(url), "0001")


def test_the_service_refuses_a_database_of_a_later_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'saddlescope.db'}"
    command.upgrade(alembic_config(url), "head")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of tomorrow'"))
    engine.dispose()
    status, told = said(tmp_path, *API, SADDLESCOPE_DATABASE_URL=url)
    assert status == 2
    assert "has a newer schema than this version knows" in told


@pytest.mark.parametrize("part", [API, WORKER], ids=" ".join)
def test_a_broker_that_would_be_used_otherwise_is_refused(tmp_path: Path, part: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path / 'saddlescope.db'}"
    command.upgrade(alembic_config(url), "head")
    status, told = said(tmp_path, *part, SADDLESCOPE_DATABASE_URL=url, CELERY_RESULT_BACKEND=BROKER)
    assert status != 0
    assert "result_backend" in told.splitlines()[-1]


def test_a_worker_names_the_settings_that_are_missing_or_wrong_and_shows_none(tmp_path: Path) -> None:
    status, told = said(tmp_path, *WORKER, SADDLESCOPE_DEVICE="the-secret")
    assert status == 2
    assert told.splitlines() == [
        "saddlescope: SADDLESCOPE_DATABASE_URL: Field required",
        "saddlescope: SADDLESCOPE_DEVICE: String should match pattern '^(auto|cpu|cuda(:\\d+)?)$'",
    ]
