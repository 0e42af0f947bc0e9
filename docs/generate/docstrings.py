"""Docstrings with `Args:` and `Raises:` as Markdown."""

from __future__ import annotations

import inspect
import re

SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Raises": "Raises",
    "Returns": "Returns",
    "Yields": "Yields",
}
_ITEM = re.compile(r"^(\*{0,2}[\w., *]+?): (.*)$")


def markdown_of(thing: object) -> str:
    """The docstring of a function or class; its argument lists become lists."""
    text = inspect.getdoc(thing) or ""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            section = line.rstrip(":")
            lines += [f"**{SECTIONS[section]}**", ""]
        elif section and not line.startswith(" ") and line:
            section = ""
            lines.append(line)
        elif section:
            lines.append(_listed(line))
        else:
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


def _listed(line: str) -> str:
    depth = len(line) - len(line.lstrip())
    if depth == 4 and (item := _ITEM.match(line.strip())):
        names = ", ".join(f"`{name.strip()}`" for name in item[1].split(","))
        return f"- {names}: {item[2]}"
    return f"  {line.strip()}" if line.strip() else ""
