"""Under which names a service without keys is asked, and from which pages: its own alone.

Whoever makes a name point to 127.0.0.1 (DNS rebinding) has a browser on this machine take this service for that name's own
server, and read it. The browser still sends the name as `Host`. With keys in force nothing of this is needed: a page that
has no key reads nothing, and a session's cookie belongs to the name under which it was given.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.addresses import is_loopback
from service.problems import Forbidden, Misdirected, ServiceProblem
from service.settings import Auth, Settings

_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9.\-]{1,253}))(?::\d{1,5})?", re.ASCII)
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def host_refusal(method: str, headers: Headers, settings: Settings) -> ServiceProblem | None:
    """What a service without keys answers to another's name, or to a write that a page of another origin sends."""
    if settings.auth is not Auth.NONE:
        return None
    hosts = headers.getlist("host")
    # One without the header names nobody: no browser sends such a request.
    if not all(_is_own_name(_hostname(host), settings) for host in hosts):
        return Misdirected(
            "This service takes requests without a key, and so only under loopback's names and the host of "
            "SADDLESCOPE_PUBLIC_URL. Ask http://127.0.0.1, set that variable, or use keys."
        )
    if method not in _READING and not all(
        _is_own_origin(origin, hosts, headers, settings) for origin in headers.getlist("origin")
    ):
        return Forbidden("A page of another origin may not change anything here.")
    return None


def _hostname(authority: str) -> str | None:
    found = _AUTHORITY.fullmatch(authority.strip())
    return None if found is None else (found["six"] or found["name"]).lower()


def _is_own_name(name: str | None, settings: Settings) -> bool:
    if name is None:
        return False
    return is_loopback(name) or name == urlsplit(settings.public_url or "").hostname


def _is_own_origin(origin: str, hosts: list[str], headers: Headers, settings: Settings) -> bool:
    if origin == "null":
        # Our own forms are sent with it, because our pages send no referrer; the browser says that they are ours.
        return headers.get("sec-fetch-site") in ("same-origin", "none")
    _, _, authority = origin.partition("://")
    public = urlsplit(settings.public_url or "")
    return (
        authority.lower() in {host.lower() for host in hosts}
        or origin.lower() == f"{public.scheme}://{public.netloc}".lower()
    )
