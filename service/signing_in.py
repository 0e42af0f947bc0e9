"""`/login` and `/logout`: a browser shows an API key once and is then known by a cookie."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from service.access import hold_stranger
from service.forms import FilledForm
from service.parts import Parts, PartsOf
from service.rendering import page
from service.sessions import may_sign_in, new_visit, set_cookie
from service.settings import Auth
from store.keys import Principal, authenticate

router = APIRouter(include_in_schema=False)
# A path of ours: two slashes at its beginning would be another host.
_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]*")


@router.get("/login")
async def sign_in(request: Request, parts: PartsOf, next: str = "/") -> Response:  # noqa: A002 - the field's usual name
    """The form; without keys in force there is nothing to sign in to."""
    if parts.settings.auth is Auth.NONE:
        return RedirectResponse("/", status_code=303)
    return _form(request, parts, next)


@router.post("/login")
async def signed_in(request: Request, parts: PartsOf, form: FilledForm) -> Response:
    """A new cookie, so that none that was planted before becomes a signed-in one."""
    there = form.get("next", "/")
    if not may_sign_in(request, parts.settings):
        return _form(request, parts, there, status_code=403)
    principal = await run_in_threadpool(_admit, request, parts, form.get("key", ""))
    if principal is None:
        return _form(request, parts, there, status_code=401, is_refused=True)
    response = RedirectResponse(_safe(there), status_code=303)
    set_cookie(response, request, parts.settings, new_visit(parts.pepper, principal.key_id))
    return response


@router.post("/logout")
async def signed_out(request: Request, parts: PartsOf, form: FilledForm) -> Response:
    response = RedirectResponse("/login", status_code=303)
    set_cookie(response, request, parts.settings, new_visit(parts.pepper))
    return response


def _form(request: Request, parts: Parts, there: str, *, status_code: int = 200, is_refused: bool = False) -> Response:
    can_sign_in = may_sign_in(request, parts.settings)
    return page(
        request, "login.html", status_code=status_code, next=_safe(there), refused=is_refused, can_sign_in=can_sign_in
    )


def _admit(request: Request, parts: Parts, key: str) -> Principal | None:
    with parts.glances() as session:
        principal = authenticate(session, key.strip(), parts.pepper)
    if principal is None:
        hold_stranger(request, parts)
    return principal


def _safe(there: str) -> str:
    return there if _NEXT.fullmatch(there) else "/"
