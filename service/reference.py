"""`/docs`, rendered here from the OpenAPI document, and a page for every problem code."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field, JsonValue

from saddlescope.contract.vocabulary import FailureCode
from service.failures import FAILURES
from service.problems import NotFound, catalogue
from service.rendering import page

router = APIRouter(include_in_schema=False)


class _Parameter(BaseModel):
    name: str
    place: str = Field(alias="in")
    required: bool = False
    description: str = ""


class _Operation(BaseModel):
    tags: tuple[str, ...] = ("other",)
    description: str = ""
    parameters: tuple[_Parameter, ...] = ()
    responses: dict[str, JsonValue]


class _Components(BaseModel):
    schemas: dict[str, JsonValue]


class _Document(BaseModel):
    """The parts of OpenAPI that the page shows."""

    paths: dict[str, dict[str, _Operation]]
    components: _Components


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Every call of the API, without a script and without another host."""
    app: FastAPI = request.app
    document = _Document.model_validate(app.openapi())
    sections: dict[str, list[tuple[str, str, _Operation]]] = {}
    for path, operations in document.paths.items():
        for method, operation in operations.items():
            sections.setdefault(operation.tags[0], []).append((method.upper(), path, operation))
    return page(
        request, "docs.html", sections=sections, schemas=sorted(document.components.schemas), version=app.version
    )


@router.get("/problems")
def problem_index(request: Request) -> HTMLResponse:
    return page(request, "problems.html", problems=_all_problems())


@router.get("/problems/{code}")
def problem_page(request: Request, code: str) -> HTMLResponse:
    """What a problem's `type` points to."""
    found = _all_problems().get(code)
    if found is None:
        raise NotFound("There is no problem with this code.")
    return page(request, "problem.html", code=code, title=found[0], explanation=found[1])


def _all_problems() -> dict[str, tuple[str, str]]:
    failures = {
        code.value: (FAILURES[code].title, f"{FAILURES[code].explanation} {FAILURES[code].mend}")
        for code in FailureCode
    }
    return dict(sorted((failures | catalogue()).items()))
