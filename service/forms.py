"""Forms of the dashboard: small, and only from our own pages."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from service.bodies import read_document
from service.parts import Parts, PartsOf
from service.problems import BadRequest, Forbidden, UnsupportedMediaType
from service.sessions import is_form_token, visit_of

TOKEN = "token"  # noqa: S105 - a field's name
_MEDIA_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 16


async def _filled_form(request: Request, parts: PartsOf) -> dict[str, str]:
    """The fields of a form that one of our pages gave to this very browser.

    Raises:
        Forbidden: for a form without the token of the browser's visit.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise UnsupportedMediaType(f"A form is sent as {_MEDIA_TYPE}.")
    try:
        text = (await read_document(request)).decode("ascii")
        fields = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequest("The form is broken.") from None
    hold_to_token(request, parts, fields.pop(TOKEN, ""))
    return fields


def hold_to_token(request: Request, parts: Parts, token: str) -> None:
    """Raises Forbidden unless one of our pages gave the token to this very browser."""
    if not is_form_token(parts.pepper, visit_of(request, parts.pepper), token):
        raise Forbidden("The form is too old, or not of this service. Load its page again.")


FilledForm = Annotated[dict[str, str], Depends(_filled_form)]
