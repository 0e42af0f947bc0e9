"""Where the bytes of a checkpoint, a program or a data set come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from saddlescope.contract import limits
from saddlescope.contract.strict import Closed

ArtifactId = Annotated[str, Field(pattern=limits.ARTIFACT_PATTERN)]


class ArtifactSource(Closed):
    """Bytes uploaded before, by their hash."""

    artifact: ArtifactId


class PartSource(Closed):
    """Bytes in the same multipart request, by the name of their part. The service replaces it by an artifact."""

    part: str = Field(min_length=1, max_length=limits.MAX_NAME_CHARS)


def shape_of(value: JsonValue) -> tuple[int, ...]:
    """Shape of a number or of nested lists of numbers.

    Raises:
        ValueError: if it is ragged, too deep, or holds anything but finite numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        raise ValueError("only numbers and nested lists of numbers are tensors")
    if not isinstance(value, list):
        return ()
    if not value:
        return (0,)
    shapes = {shape_of(entry) for entry in value}
    if len(shapes) > 1:
        raise ValueError("the nested lists do not form a rectangular tensor")
    shape = (len(value), *shapes.pop())
    if len(shape) > limits.MAX_INLINE_RANK:
        raise ValueError(f"an inline tensor has at most {limits.MAX_INLINE_RANK} dimensions")
    return shape


def numbers(value: JsonValue) -> Iterator[float]:
    """The numbers of an inline tensor in row-major order."""
    if isinstance(value, list):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, int | float):
        yield value


def _checked(tensors: dict[str, JsonValue]) -> dict[str, JsonValue]:
    total = 0
    for name, value in tensors.items():
        if not re.fullmatch(limits.TENSOR_NAME_PATTERN, name) or ".." in name:
            raise _refusal("a tensor name has 1 to 512 characters of A-Z a-z 0-9 _ . - / and no '..'")
        try:
            shape = shape_of(value)
        except ValueError as wrong:
            raise _refusal(f"tensor {name!r}: {wrong}") from None
        size = 1
        for extent in shape:
            size *= extent
        total += size
    if total > limits.MAX_INLINE_NUMBERS:
        raise _refusal(
            f"{total} inline numbers; at most {limits.MAX_INLINE_NUMBERS} are taken, upload larger tensors as an artifact"
        )
    return tensors


def _refusal(because: str) -> PydanticCustomError:
    # As context, because braces in a name would be taken for a field of the template.
    return PydanticCustomError("tensor_invalid", "{because}", {"because": because})


InlineTensors = Annotated[dict[str, JsonValue], Field(min_length=1), AfterValidator(_checked)]


class InlineSource(Closed):
    """Numbers or nested lists of numbers, by tensor name."""

    inline: InlineTensors


def _absolute(path: str) -> str:
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path or any(part in (".", "..") for part in parts):
        raise ValueError("a path is absolute and has no '.' or '..' in it")
    return path


class PathSource(Closed):
    """A file that the workers can read themselves, or the folder of a sharded or distributed checkpoint."""

    # The pattern is described only; what is wrong with a path is told in words.
    path: Annotated[
        str,
        Field(min_length=2, max_length=4096, json_schema_extra={"pattern": r"^(/(?!\.\.?(/|$))[^/\x00]*)+$"}),
        AfterValidator(_absolute),
    ]


class ObjectSource(Closed):
    """An object that the workers can fetch themselves: `s3://bucket/key`."""

    s3: str = Field(pattern=r"^s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]/[^\x00-\x1f?#]{1,1024}$")

    @property
    def bucket(self) -> str:
        return self.s3.removeprefix("s3://").partition("/")[0]

    @property
    def key(self) -> str:
        return self.s3.removeprefix("s3://").partition("/")[2]


TensorSource = ArtifactSource | InlineSource
Reference = PathSource | ObjectSource
"""Bytes that the service never had: another time they may be others."""
CheckpointSource = ArtifactSource | InlineSource | PathSource | ObjectSource
