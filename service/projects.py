"""`python -m service projects`: what each project stores, and what it may."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from service.settings import Settings
from store.database import open_engine, open_sessions
from store.quotas import list_storage, set_quota
from store.schema import bring_to_newest_schema

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_project_commands(commands: Commands) -> tuple[argparse.ArgumentParser, ...]:
    projects = commands.add_parser("projects", help="see and limit what projects store")
    actions = projects.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="every project: bytes stored or announced, and its quota")
    quota = actions.add_parser("quota", help="set the quota of a project")
    quota.add_argument("--project", required=True)
    amount = quota.add_mutually_exclusive_group(required=True)
    amount.add_argument("--bytes", type=_bytes, help="a quota of its own")
    amount.add_argument("--default", action="store_true", help="the one of SADDLESCOPE_PROJECT_QUOTA_BYTES again")
    return listing, quota


def administer_projects(settings: Settings, options: argparse.Namespace) -> int:
    bring_to_newest_schema(settings.database())
    engine = open_engine(settings.database())
    with open_sessions(engine).begin() as session:
        if options.action == "quota":
            set_quota(session, options.project, None if options.default else options.bytes)
        else:
            for row in list_storage(session):
                quota = settings.project_quota_bytes if row.quota_bytes is None else row.quota_bytes
                print(row.project, row.used_bytes, "unlimited" if quota is None else quota)  # noqa: T201
    engine.dispose()
    return 0


def _bytes(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError("a quota is a number of bytes, 0 or more")
    return number
