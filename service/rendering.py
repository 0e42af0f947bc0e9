"""Pages are rendered on the server and escaped by default; their scripts are files of ours, and no page needs one."""

from __future__ import annotations

import gzip
from functools import cache
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from saddlescope.contract.numerals import number
from service.answer_headers import STANDARD_HEADERS
from service.parts import Parts
from service.sessions import form_token, set_cookie, visit_of

# Beyond that of every answer: modules of ours, which ask this service alone.
_POLICY = STANDARD_HEADERS["content-security-policy"] + "; script-src 'self'; connect-src 'self'"
_COMPRESSION = 5


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # they are those of the running version
    )
    environment.filters["number"] = number
    environment.filters["segment"] = lambda text: quote(text, safe="")
    return environment


def page(request: Request, template: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
    """A page whose forms bear the token of the browser's visit; a browser without a visit is given one.

    Compressed where the browser takes it. What streams is never sent from here, and the tokens differ from page to page.
    """
    parts: Parts = request.app.state.parts
    visit = visit_of(request, parts.pepper)
    said = {"path": request.url.path, "token": form_token(parts.pepper, visit), "signed_in": visit.key_id is not None}
    content = _environment().get_template(template).render(**said, **values).encode()
    headers = {"content-security-policy": _POLICY, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, _COMPRESSION, mtime=0)
        headers["content-encoding"] = "gzip"
    response = HTMLResponse(content, status_code=status_code, headers=headers)
    if visit.is_new:
        set_cookie(response, request, parts.settings, visit)
    return response
