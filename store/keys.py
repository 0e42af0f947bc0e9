"""API keys: an identifier that is stored and a secret that is not. What is kept of the secret is its HMAC."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from store.identifiers import uuid7
from store.moments import now
from store.projects import ensure_project
from store.tables import ApiKey

PEPPER_BYTES = 32
BEARER = re.compile(r"sk_([0-9a-f]{32})_([0-9a-f]{64})")


class Scope(StrEnum):
    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """Who is calling: a project, and what its key may do."""

    project: str
    scopes: frozenset[Scope]
    key_id: str | None = None


@dataclass(frozen=True)
class KeyRow:
    id: str
    project: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def load_pepper(path: Path) -> bytes:
    """The service's secret beside the database; made on first use, readable by its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(PEPPER_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def create_key(
    session: Session, *, project: str, scopes: Collection[Scope], expires_at: datetime | None = None, pepper: bytes
) -> tuple[str, KeyRow]:
    """Make a key of a project; the bearer text, shown only now, and what is stored of it.

    Raises:
        ValueError: if it would be allowed nothing.
    """
    if not scopes:
        raise ValueError("a key needs at least one scope of submit, read, admin")
    ensure_project(session, project)
    secret = secrets.token_hex(32)
    key = ApiKey(
        id=uuid7().hex,
        project=project,
        secret_hmac=_seal(secret, pepper),
        scopes=sorted(Scope(scope) for scope in scopes),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return f"sk_{key.id}_{secret}", _row(key)


def authenticate(session: Session, bearer: str, pepper: bytes) -> Principal | None:
    """Whom a bearer text stands for; None if it is malformed, unknown, wrong, expired or revoked."""
    parts = BEARER.fullmatch(bearer)
    if parts is None:
        return None
    key = _in_force(session, parts[1])
    # The same work for an unknown key as for a wrong one.
    sealed = _seal(parts[2], pepper)
    if key is None or not hmac.compare_digest(key.secret_hmac, sealed):
        return None
    return _principal(key)


def find_principal(session: Session, key_id: str) -> Principal | None:
    """Whom a key stands for whose secret was seen before; None once it has expired or is revoked."""
    key = _in_force(session, key_id)
    return None if key is None else _principal(key)


def list_keys(session: Session, *, project: str) -> tuple[KeyRow, ...]:
    return tuple(
        _row(key) for key in session.scalars(select(ApiKey).where(ApiKey.project == project).order_by(ApiKey.id))
    )


def rotate_key(
    session: Session, *, project: str, key_id: str, old_expires_at: datetime, pepper: bytes
) -> tuple[str, KeyRow] | None:
    """A new key with the scopes and the expiry of an old one, which ends then; None if the old one is not in force."""
    old = _in_force(session, key_id)
    if old is None or old.project != project:
        return None
    scopes = [Scope(scope) for scope in old.scopes]
    made = create_key(session, project=project, scopes=scopes, expires_at=old.expires_at, pepper=pepper)
    if old.expires_at is None or old.expires_at > old_expires_at:
        old.expires_at = old_expires_at
    session.flush()
    return made


def revoke_key(session: Session, *, project: str, key_id: str) -> bool:
    """Refuse a key from now on; False if the project has no such key in force."""
    revoked = session.execute(
        update(ApiKey)
        .where(ApiKey.project == project, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=now())
        .returning(ApiKey.id)
        .execution_options(synchronize_session=False)
    )
    return revoked.one_or_none() is not None


def _in_force(session: Session, key_id: str) -> ApiKey | None:
    return session.scalars(
        select(ApiKey).where(
            ApiKey.id == key_id,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()),
        )
    ).one_or_none()


def _principal(key: ApiKey) -> Principal:
    return Principal(project=key.project, scopes=frozenset(Scope(scope) for scope in key.scopes), key_id=key.id)


def _seal(secret: str, pepper: bytes) -> str:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def _row(key: ApiKey) -> KeyRow:
    scopes = frozenset(Scope(scope) for scope in key.scopes)
    return KeyRow(key.id, key.project, scopes, key.created_at, key.expires_at, key.revoked_at)
