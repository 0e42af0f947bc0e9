"""docs/reference/commands.md, from the command line itself."""

from __future__ import annotations

import typer.main

from docs.generate.wording import table
from saddlescope.client.command_line import HELP, app

HEAD = """# Commands

The command `saddlescope`, generated from it by `python -m docs.generate reference`.
"""


def page() -> str:
    return "\n".join([HEAD, f"{HELP}\n", *_sections(typer.main.get_command(app), "saddlescope")])


def _sections(group: object, path: str) -> list[str]:
    """Each command of a group by its name, and those of the groups within."""
    sections = []
    for name, command in sorted(getattr(group, "commands", {}).items()):
        if hasattr(command, "commands"):
            sections += _sections(command, f"{path} {name}")
        elif not command.hidden:
            rows, usage = [], [f"{path} {name}"]
            for parameter in command.params:
                if parameter.param_type_name == "argument":
                    metavar = parameter.metavar or parameter.name.upper()
                    usage.append(metavar if parameter.required else f"[{metavar}]")
                    continue
                names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
                rows.append((names, "required" if parameter.required else "", parameter.help or ""))
            usage_line = " ".join([*usage, "[OPTIONS]"])
            sections.append(
                f"## {path} {name}\n\n{command.help or ''}\n\n```text\n{usage_line}\n```\n\n{table(('option', '', ''), rows)}"
            )
    return sections
