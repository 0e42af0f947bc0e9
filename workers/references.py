"""Checkpoints by reference: a private copy is made, hashed on the way, and nothing but the copy is read afterwards.

So the bytes that are named in the report are the bytes that were analysed, whatever happens to the file meanwhile. A
folder becomes the uncompressed tar archive that could have been uploaded.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from saddlescope.contract.sources import ObjectSource, PathSource, Reference
from store.blobs import StorageFull

BLOCK_BYTES = 2**20
MAX_FILES = 10_000
# What a sharded or distributed checkpoint is made of; whatever else lies beside it stays there.
_MEMBER = re.compile(r"\.metadata|[A-Za-z0-9_.\-]{1,200}\.(distcp|safetensors|safetensors\.index\.json)")
Check = Callable[[], None]
"""Called between blocks; may raise to end the copying."""


class ReferenceRefused(Exception):
    """The reference cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class Copied:
    name: str
    """The path or address that was copied."""
    path: Path
    digest: str
    """`sha256:` of the copy."""


def copy_reference(
    source: Reference, target: Path, *, roots: Iterable[Path], buckets: frozenset[str], check: Check
) -> Copied:
    """Copy what the source names to a file of our own.

    Raises:
        ReferenceRefused: if it is outside the roots or buckets, is not there, or changes meanwhile.
        StorageFull: if there is no room for the copy.
        StorageUnavailable: if an object store does not answer.
    """
    with _failures_named(), target.open("xb") as file:
        sink = _HashedFile(file, check)
        match source:
            case PathSource(path=path):
                with _opened_beneath(path, roots) as descriptor:
                    _copy(descriptor, path, sink)
            case ObjectSource():
                _copy_object(source, buckets, sink)
    return Copied(
        source.path if isinstance(source, PathSource) else source.s3, target, f"sha256:{sink.hash.hexdigest()}"
    )


class _HashedFile:
    """A file that is hashed as it is written, and looks up between blocks."""

    def __init__(self, file: BinaryIO, check: Check) -> None:
        self.hash = hashlib.sha256()
        self._file = file
        self._check = check

    def write(self, block: bytes) -> int:
        self._check()
        self.hash.update(block)
        return self._file.write(block)


@contextmanager
def _opened_beneath(path: str, roots: Iterable[Path]) -> Iterator[int]:
    """A descriptor of a plain file or folder beneath one of the roots, with links resolved before and none followed.

    Between the resolving and the opening a link may be laid; then a step of the walk fails.
    """
    real = os.path.realpath(path)
    root = next((each for each in map(os.path.realpath, roots) if os.path.commonpath([each, real]) == each), None)
    if root is None or real == root:
        raise ReferenceRefused("the path is in none of the folders that this worker may read")
    steps = os.path.relpath(real, root).split("/")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in steps:
            # Not blocking: a pipe without a writer would hold the worker for ever.
            inner = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(descriptor: int, path: str, sink: _HashedFile) -> None:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            _copy_file(file, sink)
    elif stat.S_ISDIR(status.st_mode):
        _pack(descriptor, sink)
    else:
        raise ReferenceRefused("it is neither a plain file nor a folder")


def _copy_file(file: BinaryIO, sink: _HashedFile) -> None:
    before = _version(file)
    num_bytes = 0
    while block := file.read(BLOCK_BYTES):
        num_bytes += sink.write(block)
    if _version(file) != before or num_bytes != before[0]:
        raise ReferenceRefused("the file changed while it was read; name a file that is complete")


def _pack(folder: int, sink: _HashedFile) -> None:
    """The folder's files as a tar archive that is the same for the same names and bytes."""
    names = sorted(name for name in os.listdir(folder) if _MEMBER.fullmatch(name))
    if not 1 < len(names) <= MAX_FILES:
        raise ReferenceRefused(
            "the folder is no sharded or distributed checkpoint: it holds no .metadata with *.distcp files, and no "
            "*.safetensors.index.json with its shards"
        )
    for name in names:
        inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(inner, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(inner).st_mode):
                raise ReferenceRefused(f"{name} in the folder is no plain file")
            header = tarfile.TarInfo(name)
            header.size = _version(file)[0]
            sink.write(header.tobuf(tarfile.GNU_FORMAT))
            _copy_file(file, sink)
            sink.write(bytes(-header.size % tarfile.BLOCKSIZE))
    sink.write(bytes(2 * tarfile.BLOCKSIZE))


def _version(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _copy_object(source: ObjectSource, buckets: frozenset[str], sink: _HashedFile) -> None:
    if source.bucket not in buckets:
        raise ReferenceRefused("the bucket is none of those that this worker may read")
    # An extra: who keeps nothing in buckets need not install it.
    from store.objects import read_object  # noqa: PLC0415

    try:
        for block in read_object(source.bucket, source.key):
            sink.write(block)
    except FileNotFoundError:
        raise ReferenceRefused("the bucket has no such object") from None


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from failure
        raise ReferenceRefused(f"the worker cannot read it: {os.strerror(failure.errno or 0)}") from failure
