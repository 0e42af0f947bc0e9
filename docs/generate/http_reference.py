"""docs/reference/http.md, from the OpenAPI document that the service gives."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from docs.generate.schemas import Schema, object_section, title_of, type_of
from docs.generate.wording import table
from service.app import create_app
from service.parts import open_parts
from service.settings import Settings

HEAD = """# HTTP reference

Every call and every object, generated from the service's own OpenAPI document (`/v1/openapi.json`) by
`python -m docs.generate reference`. What they are for, and in which order, is in [HTTP API](../http-api.md).
"""


def document() -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    """The OpenAPI document of an application that is never started."""
    with tempfile.TemporaryDirectory() as folder:
        parts = open_parts(Settings(data=Path(folder), broker_url="redis://127.0.0.1:9/0"))
        described = create_app(parts).openapi()
        parts.close()
    return described


def page() -> str:
    described = document()
    by_tag: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert isinstance(operation, Mapping)
            tags = operation.get("tags", ["other"])
            by_tag.setdefault(tags[0], []).append(_call(method, path, operation))
    calls = [f"## {tag.capitalize()}\n\n" + "\n".join(sections) for tag, sections in by_tag.items()]
    schemas = described["components"]["schemas"]
    objects = [
        object_section(name, schema) for name, schema in sorted(schemas.items(), key=lambda pair: title_of(pair[0]))
    ]
    return "\n".join([HEAD, *calls, "## Objects\n", *objects])


def _call(method: str, path: str, operation: Schema) -> str:
    parts = [f"### {method.upper()} {path}\n", f"{operation.get('description', '')}\n"]
    match operation:
        case {"parameters": [*parameters]}:
            rows = [
                (f"`{each['name']}`", f"{each['in']}{', required' if each.get('required') else ''}", _of(each))
                for each in parameters
            ]
            parts.append(table(("parameter", "in", ""), rows))
    match operation:
        case {"requestBody": {"content": Mapping() as content}}:
            parts.append(f"Body: {_contents(content)}.\n")
    match operation:
        case {"responses": Mapping() as responses}:
            rows = [
                (
                    str(status),
                    _contents(answer.get("content", {})),
                    answer.get("description", "").replace("Successful Response", ""),
                )
                for status, answer in sorted(responses.items())
                if str(status) not in ("4XX", "503", "507")
            ]
            parts.append(table(("answer", "with", ""), rows))
    return "\n".join(parts)


def _of(parameter: Schema) -> str:
    described = parameter.get("description", "")
    return f"{type_of(parameter.get('schema'))}. {described}" if described else type_of(parameter.get("schema"))


def _contents(content: Mapping[str, Schema]) -> str:
    said = []
    for media_type, form in content.items():
        schema = form.get("schema")
        if media_type == "application/json" and schema:
            said.append(type_of(schema))
        else:
            said.append(f"`{media_type}`")
    return " or ".join(said)
