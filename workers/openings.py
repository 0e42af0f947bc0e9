"""What a runner opens before it locks itself in: afterwards there are no files, only these descriptors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.protocol import OUTPUT_FOLDER, REQUEST_FILE, Task


@dataclass(frozen=True)
class Openings:
    """Descriptors of one task's files; nothing has been read from them.

    Attributes:
        request: the request.
        artifacts: inputs by the names that the request has for them, read-only.
        outputs: files of the output folder by name, empty.
        saved: the state that an earlier attempt left, read-only; None if there is none.
    """

    request: int
    artifacts: Mapping[str, int]
    outputs: Mapping[str, int]
    saved: int | None = None

    def descriptors(self) -> frozenset[int]:
        saved = () if self.saved is None else (self.saved,)
        return frozenset((self.request, *self.artifacts.values(), *self.outputs.values(), *saved))

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Append to an output.

        Raises:
            OSError: EFBIG, if it becomes larger than the sandbox allows.
        """
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self.outputs[name], rest) :]

    def rewrite(self, name: str, pieces: Iterable[memoryview]) -> str:
        """Put the pieces in the place of what an output holds; gives the digest of all, as a blob is named.

        Raises:
            OSError: EFBIG or ENOSPC; the output then holds no whole thing.
        """
        descriptor, digest = self.outputs[name], hashlib.sha256()
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        for piece in pieces:
            digest.update(piece)
            self.write(name, piece)
        return f"sha256:{digest.hexdigest()}"


def open_files(task: Task) -> Openings:
    """Open everything that the task names.

    Raises:
        OSError: if a file is not there.
    """
    folder = Path(task.folder)
    return Openings(
        request=_open(folder / REQUEST_FILE),
        artifacts={name: _open(Path(path)) for name, path in task.artifacts.items()},
        outputs={
            name: os.open(folder / OUTPUT_FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            for name in task.outputs
        },
        saved=None if task.saved is None else _open(Path(task.saved)),
    )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
