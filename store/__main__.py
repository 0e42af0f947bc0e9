"""`python -m store migrate` brings the schema of SADDLESCOPE_DATABASE_URL to the newest version."""

from __future__ import annotations

import argparse
import os

from store.database import migrate

DEFAULT_URL = "sqlite:///data/saddlescope.db"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store", description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.parse_args()
    migrate(os.environ.get("SADDLESCOPE_DATABASE_URL", DEFAULT_URL))


if __name__ == "__main__":
    main()
