"""The code blocks of the pages, and a way to run those of a page as a reader would: in order, in one folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
WRITTEN_URL = "http://127.0.0.1:8000"
LANGUAGES = ("python", "sh")
_BLOCK = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<code>.*?)^```$", flags=re.DOTALL | re.MULTILINE)

# One process for all Python of a page, so that a block knows the names of those before it.
READER = """
import json, subprocess, sys
names = {"__name__": "__main__"}
for place, language, code in json.load(sys.stdin):
    print(f"\\n-- {place}", flush=True)  # on a line of its own, whatever the block before left open
    if language == "python":
        exec(compile(code, place, "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True, stdin=subprocess.DEVNULL)
"""


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    code: str
    not_run: str | None
    """Why it cannot run here."""


def blocks(page: Path) -> list[Block]:
    """The blocks of the languages that run, in order.

    Raises:
        ValueError: if the info of a block is neither a language nor a language with a reason.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        language, _, rest = match["info"].partition(" ")
        place = f"{page.relative_to(REPOSITORY)}:{text.count(chr(10), 0, match.start()) + 1}"
        if language not in LANGUAGES:
            continue
        mark, separator, reason = rest.partition("not run: ")
        if rest and (mark or not separator or not reason):
            raise ValueError(f"{place}: {match['info']!r} is neither a language nor a language with `not run: reason`")
        found.append(Block(place, language, match["code"], reason or None))
    return found


def run_blocks(chosen: list[Block], *, url: str, folder: Path) -> list[str]:
    """What each prints.

    Raises:
        AssertionError: with everything that was said, if one of them fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "error",
        "SADDLESCOPE_URL": url,
    }
    sent = [(block.place, block.language, block.code.replace(WRITTEN_URL, url)) for block in chosen]
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps(sent),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.split(r"^-- .*\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(said) == len(chosen), done.stdout
    return said
