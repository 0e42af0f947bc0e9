"""`python -m store migrate` brings the schema of SADDLESCOPE_DATABASE_URL to the newest version."""

from __future__ import annotations

import argparse
import os
import sys

from store.schema import DatabaseNotReadyError, bring_to_newest_schema

DEFAULT_URL = "sqlite:///data/saddlescope.db"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m store", description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.parse_args()
    try:
        bring_to_newest_schema(os.environ.get("SADDLESCOPE_DATABASE_URL", DEFAULT_URL))
    except DatabaseNotReadyError as wrong:
        print(f"saddlescope: {wrong}", file=sys.stderr)  # noqa: T201 - a line for the operator
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
