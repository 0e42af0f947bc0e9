"""For a training loop of one's own."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Unpack, final

from saddlescope.callbacks.actions import Optimizer
from saddlescope.callbacks.observer import Observer, Watching
from saddlescope.client.requests import Loss

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@final
class PlainCallback:
    """Call `step(loss)` after each optimizer step; use as a context manager or call `close` at the end.

    Args:
        model, optimizer, scheduler: what is trained; the last two are for "lower_lr" alone.
        loss: what `saddlescope.export_loss` gave, or another loss that `Client.submit` takes.
        run: the name of the run.
        watching: see `saddlescope.callbacks.observer.Watching`.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        scheduler: object = None,
        *,
        loss: Loss,
        run: str,
        **watching: Unpack[Watching],
    ) -> None:
        self._model = model
        self._optimizers = () if optimizer is None else (optimizer,)
        self._schedulers = () if scheduler is None else (scheduler,)
        self.observer = Observer(loss, run, **watching)
        self._num_steps = 0

    def __enter__(self) -> PlainCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self, loss: float | Tensor, step: int | None = None) -> None:
        """Tell the loss of the step that has just been taken; steps are counted here unless given."""
        self._num_steps = self._num_steps + 1 if step is None else step
        self.observer.saw(loss)
        self.observer.at_step(self._num_steps, self._model, optimizers=self._optimizers, schedulers=self._schedulers)

    def close(self, seconds: float = 10.0) -> None:
        """Write down what is not yet sent; take this long at most."""
        self.observer.close(seconds)
