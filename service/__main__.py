"""`python -m service`: the whole service; with `keys` its API keys, `projects` what each may store, `doctor` what is wrong here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from saddlescope.examination import exit_status, print_findings
from service.broker import BrokerRefusedError
from service.doctor import examine
from service.embedded import StartRefusedError, serve
from service.logs import configure_logs
from service.parts import key_pepper
from service.projects import add_project_commands, administer_projects
from service.settings import Settings
from store.database import migrate, open_engine, open_sessions
from store.keys import Scope, create_key, list_keys, revoke_key


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = Settings() if options.data is None else Settings(data=options.data)
    except ValidationError as wrong:
        for error in wrong.errors(include_input=False, include_url=False):
            name = "_".join(str(place) for place in error["loc"]).upper()
            print(f"saddlescope: SADDLESCOPE_{name}: {error['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    if options.command == "keys":
        return _keys(settings, options)
    if options.command == "projects":
        return administer_projects(settings, options)
    if options.command == "doctor":
        findings = list(examine(settings))
        print_findings(findings, as_json=options.json)
        return exit_status(findings)
    configure_logs()
    try:
        serve(settings, host=options.host, port=options.port, api_only=options.api_only)
    except (StartRefusedError, BrokerRefusedError, ValueError) as refused:
        print(f"saddlescope: {refused}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--api-only", action="store_true", help="no broker and no worker, only the API")
    _add_data(parser)
    parser.set_defaults(data=None)
    commands = parser.add_subparsers(dest="command")
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("--scopes", required=True, type=_scopes, help="of submit, read, admin, separated by commas")
    create.add_argument("--expires-days", type=int, help="days until it expires (default: never)")
    listing = actions.add_parser("list", help="list the keys of a project")
    revoke = actions.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("--id", required=True, help="the key's id, as `list` shows it")
    doctor = commands.add_parser("doctor", help="examine settings, parts and devices of this machine")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _add_data(doctor)
    for action in (create, listing, revoke):
        action.add_argument("--project", required=True)
        _add_data(action)
    for action in add_project_commands(commands):
        _add_data(action)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    # Not a default of the parser: a subcommand's would overwrite what was said before it.
    parser.add_argument("--data", type=Path, default=argparse.SUPPRESS, help="data folder (default: ./data)")


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(name.strip()) for name in text.split(","))


def _keys(settings: Settings, options: argparse.Namespace) -> int:
    migrate(settings.database())
    engine = open_engine(settings.database())
    with open_sessions(engine).begin() as session:
        match options.action:
            case "create":
                expires_at = None
                if options.expires_days is not None:
                    expires_at = datetime.now(UTC) + timedelta(days=options.expires_days)
                key, _ = create_key(
                    session,
                    project=options.project,
                    scopes=options.scopes,
                    expires_at=expires_at,
                    pepper=key_pepper(settings),
                )
                print(key)  # noqa: T201 - shown once, here
            case "list":
                for row in list_keys(session, project=options.project):
                    state = "revoked" if row.revoked_at is not None else "in force"
                    print(row.id, ",".join(sorted(row.scopes)), state)  # noqa: T201
            case _:
                if not revoke_key(session, project=options.project, key_id=options.id):
                    print(f"project {options.project} has no such key in force", file=sys.stderr)  # noqa: T201
                    return 1
    engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
