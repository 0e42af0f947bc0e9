"""What a list page shows: the whole of it stands in the address, and every link on the page is another such address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query
from pydantic import AwareDatetime, BeforeValidator

from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.columns import BY_KEY, COLUMNS, DEFAULT_KEYS, Column
from service.listing import MAX_LABEL_FILTERS, Text, parsed_cursor, parsed_labels, storable
from service.problems import RequestInvalid
from store.jobs import Cursor, JobFilters, Order
from store.lists import SortKey

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _absent(value: object) -> object:
    """A form sends its empty fields too."""
    return None if value == "" else value


def _moment(value: object) -> object:
    """A day, as a form sends it, begins at midnight in UTC."""
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else _absent(value)


_Blank = BeforeValidator(_absent)


@dataclass(frozen=True)
class Looking:
    """The address of a list, read."""

    filters: JobFilters
    sort: SortKey
    order: Order
    columns: tuple[Column, ...]
    is_grouped: bool
    after: Cursor | None

    @property
    def is_narrowed(self) -> bool:
        return self.filters != JobFilters()

    @property
    def has_default_columns(self) -> bool:
        return tuple(column.key for column in self.columns) == DEFAULT_KEYS

    def query(self, *, with_page: bool = True) -> str:
        """The same address again, in one spelling; empty for the plain list."""
        pairs = list(filter_pairs(self.filters))
        if self.sort is not SortKey.CREATED or self.order is not Order.NEWEST_FIRST:
            pairs += [("sort", self.sort.value), ("order", self.order.value)]
        if not self.has_default_columns:
            pairs += [("column", column.key) for column in self.columns]
        if self.is_grouped:
            pairs.append(("group", "run"))
        if with_page and self.after is not None:
            pairs.append(("after", self.after.job_id))
        return f"?{urlencode(pairs)}" if pairs else ""

    def sorted_by(self, key: SortKey) -> str:
        """The query of the list by this key; where it goes by it already, the other way round."""
        is_descending = self.sort is not key or self.order is Order.OLDEST_FIRST
        order = Order.NEWEST_FIRST if is_descending else Order.OLDEST_FIRST
        return replace(self, sort=key, order=order, after=None).query() or "?"

    def beginning(self, after: Cursor | None) -> Looking:
        return replace(self, after=after)

    def following(self, cursor: Cursor) -> str:
        return self.beginning(cursor).query()

    def first_page(self) -> str:
        return self.query(with_page=False)


def filter_pairs(filters: JobFilters) -> Sequence[tuple[str, str]]:
    """Filters as the fields of a query."""
    pairs: list[tuple[str, str]] = []
    for name, value in (
        ("q", filters.words),
        ("status", filters.status),
        ("verdict", filters.verdict),
        ("run", filters.run),
    ):
        if value is not None:
            pairs.append((name, str(value)))
    pairs += [("label", f"{key}:{value}") for key, value in filters.labels]
    if filters.created_after is not None:
        pairs.append(("created_after", filters.created_after.isoformat().replace("+00:00", "Z")))
    return pairs


async def _page_filters(  # noqa: PLR0917 - each is a field of the query
    q: Annotated[Text | None, _Blank] = None,
    status: Annotated[JobStatus | None, _Blank] = None,
    verdict: Annotated[Verdict | None, _Blank] = None,
    run: Annotated[Text | None, _Blank] = None,
    label: Annotated[list[Text] | None, Query(max_length=MAX_LABEL_FILTERS)] = None,
    created_after: Annotated[AwareDatetime | None, BeforeValidator(_moment)] = None,
) -> JobFilters:
    return JobFilters(
        status=status,
        verdict=verdict,
        run=run,
        labels=parsed_labels([pair for pair in label or () if pair]),
        created_after=storable(created_after),
        words=None if q is None else q.strip() or None,
    )


PageFilters = Annotated[JobFilters, Depends(_page_filters)]


async def _looking(
    filters: PageFilters,
    *,
    sort: SortKey = SortKey.CREATED,
    order: Order = Order.NEWEST_FIRST,
    column: Annotated[list[str] | None, Query(max_length=len(COLUMNS))] = None,
    group: Annotated[Literal["run"] | None, _Blank] = None,
    after: Annotated[str | None, _Blank] = None,
) -> Looking:
    unknown = [key for key in column or () if key not in BY_KEY]
    if unknown:
        place = FieldProblem(pointer="/query/column", detail=f"columns are {', '.join(BY_KEY)}", code="column_unknown")
        raise RequestInvalid("column: there is no such column.", errors=[place])
    return Looking(
        filters=filters,
        sort=sort,
        order=order,
        columns=tuple(BY_KEY[key] for key in dict.fromkeys(column or DEFAULT_KEYS)),
        is_grouped=group is not None,
        after=None if after is None else parsed_cursor(after),
    )


LookingAt = Annotated[Looking, Depends(_looking)]
