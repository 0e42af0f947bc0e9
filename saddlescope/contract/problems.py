"""Errors as data: `application/problem+json` (RFC 9457) with the codes of this service."""

from __future__ import annotations

from pydantic import Field

from saddlescope.contract.strict import Closed


class FieldProblem(Closed):
    """One wrong place in the request, by JSON Pointer."""

    pointer: str
    detail: str
    code: str


class Problem(Closed):
    """A problem object; `type` is a page that the service serves."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    request_id: str | None = None
    retryable: bool = False
    errors: tuple[FieldProblem, ...] = Field(default=())
