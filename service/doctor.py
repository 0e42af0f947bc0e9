"""`python -m service doctor`: is everything there that the service needs on this machine? Nothing is started or made."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from saddlescope.examination import Finding, ok, problem, skipped, warning
from service.broker import broker_url, socket_path
from service.settings import Auth, Settings
from store.blobs import BlobError, open_blobs
from store.database import open_engine, open_sessions, pending_revisions
from store.doorbell import DoorbellMisconfiguredError, celery_app
from store.presence import present_workers

LITTLE_SPACE_BYTES, NO_SPACE_BYTES = 10 * 2**30, 2**30
BROKER_SETTINGS = {"maxmemory-policy": "noeviction", "appendonly": "yes"}
SELFCHECK_SECONDS = 120


def examine(settings: Settings) -> Iterator[Finding]:
    """Findings one by one, as they are made."""
    yield _access(settings)
    yield _folder(settings)
    yield _database(settings)
    yield _broker(settings)
    yield _blobs(settings)
    yield _worker_here()
    yield _workers(settings)


def _access(settings: Settings) -> Finding:
    if settings.auth is Auth.NONE:
        return ok("access", "no keys: the service can be bound to loopback addresses only")
    if settings.key_pepper is None and not (settings.data / "key-pepper").exists():
        return warning(
            "access",
            "keys, and no pepper yet: one is made in the data folder at the first key",
            "with several API processes give each the same SADDLESCOPE_KEY_PEPPER",
        )
    return ok("access", "keys")


def _folder(settings: Settings) -> Finding:
    folder = _nearest(settings.data.resolve())
    if not os.access(folder, os.W_OK | os.X_OK):
        return problem(
            "data folder", f"{folder} cannot be written", "give this user the folder, or choose another with --data"
        )
    free = shutil.disk_usage(folder).free
    said = f"{settings.data.resolve()}, {free / 2**30:.1f} GiB free"
    if free < NO_SPACE_BYTES:
        return problem("data folder", said, "free some space: uploads are answered 507 soon")
    if free < LITTLE_SPACE_BYTES:
        return warning("data folder", said, "blobs grow by every distinct checkpoint; watch the disk")
    return ok("data folder", said)


def _database(settings: Settings) -> Finding:
    url = make_url(settings.database())
    named = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return skipped("database", f"{named} is made at the first start")
    try:
        pending = pending_revisions(settings.database())
    except SQLAlchemyError:
        return problem("database", f"{named} cannot be queried", "start it, or mend SADDLESCOPE_DATABASE_URL")
    if pending:
        return problem(
            "database", f"{named} lacks {len(pending)} schema versions", "run `python -m store migrate` (back up first)"
        )
    return ok("database", f"{named}, newest schema")


def _broker(settings: Settings) -> Finding:
    url = settings.broker_url
    if url is None:
        if not socket_path(settings.data).exists():
            return skipped("broker", "the embedded one starts with the service")
        url = broker_url(socket_path(settings.data))
    try:
        with celery_app(url).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
            found = {
                name: _setting(connection.default_channel.client.config_get(name), name) for name in BROKER_SETTINGS
            }
    except (OperationalError, OSError):
        return problem("broker", "no connection", "start it, or mend SADDLESCOPE_BROKER_URL; jobs wait meanwhile")
    except DoorbellMisconfiguredError as misconfigured:
        return problem(
            "broker", str(misconfigured), "unset these variables: neither the service nor a worker starts with them"
        )
    except RedisError:
        return warning(
            "broker",
            "it answers, and does not tell its settings",
            f"make sure of {' and '.join(f'{name} {value}' for name, value in BROKER_SETTINGS.items())}",
        )
    wrong = {name: value for name, value in BROKER_SETTINGS.items() if found[name] != value}
    if wrong:
        return problem(
            "broker",
            "; ".join(f"{name} is {found[name]}" for name in wrong),
            "; ".join(f"set {name} {value}" for name, value in wrong.items()),
        )
    return ok("broker", "it answers, keeps what it has, and evicts nothing")


def _setting(told: dict[str, str], name: str) -> str:
    return told.get(name, "unknown")


def _blobs(settings: Settings) -> Finding:
    where = settings.blobs()
    if settings.blobs_url is None and not Path(where).exists():
        return skipped("blobs", f"{where} is made at the first start")
    content = secrets.token_bytes(32)
    try:
        blobs = open_blobs(where)
        blob = blobs.put(content)
        with blobs.open(blob.id) as file:
            is_same = file.read() == content
        blobs.delete(blob.id)
    except (OSError, BlobError, ValueError) as failure:
        return problem("blobs", str(failure), "give this user the place, or mend SADDLESCOPE_BLOBS_URL")
    if not is_same:
        return problem("blobs", "what was written is not what was read", "do not use this store: it changes bytes")
    return ok("blobs", "written, read and deleted")


def _worker_here() -> Finding:
    if find_spec("workers") is None or find_spec("torch") is None:
        return skipped("computing", "no worker can run here: its code or torch is not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workers.selfcheck"],
            capture_output=True,
            text=True,
            check=True,
            timeout=SELFCHECK_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return problem("computing", "torch cannot be loaded", "run `python -m workers.selfcheck` to see why")
    told = json.loads(done.stdout)
    said = f"{told['device']}, torch {told['torch']}, {told['cuda_devices']} CUDA devices, sandbox {told['sandbox']}"
    return ok("computing", said)


def _workers(settings: Settings) -> Finding:
    url = make_url(settings.database())
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return skipped("workers", "the embedded one starts with the service")
    engine = open_engine(settings.database())
    try:
        with open_sessions(engine)() as session:
            present = present_workers(session)
    except SQLAlchemyError:
        return skipped("workers", "the database does not tell")
    finally:
        engine.dispose()
    if not present:
        return warning(
            "workers", "none seen within the last minute: jobs wait", "start `python -m workers --queue cpu`"
        )
    return ok("workers", "; ".join(f"{row.name} ({row.device}, {row.sandbox})" for row in present))


def _nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder
