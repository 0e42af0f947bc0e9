"""The OpenAPI document: FastAPI's, with the bodies that are parsed here, and the ways from one call to the next."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import JsonValue

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.problems import Problem
from saddlescope.contract.webhooks import WebhookRequest

# What makes an object, the status of its answer, and the parameter under which others take the object's id.
_MAKERS = (
    ("/v1/jobs", "202", "job_id"),
    ("/v1/jobs/{job_id}/retry", "202", "job_id"),
    ("/v1/webhooks", "201", "webhook_id"),
    ("/v1/artifacts", "201", "artifact_id"),
)
_CALLS = ("get", "head", "put", "post", "patch", "delete")


def describe(app: FastAPI, *, max_artifact_bytes: int) -> dict[str, object]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (JobRequest, WebhookRequest, Problem):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= described.pop("$defs", {})
            schemas[model.__name__] = described
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        # The empty one: on loopback a service may take everyone.
        document["security"] = [{"key": []}, {}]
        # FastAPI's own shape of a 422, which is nowhere answered.
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for path, status, parameter in _MAKERS:
            document["paths"][path]["post"]["responses"][status]["links"] = _links(document["paths"], parameter)
        for announced in document["paths"]["/v1/uploads"]["post"]["parameters"]:
            if announced["name"] == "Upload-Length":
                announced["schema"] = announced["schema"] | {"maximum": max_artifact_bytes}
        app.openapi_schema = document
    return app.openapi_schema


def _links(paths: dict[str, dict[str, dict[str, str]]], parameter: str) -> dict[str, JsonValue]:
    """To every call that needs no other id than the one that was just given."""
    return {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {parameter: "$response.body#/id"},
        }
        for path, operations in paths.items()
        if f"{{{parameter}}}" in path and path.count("{") == 1
        for method, operation in operations.items()
        if method in _CALLS
    }
