"""Progress lines out of a runner's pipe, as far as they are well-formed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import final

from pydantic import ValidationError

from saddlescope.contract.vocabulary import Stage
from workers.protocol import LINE, ProgressLine, SavedLine

MAX_LINE_BYTES = 4 * 2**10
# A runner goes through each stage once or twice; one that tells more is not believed.
MAX_MARKS = 32


@dataclass(frozen=True)
class StageMark:
    """When a runner first told of a stage, in nanoseconds of the system's clock."""

    stage: Stage
    at_ns: int


@final
class ProgressReader:
    """Takes the bytes of the pipe in any pieces and keeps the last line of each kind.

    Anything else is passed over: progress is for looking at, nothing rests on it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_new = False
        self.latest: ProgressLine | None = None
        self.marks: list[StageMark] = []
        self._saved: SavedLine | None = None

    def feed(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:MAX_LINE_BYTES]
        for line in lines:
            try:
                said = LINE.validate_json(line)
            except ValidationError:
                continue
            if isinstance(said, SavedLine):
                self._saved = said
            else:
                self.latest, self._is_new = said, True
                self._mark(said.stage)

    def take(self) -> ProgressLine | None:
        """The last line, unless it was taken before."""
        if not self._is_new:
            return None
        self._is_new = False
        return self.latest

    def _mark(self, stage: Stage) -> None:
        is_other = not self.marks or self.marks[-1].stage is not stage
        if is_other and len(self.marks) < MAX_MARKS:
            self.marks.append(StageMark(stage, time.time_ns()))

    def take_saved(self) -> SavedLine | None:
        """The last word about a saved state, unless it was taken before."""
        said, self._saved = self._saved, None
        return said
