"""What the bell is rung by: a message that is no ring is thrown away before Celery's own code stumbles over it.

Celery takes a body that is JSON and not a call, like `null`, for a fault of the worker: it ends, the message is delivered again,
and so is the end of every further worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default


class Message(Protocol):
    @property
    def payload(self) -> object: ...


Handler = Callable[..., object]


def ring_strategy(task: Task, *arguments: object, **keywords: object) -> Handler:
    """Celery's own strategy, behind a look at the body.

    What it returns raises InvalidTaskError for what is no ring; Celery then rejects the message and goes on.
    """
    handle: Handler = default(task, *arguments, **keywords)

    def take(message: Message, *rest: object, **more: object) -> object:
        if not is_ring(message.payload):
            raise InvalidTaskError("the message is no ring")
        return handle(message, *rest, **more)

    return take


def is_ring(payload: object) -> bool:
    """Whether it is a call with one text: a job's id, which nobody needs to believe."""
    match payload:
        case [[str()], dict() as keywords, dict() | None]:
            return not keywords
        case _:
            return False
