"""Pages are rendered on the server, escaped by default, without scripts."""

from __future__ import annotations

from functools import cache

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from service.svg import number


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def page(request: Request, template: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
    text = _environment().get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(text, status_code=status_code)
