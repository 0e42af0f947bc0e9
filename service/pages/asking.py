"""A first question from the browser: an expression with its numbers, or files. It goes the way of `POST /v1/jobs`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from service.access import Actor, Visitor
from service.answers import request_id
from service.artifacts import commit_blob
from service.forms import TOKEN, hold_to_token
from service.jobs import checked_and_submitted
from service.multipart import read_form
from service.parts import PartsOf
from service.problems import RequestInvalid, UnsupportedMediaType
from service.questions import FIELDS, FILES, question
from service.rendering import page
from service.requests import parse_request
from service.submission import Submission, check
from store.blobs import Blob
from store.keys import Scope

router = APIRouter(include_in_schema=False)
_TRY: Mapping[str, str] = {"expression": "(1 - w1*w2)**2", "numbers": "w1 = 0\nw2 = 0"}


@router.get("/submit")
def submit_page(request: Request, parts: PartsOf, visitor: Visitor) -> Response:
    """The form, filled with a saddle that can be checked by hand."""
    return _form(request, _TRY, may_submit=bool({Scope.SUBMIT, Scope.ADMIN} & visitor.scopes))


@router.post("/submit")
async def submitted(request: Request, parts: PartsOf, actor: Actor) -> Response:
    """The new job's page, or the form again with what is wrong."""
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise UnsupportedMediaType("This form is sent as multipart/form-data.")
    with ExitStack() as keep:
        form = await read_form(
            content_type,
            request.stream(),
            blobs=parts.blobs,
            max_file_bytes=parts.settings.max_artifact_bytes,
            keep=keep,
            fields=(TOKEN, *FIELDS),
        )
        fields = {name: text.decode("utf-8", "replace") for name, text in form.fields.items()}
        hold_to_token(request, parts, fields.pop(TOKEN, ""))
        # A browser sends a file that nobody chose as one without bytes.
        files = {name: writer for name, writer in form.files.items() if writer.size and name in FILES}
        try:
            asked = parse_request(question(fields, {name: writer.digest for name, writer in files.items()}))
            submission = Submission(
                project=actor.project,
                request=asked,
                uploads=tuple(Blob(id=writer.digest, size=writer.size) for writer in files.values()),
                request_id=request_id(request),
            )
            await run_in_threadpool(check, parts, submission)
        except RequestInvalid as refused:
            return _form(request, fields, refused=refused)
        for writer in files.values():
            await commit_blob(writer)
    accepted = await run_in_threadpool(checked_and_submitted, parts, submission)
    return RedirectResponse(f"/jobs/{accepted.job.id}", status_code=303)


def _form(
    request: Request, fields: Mapping[str, str], *, refused: RequestInvalid | None = None, may_submit: bool = True
) -> Response:
    return page(
        request,
        "submit.html",
        status_code=200 if refused is None else refused.status,
        fields={name: fields.get(name, "") for name in FIELDS},
        refused=refused,
        may_submit=may_submit,
    )
