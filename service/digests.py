"""`Repr-Digest` and `Content-Digest` (RFC 9530): what is said of a body's SHA-256, and what we say."""

from __future__ import annotations

import base64
import binascii
import re

from fastapi import Request

from service.problems import BadRequest, DigestMismatch

# A dictionary of byte sequences (RFC 9651); other algorithms than sha-256 may be ignored, and are.
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_\-.*]*)=:([A-Za-z0-9+/=]*):\s*")


def digests_of(request: Request) -> list[str]:
    """The artifacts that the body is said to be, by either header; without a content coding both mean the same.

    Raises:
        BadRequest: if a header cannot be understood.
    """
    found = []
    for header in ("repr-digest", "content-digest"):
        for value in request.headers.getlist(header):
            for member in value.split(","):
                match = _MEMBER.fullmatch(member)
                if match is None:
                    raise BadRequest(f"{header} is no list like sha-256=:<Base64>: (RFC 9530).")
                if match[1] == "sha-256":
                    found.append(f"sha256:{_decoded(match[2], header).hex()}")
    return found


def one_name(*names: str | None) -> str | None:
    """The one artifact that all who name one agree on.

    Raises:
        DigestMismatch: if they do not; no body can be right then.
    """
    named = {name for name in names if name is not None}
    if len(named) > 1:
        raise DigestMismatch("The address and the digest headers name different bytes; nothing was read.")
    return named.pop() if named else None


def repr_digest(artifact_id: str) -> str:
    digest = bytes.fromhex(artifact_id.removeprefix("sha256:"))
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def _decoded(text: str, header: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise BadRequest(f"The sha-256 of {header} is not 32 bytes in Base64.")
    return digest
