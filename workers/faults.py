"""What is wrong with the bytes or the specification of a job, for its owner to mend."""

from __future__ import annotations

from saddlescope.contract.vocabulary import FailureCode

_MAX_DETAIL_CHARS = 2_000


class JobFault(Exception):
    """The job cannot be analysed as it was submitted; a retry of the same job would fail alike.

    Args:
        code: the error code of the job.
        detail: one or two sentences: what is wrong, and what to do next.
        pointer: JSON Pointer into the request, where one place is to blame.
    """

    def __init__(self, code: FailureCode, detail: str, pointer: str | None = None) -> None:
        self.code = code
        self.detail = detail if len(detail) <= _MAX_DETAIL_CHARS else detail[: _MAX_DETAIL_CHARS - 1] + "…"
        self.pointer = pointer
        super().__init__(self.detail)


def quoted(name: str, max_chars: int = 80) -> str:
    """A name out of hostile bytes, escaped and cut so that it can stand in a message."""
    return ascii(name if len(name) <= max_chars else name[:max_chars] + "...")
