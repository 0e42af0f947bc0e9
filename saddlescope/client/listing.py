"""The list of jobs: page by page, or as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saddlescope.client.answers import JobPage, parse
from saddlescope.client.job import Job
from saddlescope.client.transport import Call, Transport
from saddlescope.contract.vocabulary import JobStatus, Verdict

PAGE_SIZE = 100
Filters = dict[str, str | int | list[str]]


def filters_of(
    *,
    status: JobStatus | str | None,
    verdict: Verdict | str | None,
    run: str | None,
    labels: Mapping[str, str] | None,
) -> Filters:
    """The query of the contract. Raises ValueError for a status or verdict that does not exist."""
    filters: Filters = {}
    if status is not None:
        filters["status"] = JobStatus(status).value
    if verdict is not None:
        filters["verdict"] = Verdict(verdict).value
    if run is not None:
        filters["run"] = run
    if labels:
        filters["label"] = [f"{name}:{value}" for name, value in labels.items()]
    return filters


def list_jobs(transport: Transport, filters: Filters, *, limit: int | None) -> Iterator[Job]:
    """Jobs from the newest, page by page; at most `limit`."""
    after: str | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
        page_filters = filters | {"limit": size} | ({} if after is None else {"after": after})
        page = parse(JobPage, transport.send(Call("GET", "/v1/jobs", params=page_filters)).content)
        yield from (Job(transport, info) for info in page.data)
        after = page.next
        if after is None or not page.has_more:
            return
        left = None if left is None else left - len(page.data)
