"""What runs beside the event loop: each hop to a thread and back costs as much as a read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

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
    results,
    runs,
    uploads,
    webhooks,
)

PARTS = (
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
    results,
    runs,
)
WAITING = {"_parts_health", "_known_webhook"}


def dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for needed in dependant.dependencies:
        yield needed
        yield from dependencies(needed)


def test_only_dependencies_that_read_go_through_a_thread() -> None:
    routes = [route for part in (*PARTS, uploads, webhooks) for route in part.router.routes]
    used = [needed.call for route in routes if isinstance(route, APIRoute) for needed in dependencies(route.dependant)]
    assert len(used) > len(routes) > 40
    through_threads = {getattr(call, "__name__", str(call)) for call in used if not asyncio.iscoroutinefunction(call)}
    assert through_threads == WAITING
