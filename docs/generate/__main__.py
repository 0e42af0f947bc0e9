"""`python -m docs.generate reference` writes docs/reference; `python -m docs.generate site [FOLDER]` writes the pages as HTML."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from docs.generate import command_reference, http_reference, python_reference
from docs.generate.site import write_site

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "http.md": http_reference.page,
    "python.md": python_reference.page,
    "commands.md": command_reference.page,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("what", choices=["reference", "site"])
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "build" / "site", help="of the site")
    given = parser.parse_args()
    if given.what == "site":
        print(f"{write_site(given.folder)} pages in {given.folder}")
        return
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
