"""Who asks: the project and the scopes of a request."""

from __future__ import annotations

import base64
import binascii
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from service.parts import Parts, PartsOf
from service.problems import Forbidden, Unauthorized
from service.settings import Auth
from store.keys import Principal, Scope, authenticate

DEFAULT_PROJECT = "default"
_CHALLENGE = {"www-authenticate": 'Bearer realm="saddlescope"'}
# A browser asks its user for name and password: the password is the key, the name is not looked at.
_PAGE_CHALLENGE = {"www-authenticate": 'Basic realm="saddlescope", charset="UTF-8"'}


def is_loopback(host: str) -> bool:
    """Whether binding this address keeps other machines out."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _reader(request: Request, parts: PartsOf) -> Principal:
    return _allowed(await _bearer(request, parts), Scope.READ)


async def _submitter(request: Request, parts: PartsOf) -> Principal:
    return _allowed(await _bearer(request, parts), Scope.SUBMIT)


async def _admin(request: Request, parts: PartsOf) -> Principal:
    return _allowed(await _bearer(request, parts), Scope.ADMIN)


async def _visitor(request: Request, parts: PartsOf) -> Principal:
    """A browser: pages only read, so that Basic credentials, which it sends by itself, cannot be misused."""
    return _allowed(await _from_browser(request, parts), Scope.READ)


async def _bearer(request: Request, parts: Parts) -> Principal:
    if parts.settings.auth is Auth.NONE:
        return _everyone()
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("Send `Authorization: Bearer <key>`.", headers=_CHALLENGE)
    return await _principal(parts, key.strip(), _CHALLENGE)


async def _from_browser(request: Request, parts: Parts) -> Principal:
    if parts.settings.auth is Auth.NONE:
        return _everyone()
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("Sign in with an API key as the password.", headers=_PAGE_CHALLENGE)
    try:
        _, _, key = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized("The credentials are garbled.", headers=_PAGE_CHALLENGE) from None
    return await _principal(parts, key, _PAGE_CHALLENGE)


async def _principal(parts: Parts, key: str, challenge: dict[str, str]) -> Principal:
    principal = await run_in_threadpool(_find, parts, key)
    if principal is None:
        raise Unauthorized("The key is unknown, expired or revoked.", headers=challenge)
    return principal


def _find(parts: Parts, key: str) -> Principal | None:
    with parts.glances() as session:
        return authenticate(session, key, parts.pepper)


def _everyone() -> Principal:
    return Principal(project=DEFAULT_PROJECT, scopes=frozenset(Scope))


def _allowed(principal: Principal, scope: Scope) -> Principal:
    if scope not in principal.scopes and Scope.ADMIN not in principal.scopes:
        raise Forbidden(f"This call needs the scope {scope.value!r}.")
    return principal


Reader = Annotated[Principal, Depends(_reader)]
Submitter = Annotated[Principal, Depends(_submitter)]
Admin = Annotated[Principal, Depends(_admin)]
Visitor = Annotated[Principal, Depends(_visitor)]
