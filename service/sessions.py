"""Sessions of browsers: a signed cookie that names a key and an end. Nothing is stored; a revoked key ends its sessions."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from service.addresses import is_loopback
from service.settings import Settings

SESSION_SECONDS = 12 * 3600
_SALT_BYTES = 16
# A browser takes `__Host-` only over TLS, from this host, for all of its paths: no other host can plant such a cookie.
_SECURE_NAME, _LOOPBACK_NAME = "__Host-saddlescope", "saddlescope"
_COOKIE = re.compile(r"(-|[0-9a-f]{32})\.(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Visit:
    """A browser, signed in by a key or not; both have a cookie, to which the tokens of its forms are bound."""

    cookie: str
    key_id: str | None
    is_new: bool


class SignInNeeded(Exception):
    """A page was asked for that is shown to those who have signed in."""


def new_visit(pepper: bytes, key_id: str | None = None) -> Visit:
    said = f"{key_id or '-'}.{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
    return Visit(f"{said}.{_sign(pepper, 'session', said)}", key_id, is_new=True)


def visit_of(request: Request, pepper: bytes) -> Visit:
    """The browser's visit, or a new one where its cookie is missing, forged or over."""
    names = (_SECURE_NAME, _LOOPBACK_NAME) if _is_plain_loopback(request) else (_SECURE_NAME,)
    for name in names:
        match = _COOKIE.fullmatch(request.cookies.get(name, ""))
        if match is None:
            continue
        said = match[0].rpartition(".")[0]
        is_ours = hmac.compare_digest(match[4], _sign(pepper, "session", said))
        if is_ours and int(match[2]) > time.time():
            return Visit(match[0], None if match[1] == "-" else match[1], is_new=False)
    return new_visit(pepper)


def form_token(pepper: bytes, visit: Visit) -> str:
    """What every form of the visit carries, and a page of another site cannot know.

    No two are equal: of compressed pages that repeat what a stranger wrote, the length would tell a token that stays.
    """
    return _token(pepper, visit, secrets.token_hex(_SALT_BYTES))


def is_form_token(pepper: bytes, visit: Visit, token: str) -> bool:
    made = _token(pepper, visit, token[: 2 * _SALT_BYTES])
    return not visit.is_new and hmac.compare_digest(made.encode(), token.encode())


def may_sign_in(request: Request, settings: Settings) -> bool:
    """Whether a cookie is safe on this connection: under TLS, as far as we are told, or on this machine alone."""
    return _is_secure(request, settings) or _is_plain_loopback(request)


def set_cookie(response: Response, request: Request, settings: Settings, visit: Visit) -> None:
    """Hand a visit to the browser; on a connection where that is not safe, nothing."""
    if may_sign_in(request, settings):
        is_secure = _is_secure(request, settings)
        response.set_cookie(
            _SECURE_NAME if is_secure else _LOOPBACK_NAME,
            visit.cookie,
            max_age=SESSION_SECONDS,
            secure=is_secure,
            httponly=True,
            samesite="lax",
        )


def _token(pepper: bytes, visit: Visit, salt: str) -> str:
    return salt + _sign(pepper, f"form {salt}", visit.cookie)[:32]


def _is_secure(request: Request, settings: Settings) -> bool:
    return request.url.scheme == "https" or (settings.public_url or "").startswith("https://")


def _is_plain_loopback(request: Request) -> bool:
    return request.url.scheme == "http" and is_loopback(request.url.hostname or "")


def _sign(pepper: bytes, purpose: str, text: str) -> str:
    return hmac.new(pepper, f"saddlescope {purpose}\n{text}".encode(), hashlib.sha256).hexdigest()
