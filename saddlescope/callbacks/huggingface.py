"""For the Trainer of Hugging Face transformers, whose callbacks are known by their methods: nothing is imported of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, Unpack, final

from saddlescope.callbacks.actions import Optimizer
from saddlescope.callbacks.observer import Observer, Watching
from saddlescope.client.requests import Loss

if TYPE_CHECKING:
    from torch.nn import Module


class TrainerState(Protocol):
    """What is used of the trainer's state."""

    @property
    def global_step(self) -> int: ...


@final
class HuggingFaceCallback:
    """`Trainer(…, callbacks=[HuggingFaceCallback(loss=program, data=data, run="gpt-1")])`.

    A plateau is seen in the losses that the trainer logs, so that its window should be several `logging_steps`. Arguments
    as of PlainCallback; model, optimizer and scheduler are the trainer's.
    """

    def __init__(self, *, loss: Loss, run: str, **watching: Unpack[Watching]) -> None:
        self.observer = Observer(loss, run, **watching)
        self._last_logged = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        # Events that this callback has no use for, those of later versions among them.
        if name.startswith("on_"):
            return _ignore
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Mapping[str, object] | None = None, **_: object
    ) -> None:
        loss = (logs or {}).get("loss")
        if isinstance(loss, int | float):
            self.observer.saw(float(loss), num_steps=max(1, state.global_step - self._last_logged))
            self._last_logged = state.global_step

    def on_step_end(
        self,
        args: object,
        state: TrainerState,
        control: object,
        *,
        model: Module | None = None,
        optimizer: Optimizer | None = None,
        lr_scheduler: object = None,
        **_: object,
    ) -> None:
        if model is None:
            return
        self.observer.at_step(
            state.global_step,
            model,
            optimizers=() if optimizer is None else (optimizer,),
            schedulers=() if lr_scheduler is None else (lr_scheduler,),
        )

    def on_train_end(self, args: object, state: TrainerState, control: object, **_: object) -> None:
        self.observer.close()


def _ignore(*_: object, **__: object) -> None:
    """Nothing."""
