"""`python -m service keys`: make, list, replace and revoke the API keys of a project."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from service.parts import key_pepper
from service.settings import Settings
from store.database import open_engine, open_sessions
from store.keys import KeyRow, Scope, create_key, list_keys, revoke_key, rotate_key
from store.schema import bring_to_newest_schema

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_key_commands(commands: Commands) -> tuple[argparse.ArgumentParser, ...]:
    keys = commands.add_parser("keys", help="make, list, rotate and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("--scopes", required=True, type=_scopes, help="of submit, read, admin, separated by commas")
    create.add_argument("--expires-days", type=_days, help="days until it expires (default: never)")
    listing = actions.add_parser("list", help="list the keys of a project: id, scopes, state, when made, when over")
    rotate = actions.add_parser("rotate", help="make a key like another, which ends after some days; it is shown once")
    rotate.add_argument("--overlap-days", type=_days, default=1.0, help="days for which both are taken (default: 1)")
    revoke = actions.add_parser("revoke", help="refuse a key, and the browsers that it signed in, from now on")
    for action in (rotate, revoke):
        action.add_argument("--id", required=True, help="the key's id, as `list` shows it")
    for action in (create, listing, rotate, revoke):
        action.add_argument("--project", required=True)
    return create, listing, rotate, revoke


def administer_keys(settings: Settings, options: argparse.Namespace) -> int:
    bring_to_newest_schema(settings.database())
    engine = open_engine(settings.database())
    try:
        with open_sessions(engine).begin() as session:
            return _act(session, settings, options)
    finally:
        engine.dispose()


def _act(session: Session, settings: Settings, options: argparse.Namespace) -> int:
    project, now = options.project, datetime.now(UTC)
    match options.action:
        case "create":
            days = options.expires_days
            expires_at = None if days is None else now + timedelta(days=days)
            pepper = key_pepper(settings)
            key, _ = create_key(session, project=project, scopes=options.scopes, expires_at=expires_at, pepper=pepper)
            print(key)  # noqa: T201 - shown once, here
        case "list":
            for row in list_keys(session, project=project):
                print(row.id, ",".join(sorted(row.scopes)), _state(row, now), *_dates(row))  # noqa: T201
        case "rotate":
            ends = now + timedelta(days=options.overlap_days)
            pepper = key_pepper(settings)
            made = rotate_key(session, project=project, key_id=options.id, old_expires_at=ends, pepper=pepper)
            if made is None:
                return _no_such_key(project)
            print(made[0])  # noqa: T201 - shown once, here
        case _:
            if not revoke_key(session, project=project, key_id=options.id):
                return _no_such_key(project)
    return 0


def _no_such_key(project: str) -> int:
    print(f"project {project} has no such key in force", file=sys.stderr)  # noqa: T201
    return 1


def _state(row: KeyRow, now: datetime) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "in force"


def _dates(row: KeyRow) -> tuple[str, str]:
    ends = "never" if row.expires_at is None else row.expires_at.isoformat(timespec="seconds")
    return row.created_at.isoformat(timespec="seconds"), ends


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(name.strip()) for name in text.split(","))


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days <= 36_500:
        raise argparse.ArgumentTypeError("a number of days from 0 to 36500")
    return days
