"""Reading answers: the contract's models, open to fields that a newer service may have added."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from saddlescope.client.errors import UnreadableAnswer
from saddlescope.contract.jobs import Job
from saddlescope.contract.problems import Problem
from saddlescope.contract.strict import Closed

Model = TypeVar("Model", bound=Closed)


class JobPage(Closed):
    """One page of `GET /v1/jobs`."""

    data: tuple[Job, ...]
    has_more: bool
    next: str | None = None


def parse(model: type[Model], body: bytes) -> Model:
    """Validate an answer, leaving unknown fields out.

    Raises:
        UnreadableAnswer: if the answer lacks a field of the contract or holds a value that this version does not know.
    """
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as wrong:
        raise UnreadableAnswer(_said(model.__name__, wrong)) from None


def parse_problem(body: bytes, *, status: int, request_id: str | None) -> Problem:
    """The problem object of an error answer; one is made up where a proxy answered something else."""
    try:
        return Problem.model_validate_json(body, extra="ignore")
    except ValidationError:
        text = body[:200].decode("utf-8", errors="replace").strip()
        return Problem(
            type="about:blank",
            title="No problem object",
            status=status,
            detail=f"the answer was not from Saddlescope: {text!r}" if text else "the answer was empty",
            code=f"http_{status}",
            request_id=request_id,
        )


def _said(what: str, wrong: ValidationError) -> str:
    first = wrong.errors(include_url=False)[0]
    place = "/".join(str(part) for part in first["loc"])
    return f"cannot read the {what} of the answer at /{place}: {first['msg']}; a newer service wants a newer client"
