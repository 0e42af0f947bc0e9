"""`python -m service`: the whole service; with `keys` its API keys, `projects` what each may store, `doctor` what is wrong here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from saddlescope.examination import exit_status, print_findings
from service.broker import BrokerRefusedError
from service.doctor import examine
from service.embedded import StartRefusedError, serve
from service.keys import add_key_commands, administer_keys
from service.logs import configure_logs
from service.projects import add_project_commands, administer_projects
from service.settings import Settings
from store.doorbell import DoorbellMisconfiguredError
from store.schema import DatabaseNotReadyError


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = Settings() if options.data is None else Settings(data=options.data)
    except ValidationError as wrong:
        for error in wrong.errors(include_input=False, include_url=False):
            name = "_".join(str(place) for place in error["loc"]).upper()
            print(f"saddlescope: SADDLESCOPE_{name}: {error['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    if options.command == "doctor":
        findings = list(examine(settings))
        print_findings(findings, as_json=options.json)
        return exit_status(findings)
    try:
        return _run(settings, options)
    except (
        StartRefusedError,
        BrokerRefusedError,
        DatabaseNotReadyError,
        DoorbellMisconfiguredError,
        ValueError,
    ) as refused:
        print(f"saddlescope: {refused}", file=sys.stderr)  # noqa: T201
        return 2


def _run(settings: Settings, options: argparse.Namespace) -> int:
    match options.command:
        case "keys":
            return administer_keys(settings, options)
        case "projects":
            return administer_projects(settings, options)
        case _:
            configure_logs()
            serve(settings, host=options.host, port=options.port, api_only=options.api_only)
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--api-only", action="store_true", help="no broker and no worker, only the API")
    _add_data(parser)
    parser.set_defaults(data=None)
    commands = parser.add_subparsers(dest="command")
    doctor = commands.add_parser("doctor", help="examine settings, parts and devices of this machine")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _add_data(doctor)
    for action in (*add_key_commands(commands), *add_project_commands(commands)):
        _add_data(action)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    # Not a default of the parser: a subcommand's would overwrite what was said before it.
    parser.add_argument("--data", type=Path, default=argparse.SUPPRESS, help="data folder (default: ./data)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
