"""Checkpoints that are named and not sent: which places a request may name, told before a worker looks there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.sources import CheckpointSource, ObjectSource, PathSource


@dataclass(frozen=True)
class AllowedReferences:
    """Folders and buckets; a kind of which there is none is switched off.

    By name alone: the service need not see the files. The worker holds what it opens to the same list, links resolved.
    """

    roots: tuple[PurePosixPath, ...] = ()
    buckets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, roots: str, buckets: str) -> AllowedReferences:
        return cls(tuple(map(PurePosixPath, _split(roots))), frozenset(_split(buckets)))

    def problems(self, source: CheckpointSource) -> Iterator[FieldProblem]:
        match source:
            case PathSource() if not self.roots:
                yield _disabled("/checkpoint/path", "paths")
            case ObjectSource() if not self.buckets:
                yield _disabled("/checkpoint/s3", "objects of a store")
            case PathSource(path=path) if not any(PurePosixPath(path).is_relative_to(root) for root in self.roots):
                yield _outside("/checkpoint/path", "the path is in none of the folders that this service may read")
            case ObjectSource() if source.bucket not in self.buckets:
                yield _outside("/checkpoint/s3", "the bucket is none of those that this service may read")
            case _:
                return


def _disabled(pointer: str, what: str) -> FieldProblem:
    detail = f"this service takes no {what}; upload the bytes and name them as an artifact"
    return FieldProblem(pointer=pointer, detail=detail, code="references_disabled")


def _outside(pointer: str, detail: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, detail=detail, code="reference_not_allowed")


def _split(listed: str) -> list[str]:
    return [entry for entry in listed.split(":") if entry]
