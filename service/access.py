"""Who asks: the project and the scopes of a request, and how fast it asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from service.addresses import neighbourhood
from service.parts import Parts, PartsOf
from service.problems import Forbidden, Unauthorized
from service.sessions import SignInNeeded, visit_of
from service.settings import Auth
from store.keys import Principal, Scope, authenticate, find_principal

DEFAULT_PROJECT = "default"
# Requests of an address that has no valid key; those with one are never counted here.
STRANGER_RATE = "600/minute"
_CHALLENGE = {"www-authenticate": 'Bearer realm="saddlescope"'}


async def _reader(request: Request, parts: PartsOf) -> Principal:
    return _allowed(request, await _principal(request, parts, takes_cookie=request.method == "GET"), Scope.READ)


async def _submitter(request: Request, parts: PartsOf) -> Principal:
    return _allowed(request, await _principal(request, parts), Scope.SUBMIT)


async def _admin(request: Request, parts: PartsOf) -> Principal:
    return _allowed(request, await _principal(request, parts), Scope.ADMIN)


async def _visitor(request: Request, parts: PartsOf) -> Principal:
    """A browser that looks at pages; one without a session is led to the form where it signs in."""
    try:
        principal = await _principal(request, parts, takes_cookie=True)
    except Unauthorized:
        if "text/html" in request.headers.get("accept", "") and "authorization" not in request.headers:
            raise SignInNeeded from None
        raise
    return _allowed(request, principal, Scope.READ)


async def _actor(request: Request, parts: PartsOf) -> Principal:
    """A browser that sends a form; its token is held by `forms`."""
    return _allowed(request, await _principal(request, parts, takes_cookie=True), Scope.SUBMIT)


async def _principal(request: Request, parts: Parts, *, takes_cookie: bool = False) -> Principal:
    """Raises Unauthorized, or RateLimited for a caller who asks too fast."""
    if parts.settings.auth is Auth.NONE:
        return Principal(project=DEFAULT_PROJECT, scopes=frozenset(Scope))
    return await run_in_threadpool(_admit, request, parts, takes_cookie)


def _admit(request: Request, parts: Parts, takes_cookie: bool) -> Principal:
    said = request.headers.get("authorization")
    principal: Principal | None = None
    if said is not None:
        principal = _of_bearer(parts, said)
    elif takes_cookie:
        principal = _of_session(request, parts)
    if principal is not None:
        budget = parts.rates.spend("project", principal.project, rate=parts.settings.request_rate)
        if budget is not None:
            request.scope["saddlescope.budget"] = budget.headers()
            budget.hold()
        return principal
    hold_stranger(request, parts)
    if said is None:
        raise Unauthorized("Send `Authorization: Bearer <key>`.", headers=_CHALLENGE)
    raise Unauthorized("The key is unknown, expired or revoked.", headers=_CHALLENGE)


def hold_stranger(request: Request, parts: Parts) -> None:
    """Raises RateLimited if the address asks too often without a valid key."""
    who = neighbourhood(None if request.client is None else request.client.host)
    budget = parts.rates.spend("address", who, rate=STRANGER_RATE)
    if budget is not None:
        budget.hold()


def _of_bearer(parts: Parts, authorization: str) -> Principal | None:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    with parts.glances() as session:
        return authenticate(session, key.strip(), parts.pepper)


def _of_session(request: Request, parts: Parts) -> Principal | None:
    key_id = visit_of(request, parts.pepper).key_id
    if key_id is None:
        return None
    with parts.glances() as session:
        return find_principal(session, key_id)


def _allowed(request: Request, principal: Principal, scope: Scope) -> Principal:
    request.scope["saddlescope.project"] = principal.project  # for the log line of the request
    if scope not in principal.scopes and Scope.ADMIN not in principal.scopes:
        raise Forbidden(f"This call needs the scope {scope.value!r}.")
    return principal


Reader = Annotated[Principal, Depends(_reader)]
Submitter = Annotated[Principal, Depends(_submitter)]
Admin = Annotated[Principal, Depends(_admin)]
Visitor = Annotated[Principal, Depends(_visitor)]
Actor = Annotated[Principal, Depends(_actor)]
