"""Pages are rendered on the server, escaped by default, without scripts."""

from __future__ import annotations

from functools import cache

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from service.parts import Parts
from service.sessions import form_token, set_cookie, visit_of
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
    """A page whose forms bear the token of the browser's visit; a browser without a visit is given one."""
    parts: Parts = request.app.state.parts
    visit = visit_of(request, parts.pepper)
    said = {"path": request.url.path, "token": form_token(parts.pepper, visit), "signed_in": visit.key_id is not None}
    response = HTMLResponse(_environment().get_template(template).render(**said, **values), status_code=status_code)
    if visit.is_new:
        set_cookie(response, request, parts.settings, visit)
    return response
