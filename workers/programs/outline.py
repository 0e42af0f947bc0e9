"""How many parts a program has, counted before any of them is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault

# A hundred layers of a transformer have some four thousand nodes; each costs a tenth of a millisecond to read and check.
MAX_NODES = 20_000
MAX_DESCRIBED = 2 * MAX_NODES
# An exporter writes some 25 a node; each takes half a kilobyte and some microseconds, wherever it stands.
MAX_OBJECTS = 25 * MAX_NODES


@dataclass
class _Counter:
    num_described: int = 0


def _count(_: object, info: ValidationInfo) -> None:
    """Counts one entry of a mapping, of which the library would make all before it looked at their number."""
    counter = info.context
    assert isinstance(counter, _Counter)  # noqa: S101 - narrows what pydantic leaves open
    counter.num_described += 1
    if counter.num_described > MAX_DESCRIBED:
        raise _too_many("described tensors", MAX_DESCRIBED)


class _Unread(BaseModel):
    """Any object, whatever it says."""

    model_config = ConfigDict(extra="ignore")


# A list stops at the first item too many.
_Parts = Annotated[list[_Unread], Field(max_length=MAX_NODES, fail_fast=True)]


class _Graph(_Unread):
    nodes: _Parts
    tensor_values: dict[str, Annotated[None, PlainValidator(_count)]]


class _Signature(_Unread):
    input_specs: _Parts
    output_specs: _Parts


class _Module(_Unread):
    graph: _Graph
    signature: _Signature


class _Outline(_Unread):
    graph_module: _Module


def check_counts(raw: bytes) -> None:
    """Raises JobFault, `resource_limit`, for a program of too many parts, and ValidationError for what is none."""
    if raw.count(b"{") > MAX_OBJECTS:
        raise _too_many("objects in its JSON", MAX_OBJECTS)
    try:
        _Outline.model_validate_json(raw, context=_Counter())
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False)[0]
        if first["type"] == "too_long":
            raise _too_many(str(first["loc"][-1]).replace("_", " "), MAX_NODES) from None
        raise


def _too_many(what: str, most: int) -> JobFault:
    return JobFault(FailureCode.RESOURCE_LIMIT, f"the program has more than {most} {what}", "/loss/program")
