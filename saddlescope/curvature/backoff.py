"""Going on with less memory instead of giving up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from saddlescope.curvature.errors import OutOfMemory

Answer = TypeVar("Answer")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def with_less_memory(attempt: Callable[[], Answer], give_way: Callable[[OutOfMemory], None]) -> Answer:
    """`attempt()`, again and again after `give_way` made room, until memory suffices or `give_way` raises."""
    while True:
        try:
            return attempt()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            detail = str(error)
        # Outside the handler, where the failed attempt's tensors are gone with its traceback.
        give_way(OutOfMemory(f"memory does not suffice: {detail}"))
