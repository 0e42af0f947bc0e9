"""The headers of tus 1.0.0, the protocol of resumable uploads (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime

from fastapi import Request
from pydantic import JsonValue
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saddlescope.contract import limits
from service.problems import BadRequest, TusVersionUnsupported, UnsupportedMediaType
from store.uploads import UploadRow

VERSION = "1.0.0"
EXTENSIONS = ("creation", "creation-with-upload", "expiration", "checksum", "termination")
CHUNK_MEDIA_TYPE = "application/offset+octet-stream"
# The protocol wants sha1 of every server, and clients that know no other send it.
CHECKSUM_BYTES = {"sha256": 32, "sha1": 20}
MAX_METADATA_CHARS = 4_096
_DIGITS = re.compile(r"[0-9]{1,18}")
_PAIR = re.compile(r"([!-+\--~]+)(?: ([A-Za-z0-9+/]*={0,2}))?")


_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_KEYED = f"[!-+.-~-]+( {_BASE64})?"
# As the OpenAPI document tells them; what is wrong with one is told by the functions that read it.
_HEADERS: Mapping[str, tuple[bool, JsonValue]] = {
    "Tus-Resumable": (True, {"type": "string", "enum": [VERSION]}),
    "Upload-Length": (True, {"type": "integer", "minimum": 0}),
    "Upload-Offset": (True, {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}),
    "Upload-Metadata": (
        False,
        {"type": "string", "maxLength": MAX_METADATA_CHARS, "pattern": f"^{_KEYED}(,{_KEYED})*$"},
    ),
    "Upload-Checksum": (
        False,
        {
            "anyOf": [
                {"type": "string", "pattern": "^sha256 [A-Za-z0-9+/]{43}=$"},
                {"type": "string", "pattern": "^sha1 [A-Za-z0-9+/]{27}=$"},
            ]
        },
    ),
}


def described(*headers: str, has_body: bool = False) -> dict[str, JsonValue]:
    """What the OpenAPI document says of a call that reads these headers beside the protocol's version."""
    parameters: list[JsonValue] = [
        {"name": name, "in": "header", "required": _HEADERS[name][0], "schema": _HEADERS[name][1]}
        for name in ("Tus-Resumable", *headers)
    ]
    body: JsonValue = {"content": {CHUNK_MEDIA_TYPE: {"schema": {"format": "binary"}}}}
    return {"parameters": parameters} | ({"requestBody": body} if has_body else {})


class Versioned:
    """ASGI middleware: every answer of an upload, a problem too, tells the version of the protocol."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(raw=message["headers"])
                answer.setdefault("tus-resumable", VERSION)
                message["headers"] = answer.raw
            await send(message)

        is_upload = scope["type"] == "http" and scope["path"].startswith("/v1/uploads")
        await self.app(scope, receive, send_versioned if is_upload else send)


@dataclass(frozen=True)
class Metadata:
    """What a client says of an upload."""

    text: str | None
    """As it came, for HEAD to give back."""
    expected: str | None
    """The artifact that the whole will be, from the key `sha256`."""


def check_version(request: Request) -> None:
    """Raises TusVersionUnsupported unless the request speaks the version that this service speaks."""
    if request.headers.get("tus-resumable") != VERSION:
        raise TusVersionUnsupported(f"Send `Tus-Resumable: {VERSION}`.", headers={"tus-version": VERSION})


def check_chunk_type(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CHUNK_MEDIA_TYPE:
        raise UnsupportedMediaType(f"The bytes of an upload have the Content-Type {CHUNK_MEDIA_TYPE}.")


def number_of(request: Request, header: str) -> int:
    """A header that is a number of bytes; BadRequest if it is not there or is something else."""
    text = request.headers.get(header)
    if text is None or not _DIGITS.fullmatch(text):
        raise BadRequest(f"{header} is missing or is no number of bytes.")
    return int(text)


def metadata_of(request: Request) -> Metadata:
    """`Upload-Metadata`: pairs of a key and a value in Base64, separated by commas.

    Raises:
        BadRequest: if it cannot be understood, or `sha256` is no hash.
    """
    text = request.headers.get("upload-metadata")
    if text is None or not text.strip():
        return Metadata(None, None)
    if len(text) > MAX_METADATA_CHARS:
        raise BadRequest(f"Upload-Metadata has more than {MAX_METADATA_CHARS} characters.")
    values: dict[str, bytes] = {}
    for pair in text.split(","):
        match = _PAIR.fullmatch(pair.strip())
        if match is None or match[1] in values:
            raise BadRequest("Upload-Metadata is not a list of unique keys, each with a value in Base64.")
        values[match[1]] = _decoded(match[2] or "", "Upload-Metadata")
    expected = None
    if "sha256" in values:
        named = values["sha256"].decode("latin-1").lower()
        expected = named if named.startswith("sha256:") else f"sha256:{named}"
        if not re.fullmatch(limits.ARTIFACT_PATTERN, expected):
            raise BadRequest("The key sha256 of Upload-Metadata is the hash in hexadecimal, in Base64.")
    return Metadata(text, expected)


@dataclass(frozen=True)
class Checksum:
    """What the body of one part is said to hash to."""

    algorithm: str
    digest: bytes

    def start(self) -> hashlib._Hash:
        # Against damage on the way, not against forgers: the whole has its SHA-256.
        return hashlib.new(self.algorithm, usedforsecurity=False)


def checksum_of(request: Request) -> Checksum | None:
    """What `Upload-Checksum` announces for the body.

    Raises:
        BadRequest: if it is of another algorithm, or garbled.
    """
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.strip().partition(" ")
    algorithm = algorithm.lower()
    if algorithm not in CHECKSUM_BYTES:
        raise BadRequest(f"Upload-Checksum is taken with {' or '.join(CHECKSUM_BYTES)}, and a space before the Base64.")
    digest = _decoded(encoded.strip(), "Upload-Checksum")
    if len(digest) != CHECKSUM_BYTES[algorithm]:
        raise BadRequest(
            f"Upload-Checksum has {len(digest)} bytes; those of {algorithm} are {CHECKSUM_BYTES[algorithm]}."
        )
    return Checksum(algorithm, digest)


def capabilities(max_bytes: int) -> dict[str, str]:
    """The headers of OPTIONS."""
    return {
        "tus-version": VERSION,
        "tus-extension": ",".join(EXTENSIONS),
        "tus-max-size": str(max_bytes),
        "tus-checksum-algorithm": ",".join(CHECKSUM_BYTES),
    }


def state_of(row: UploadRow) -> Mapping[str, str]:
    """The headers that tell how far an upload is."""
    headers = {"upload-offset": str(row.offset)}
    if row.artifact is None:
        headers["upload-expires"] = format_datetime(row.expires_at, usegmt=True)
    else:
        headers["saddlescope-artifact"] = row.artifact
    return headers


def _decoded(text: str, header: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadRequest(f"A value of {header} is not Base64.") from None
