"""What a runner opens before it locks itself in: afterwards there are no files, only these descriptors."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    """

    request: int
    artifacts: Mapping[str, int]
    outputs: Mapping[str, int]

    def descriptors(self) -> frozenset[int]:
        return frozenset((self.request, *self.artifacts.values(), *self.outputs.values()))

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Append to an output.

        Raises:
            OSError: EFBIG, if it becomes larger than the sandbox allows.
        """
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self.outputs[name], rest) :]


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
    )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
