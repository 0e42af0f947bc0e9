"""What every callback does at a step, whatever the trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, final

from saddlescope.callbacks.actions import OnVerdict, Optimizer, Training, only_log, reaction
from saddlescope.callbacks.answers import Answer, Snapshot
from saddlescope.callbacks.asking import Asker, Question, Told
from saddlescope.callbacks.boundary import Boundary, log
from saddlescope.callbacks.occasions import Occasions, Plateau
from saddlescope.callbacks.snapshots import copy_state, is_unchanged, rank, unwrapped, world_size
from saddlescope.client.requests import Loss, RequestValues
from saddlescope.client.session import Client
from saddlescope.client.uploads import Content, prepare
from saddlescope.contract.sources import ObjectSource, PathSource

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

DEFAULT_SPOOL = Path("saddlescope-spool")


class Watching(TypedDict, total=False):
    """What every callback takes; docs/how-to/callbacks.md says what for.

    Attributes:
        data: the tensors that the loss is taken over; read once, when the callback is made.
        every: ask every so many steps.
        plateau: ask when the loss no longer falls; the default if `every` is not given.
        on_verdict: "log", "lower_lr", "escape", or a callable of the answer and the training run.
        rebase: for "escape": a closure that gives the loss here and now.
        select: the part of the trainer's model that the loss was exported from.
        url, api_key: of the service; else SADDLESCOPE_URL and SADDLESCOPE_API_KEY.
        spool: the folder where questions wait for the service.
        max_spooled: how many may wait.
        tell: called with each answer on the callback's own thread, for example to log it elsewhere.
        request: of every job, the keyword arguments of `Client.submit`: labels, queue, options of the analysis.
    """

    data: Content | None
    every: int | None
    plateau: Plateau | None
    on_verdict: OnVerdict
    rebase: Callable[[], float] | None
    select: Callable[[Module], Module]
    url: str | None
    api_key: str | None
    spool: Path | str
    max_spooled: int
    tell: Sequence[Told]
    request: RequestValues


@final
class Observer:
    """Watches one training run. Made before it, used on the thread that trains, and closed after it.

    Raises:
        ValueError, TypeError: on a wrong argument; once made, nothing is raised.
    """

    def __init__(self, loss: Loss, run: str, **watching: Unpack[Watching]) -> None:
        unknown = watching.keys() - Watching.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"unknown arguments: {', '.join(sorted(unknown))}; there are {', '.join(Watching.__annotations__)}"
            )
        every, plateau = watching.get("every"), watching.get("plateau")
        self._occasions = Occasions(every=every, plateau=Plateau() if every is None and plateau is None else plateau)
        self._react = reaction(watching.get("on_verdict", "log"), watching.get("rebase"))
        self._select = watching.get("select") or unwrapped
        self._asker = Asker(
            Client(
                watching.get("url"),
                watching.get("api_key"),
                timeout=10.0,
                retries=1,
                spool=watching.get("spool", DEFAULT_SPOOL),
                progress=False,
            ),
            Question(
                loss, _frozen(watching.get("data")), run, watching.get("request", {}), watching.get("max_spooled", 16)
            ),
            watching.get("tell", ()),
        )
        self._boundary = Boundary("the callback")
        self._is_watching: bool | None = None

    @property
    def num_dropped(self) -> int:
        """How many questions were left out because earlier ones still waited."""
        return self._asker.num_dropped

    @property
    def num_failures(self) -> int:
        """How often the callback failed on the training thread."""
        return self._boundary.num_failures

    def saw(self, loss: float | Tensor, *, num_steps: int = 1) -> None:
        """Take in a training loss."""
        with self._boundary:
            self._occasions.saw(loss, num_steps=num_steps)

    def at_step(
        self, step: int, model: Module, *, optimizers: Sequence[Optimizer] = (), schedulers: Sequence[object] = ()
    ) -> None:
        """Act on answers that have come, and ask if it is time; call between two steps, in every process."""
        with self._boundary:
            if not self._watches():
                return
            while self._asker.answers:
                self._act(self._asker.answers.popleft(), step, model, optimizers, schedulers)
            if self._occasions.is_due(step):
                self._ask(step, model)

    def close(self, seconds: float = 10.0) -> None:
        """Write down what is not yet sent; take this long at most."""
        with self._boundary:
            self._asker.close(seconds)

    def _watches(self) -> bool:
        """Whether this is the process that asks: the first of those that train together."""
        if self._is_watching is None:
            # Only now: trainers make their process groups after their callbacks.
            self._is_watching = rank() == 0
            if self._is_watching:
                self._asker.start()
                if self._react is not only_log and world_size() > 1:
                    # To change one process and not the others would make them train different models.
                    log.warning("%d processes train together: answers are logged, and not acted on", world_size())
                    self._react = only_log
        return self._is_watching

    def _ask(self, step: int, model: Module) -> None:
        if not self._asker.has_room():
            self._asker.drop(step)
            return
        tensors = copy_state(self._select(model))
        seen = self._occasions.last_loss
        loss = math.nan if seen is None else float(seen)
        # Only a number: JSON has no word for what a run that diverges reports.
        self._asker.ask(Snapshot(step, tensors, loss if math.isfinite(loss) else None))

    def _act(
        self, answer: Answer, step: int, model: Module, optimizers: Sequence[Optimizer], schedulers: Sequence[object]
    ) -> None:
        selected = self._select(model)
        is_at_snapshot = partial(is_unchanged, selected, answer.fingerprint)
        self._react(answer, Training(selected, tuple(optimizers), tuple(schedulers), step, is_at_snapshot))


def _frozen(data: Content | None) -> Content | None:
    """Tensors as bytes: what the trainer does to them afterwards does not reach the questions."""
    if data is None or isinstance(data, bytes | str | Path | PathSource | ObjectSource):
        return data
    _, upload = prepare(data, what="data")
    return data if upload is None else b"".join(upload.body.chunks())
