"""The application: every route, and what is around all of them."""

from __future__ import annotations

import os
from functools import partial
from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from opentelemetry.trace import TracerProvider
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Scope

import saddlescope
from service import (
    actions,
    artifacts,
    attempts,
    deliveries,
    events,
    exports,
    health,
    jobs,
    listing,
    pages,
    pictures,
    reference,
    results,
    runs,
    signing_in,
    tus,
    uploads,
    webhooks,
)
from service.answers import tell_problems
from service.description import describe
from service.exchange import Exchange
from service.feed import Feed
from service.parts import Parts
from service.probes import probes_of
from service.shared_reads import SharedReads

_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_PROBLEMS: dict[int | str, str] = {
    "4XX": "The request is wrong, not allowed, or came too fast; `code` says which.",
    503: "A part of the service does not answer.",
    507: "No room for these bytes: on the disk, or in the project's quota.",
}


def create_app(parts: Parts, *, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """The service over opened parts; its requests are traced when a provider is given."""
    app = FastAPI(
        title="Saddlescope",
        version=saddlescope.__version__,
        description="Is training stuck at a minimum or a saddle, and what is the way out?",
        # The stock documentation pages load scripts from other hosts; ours is in `reference`.
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
        telemetry={
            "tracing": tracer_provider is not None,
            "tracer_provider": tracer_provider,
            # Metrics are Prometheus's; its logs would carry messages and input values.
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in ("/healthz", "/readyz", "/metrics"),
        },
        # Problems are `application/problem+json` everywhere; FastAPI would document its own shape of a 422.
        responses={status: _PROBLEM | {"description": said} for status, said in _PROBLEMS.items()},
    )
    app.state.parts = parts
    app.state.feed = Feed(parts.sessions)
    app.state.reads = SharedReads(parts.glances)
    app.state.probes = probes_of(parts)
    app.add_middleware(tus.Versioned)
    app.add_middleware(Exchange, settings=parts.settings, metrics=parts.metrics)
    tell_problems(app)
    # What is asked most comes first: a request is held against every route before its own.
    for part in (
        *(jobs, exports, listing, artifacts, uploads, attempts, events, results, pictures, runs),
        *(webhooks, deliveries, health, reference, signing_in, actions, pages),
    ):
        app.include_router(part.router)
    app.mount("/static", GZipMiddleware(_Files(directory=str(files("service").joinpath("static")))), name="static")
    description = partial(describe, app, max_artifact_bytes=parts.settings.max_artifact_bytes)
    app.openapi = description  # type: ignore[method-assign] # FastAPI's documented way to extend it
    return app


class _Files(StaticFiles):
    """Style and scripts: kept by the browser, which asks each time whether they are still those of this version."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "no-cache"
        return response
